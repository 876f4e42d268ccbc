/* The lock file of MkdirFileLock: a directory, with the owner's unique file in it. How it is
 * judged, removed and broken; how it is made: mkdir_claim.c. */
#include "mechanisms/files/mkdir.h"

#include "mechanisms/files/readers.h"
#include "mechanisms/files/search.h"
#include "mechanisms/files/shape.h"
#include "mechanisms/files/unique.h"

#include <errno.h>
#include <string.h>

/* Is it a claim's unique file? A user may have called his own so. */
static int
check_claim(const struct os_file *inside, const char *text)
{
    struct name name;
    struct os_status status;
    int error = os_status_at(inside, text, &status);
    if (error != 0) {
        return error;
    }
    bool is_empty_file = status.kind == OS_REGULAR && status.size == 0;
    return is_empty_file && status.stamped && proof_read_name(text, &name) ? 0 : ENOTEMPTY;
}

/* EAGAIN: nothing is, for all that one can see. ENOENT: another is at home there, which between
 * making a directory and opening it by its name had that broken, and opened ours. More than one
 * such, if they die, are nobody's: that is told. */
static int
see_what_is_left(const struct os_file *inside)
{
    char name[NAME_SIZE];
    int error = search_inside(inside, name);
    if (error == 0) {
        error = check_claim(inside, name);
        return error == 0 ? ENOENT : os_is_absent(error) ? EAGAIN : ENOTEMPTY;
    }
    return error == ENOENT ? EAGAIN : ENOTEMPTY;
}

int
mkdir_remove_emptied(const struct os_file *directory, const char *file,
                     const struct os_file *inside)
{
    int error = entry_check(directory, file, inside->inode);
    if (error == 0) {
        error = os_remove_directory(directory, file);
    }
    return error == ENOTEMPTY ? see_what_is_left(inside)
           : error == ENOTDIR ? ENOENT /* another has removed it since, and a third one claimed */
                              : error;
}

/* ---- Judge ---- */

static enum outcome
judge_foreign(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    int error = entry_check(&place->directory, attempt->lock->file, place->found.inode);
    if (error == ENOENT) {
        return LOCK_FREE; /* removed while we looked into it, so it seemed empty */
    }
    os_close(&place->found); /* the removal of one that is open makes no event */
    return judge_held(attempt, LIFE_UNKNOWN, "its lock file is a directory that another made");
}

static enum outcome
cannot_look_inside(struct attempt *attempt, int error)
{
    if (error == ENOENT) {
        return LOCK_FREE; /* released meanwhile */
    }
    if (os_is_forbidden(error)) {
        attempt->report.error = error;
        return judge_held(attempt, LIFE_UNKNOWN, "its lock file cannot be looked at");
    }
    if (os_is_link(error) || os_is_special(error)) {
        return judge_foreign(attempt);
    }
    if (os_is_refused(error)) {
        return judge_held(attempt, LIFE_UNKNOWN, "another program has its lock file to itself");
    }
    return judge_failed(&attempt->report, error, "look into the lock directory");
}

static enum outcome
mkdir_judge(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    struct os_status status;
    struct name name;
    int error = search_inside(&place->found, place->found_name);
    if (error == ENOENT || error == ENOTEMPTY ||
        (error == 0 && !proof_read_name(place->found_name, &name))) {
        return judge_foreign(attempt);
    }
    if (error == 0) {
        error = os_open_inside(&place->found, place->found_name, OS_READ, &place->beacon, &status);
    }
    if (error != 0) {
        return cannot_look_inside(attempt, error);
    }
    if (status.kind != OS_REGULAR) {
        return judge_foreign(attempt);
    }
    attempt->report.holder.known = true;
    attempt->report.holder.name = name;
    enum outcome outcome = place_look_at_beacon(attempt, &place->beacon);
    return outcome == LOCK_STALE ? judge_by_name(attempt, place->found_name) : outcome;
}

/* ---- Break and release ---- */

static int
mkdir_take_beacon(struct attempt *attempt, struct os_file **beacon)
{
    struct files_place *place = place_of(attempt);
    *beacon = &place->beacon;
    if (!attempt->ground.local) {
        struct os_inode inode = place->beacon.inode;
        os_close(&place->beacon);
        int error = unique_open_beacon(&place->found, place->found_name, inode, os_open_inside,
                                       &place->beacon);
        if (error != 0) {
            return error;
        }
    }
    return unique_take_beacon(&place->beacon);
}

/* To the owner's name, or under another of this process: killed right after, we leave
 * what the next sweep finds. owner NULL: it has none. */
static int
rename_aside(const struct os_file *directory, const char *file, const char *owner,
             char aside[NAME_SIZE])
{
    char host[OS_HOST_SIZE] = "";
    struct unique_want want = {directory, host, owner_calling(false), {.local = false}, file, NULL};
    int error = EEXIST;
    if (owner != NULL) {
        memcpy(aside, owner, strlen(owner) + 1);
        error = os_rename(directory, file, aside);
    }
    if (error == EEXIST) {
        os_host_name(host);
    }
    for (unsigned i = 0; error == EEXIST && i < UNIQUE_ATTEMPTS; i++) {
        if (unique_try_name(&want, i, aside)) {
            error = os_rename(directory, file, aside);
        }
    }
    return error;
}

/* In another user's directory only the renaming may be allowed. What is left then is
 * in nobody's way. And once it is empty, another may have reaped it and taken the name. */
static int
tolerate_leftover(int error)
{
    bool left = os_is_forbidden(error) || os_is_refused(error) || error == ENOTEMPTY;
    return left || error == ENOENT || error == ENOTDIR ? 0 : error;
}

/* What is gone already, is another's to have removed. */
static int
finish(const struct os_file *directory, const char *file, const struct os_file *inside)
{
    int error = mkdir_remove_emptied(directory, file, inside);
    return error == ENOENT ? 0 : error;
}

/* Another of those who keep the lock may have given it another name just now. */
static int
remove_inside(const struct os_file *inside, const char *unique_name, struct os_inode inode,
              entry_remover *remove_unique)
{
    char name[NAME_SIZE];
    int error = remove_unique(inside, unique_name, inode);
    bool is_renamed = error == ENOENT && search_inside(inside, name) == 0;
    return is_renamed ? remove_unique(inside, name, inode) : error;
}

/* Only the one who removed the unique file removes the directory: others may be at it
 * too, and by then it may be another's. */
static int
remove_in_place(const struct os_file *directory, const char *file, const struct os_file *inside,
                const char *unique_name, struct os_file *beacon, entry_remover *remove_unique,
                bool *freed)
{
    bool ours = remove_unique == entry_remove || /* and still lit */
                entry_check(inside, unique_name, beacon->inode) == 0;
    int error = remove_inside(inside, unique_name, beacon->inode, remove_unique);
    if (error == ENOENT && ours) { /* by a removal whose reply was lost? */
        error = entry_check(inside, unique_name, beacon->inode) == ENOENT ? 0 : ENOENT;
    }
    if (error != 0) {
        return error;
    }
    *freed = true;
    os_flock(beacon, OS_UNLOCK);
    os_close(beacon);
    return finish(directory, file, inside);
}

/* The new name is what is refused, for want of room or as too long: what is there can be removed
 * all the same. */
static bool
cannot_be_renamed(int error)
{
    return os_rename_is_unsupported(error) || os_is_full(error) || error == ENAMETOOLONG;
}

/* Needs no further descriptor: a process that has none left can release. */
static int
mkdir_remove(const struct os_file *directory, const char *file, const struct os_file *inside,
             const char *unique_name, struct os_file *beacon, entry_remover *remove_unique,
             bool *freed)
{
    char aside[NAME_SIZE];
    int error = rename_aside(directory, file, unique_name, aside);
    if (cannot_be_renamed(error)) {
        return remove_in_place(directory, file, inside, unique_name, beacon, remove_unique, freed);
    }
    if (error != 0) {
        return error;
    }
    *freed = true;
    struct os_file followed;
    error = os_follow(directory, aside, inside, &followed);
    if (error == 0) {
        error = remove_inside(&followed, unique_name, beacon->inode, remove_unique);
        os_end_following(&followed);
    }
    if (tolerate_leftover(error) == 0) {
        error = os_remove_directory(directory, aside);
    }
    return tolerate_leftover(error);
}

/* Nothing has pinned the directory's number since its descriptor went: it is still ours if
 * our own unique file is in it. */
static int
reopen_inside(struct files_claim *claim)
{
    const struct claim *base = &claim->claim;
    char name[NAME_SIZE];
    struct os_file inside;
    struct os_status status;
    int error = os_open(&claim->directory, base->file, OS_READ, &inside, &status);
    if (error != 0) {
        return error;
    }
    error = os_same(status.inode, claim->inode) ? place_find_unique(claim, &inside, name) : ENOENT;
    if (error != 0) {
        os_close(&inside);
        return error;
    }
    table_replace(&claim->inside, inside);
    return 0;
}

static int
mkdir_mend(struct files_claim *claim)
{
    int error = os_is_open(&claim->inside) ? 0 : reopen_inside(claim);
    if (error != 0) {
        return error;
    }
    return claim->is_lit_shared ? readers_mend(claim, &claim->inside)
                                : place_mend_beacon(claim, &claim->inside);
}

/* ---- Inheritance ---- */

/* Nobody else makes names in the lock directory. */
static int
rename_inside(const struct os_file *inside, const char *from, const char *to)
{
    int error = os_rename(inside, from, to);
    return os_rename_is_unsupported(error) ? os_move(inside, from, to) : error;
}

/* At one go: a lock directory with two files in it is nobody's. */
static void
mkdir_adopt(struct files_claim *claim)
{
    char name[NAME_SIZE], found[NAME_SIZE];
    const struct claim *base = &claim->claim;
    if (place_find_unique(claim, &claim->inside, found) == 0 &&
        unique_rename(&claim->inside, base->file, base->owner, found, base->unique_name,
                      rename_inside, name) == 0) {
        table_rename(&claim->claim, name);
    }
}

/* ---- break_lock() ---- */

struct clearing {
    const struct os_file *inside;
    bool remove; /* or only see whether all is as a lock has it: empty files */
    int error;
};

static bool
visit_to_clear(void *context, const char *text)
{
    struct clearing *clearing = context;
    struct os_status status;
    if (text[0] == '.' && (text[1] == '\0' || (text[1] == '.' && text[2] == '\0'))) {
        return true;
    }
    int error = os_status_at(clearing->inside, text, &status);
    if (error == 0 && (status.kind != OS_REGULAR || status.size != 0)) {
        error = ENOTEMPTY;
    }
    if (error == 0 && clearing->remove) {
        error = os_unlink(clearing->inside, text);
    }
    /* EBUSY: a network client keeps it, since it is open */
    clearing->error = error == ENOENT || error == EBUSY ? 0 : error;
    return clearing->error == 0;
}

static int
clear(const struct os_file *inside, bool remove)
{
    struct clearing clearing = {.inside = inside, .remove = remove};
    int error = os_list(inside, visit_to_clear, &clearing);
    return error != 0 ? error : clearing.error;
}

/* A rename where the file system cannot promise to replace nothing. It might replace an
 * empty directory named after this process, which is no lock; who just makes one starts over. */
static int
move_aside(const struct os_file *directory, const char *file, char aside[NAME_SIZE])
{
    char host[OS_HOST_SIZE];
    struct unique_want want = {directory, host, owner_calling(false), {.local = false}, file, NULL};
    int error = proof_find_ground(directory, &want.ground);
    if (error != 0) {
        return error;
    }
    os_host_name(host);
    error = EEXIST;
    for (unsigned i = 0; i < UNIQUE_ATTEMPTS; i++) {
        if (unique_try_name(&want, i, aside)) {
            error = os_move(directory, file, aside);
        }
        if (error != EEXIST && error != ENOTEMPTY && error != ENOTDIR) {
            break;
        }
    }
    return error;
}

static int
remove_condemned(const struct os_file *directory, const char *file, const struct os_file *inside,
                 const struct os_status *status)
{
    char aside[NAME_SIZE];
    int error = rename_aside(directory, file, NULL, aside);
    if (os_rename_is_unsupported(error)) {
        error = move_aside(directory, file, aside);
    }
    bool in_place = cannot_be_renamed(error);
    if (error != 0 && !in_place) {
        return error;
    }
    if (!in_place && status->user == os_user()) {
        os_stamp(inside, status); /* killed from here on, we leave what a sweep finds */
    }
    struct os_file followed;
    error = os_follow(directory, in_place ? file : aside, inside, &followed);
    if (error == 0) {
        error = clear(&followed, true);
        os_end_following(&followed);
    }
    if (error == 0) {
        error = in_place ? mkdir_remove_emptied(directory, file, inside)
                         : os_remove_directory(directory, aside);
    }
    return in_place ? error : tolerate_leftover(error);
}

/* A directory with anything but empty files in it is no lock, and is left alone. */
static int
mkdir_condemn(const struct os_file *directory, const char *file, struct os_file *emptied)
{
    struct os_file inside;
    struct os_status status;
    int error = os_open(directory, file, OS_READ, &inside, &status);
    if (error != 0) {
        return error;
    }
    error = clear(&inside, false);
    if (error == 0) {
        error = remove_condemned(directory, file, &inside, &status);
    }
    if (error == EAGAIN) {
        os_close(emptied);
        *emptied = inside;
    } else {
        os_close(&inside);
    }
    return error;
}

static int
mkdir_check(const struct os_file *directory, const char *file, struct os_inode inode,
            const char *unique_name, bool local)
{
    (void)unique_name;
    return entry_check_afresh(directory, file, inode, local);
}

const struct shape mkdir_shape = {
    .check = mkdir_check,
    .judge = mkdir_judge,
    .take_beacon = mkdir_take_beacon,
    .remove = mkdir_remove,
    .finish = finish,
    .mend = mkdir_mend,
    .adopt = mkdir_adopt,
    .condemn = mkdir_condemn,
};
