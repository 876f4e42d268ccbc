/* The lock file of MkdirFileLock: a directory, with the owner's unique file in it.
 *
 * It is made under the owner's own name and then renamed to the lock file's, if that
 * is free: so a lock directory of ours is never seen without its unique file. Where
 * the file system cannot promise to replace nothing (it might swallow an empty
 * directory, which is somebody's plain mkdir lock), the lock file is made by mkdir,
 * and is ours once nothing but our own file is in it. */
#include "mechanisms/files/place.h"

#include <errno.h>
#include <string.h>

/* ---- Claim ---- */

/* Makes the directory and the unique file in it, both under the first name that is
 * free, and lights the beacon. What is refused or vanishes meanwhile is left to whoever
 * looks at it, or has swept it away. */
static int
make(struct attempt *attempt, struct owned *claim)
{
    const struct os_file *directory = &attempt->directory;
    struct os_file *inside = &claim->inside;
    const char *host = attempt->lock->host;
    char *name = claim->unique_name;
    struct owner_ground ground = attempt->ground;
    for (unsigned i = 0; i < OWNER_ATTEMPTS; i++) {
        if (!owner_try_name(i, directory, host, attempt->owner, ground.kernel, name)) {
            continue;
        }
        int error = os_make_directory(directory, name, inside);
        if (error == EEXIST && owner_reap(directory, name, ground)) {
            error = os_make_directory(directory, name, inside);
        }
        if (error == EEXIST) {
            continue;
        }
        if (error != 0) {
            return error;
        }
        error = os_create(inside, name, &claim->beacon);
        if (error == 0) {
            error = owner_light(inside, ground, &claim->beacon, name);
        }
        if (error == 0) {
            error = owner_check(directory, name, inside->inode);
        }
        if (error == 0) {
            return 0;
        }
        os_close(&claim->beacon);
        if (error != EWOULDBLOCK && error != ENOENT && error != EEXIST) {
            os_unlink(inside, name);
            os_remove_directory(directory, name);
        }
        os_close(inside);
        if (!owner_gives_up_proof(&ground, error) && error != EWOULDBLOCK && error != ENOENT &&
            error != EEXIST) {
            return error;
        }
    }
    return EEXIST;
}

static int
check_published(const struct attempt *attempt, const struct owned *claim)
{
    return owner_check_afresh(&attempt->directory, claim->file, claim->inode,
                              attempt->ground.local);
}

/* Believes the directory rather than the answer, as for a link. */
static int
publish(struct attempt *attempt, const struct owned *claim)
{
    const struct os_file *directory = &attempt->directory;
    int refused = os_rename(directory, claim->unique_name, claim->file);
    if (refused == 0) {
        return 0;
    }
    int error = check_published(attempt, claim);
    return error == ENOENT ? refused : error;
}

static void
withdraw(struct attempt *attempt, struct owned *claim)
{
    const struct os_file *directory = &attempt->directory;
    if (check_published(attempt, claim) == ENOENT &&
        owner_check(directory, claim->unique_name, claim->inode) == 0) {
        owner_remove(&claim->inside, claim->unique_name, claim->beacon.inode);
        os_close(&claim->beacon); /* a network client keeps what is open under another name */
        os_remove_directory(directory, claim->unique_name);
    }
    table_drop(claim);
}

/* Nothing in the lock file but our own unique file? By its name: what we have open
 * may have been removed, and a removed directory lists as empty. */
static bool
is_all_ours(const struct os_file *directory, const struct owned *claim)
{
    struct os_file inside;
    struct os_status status;
    char name[OWNER_NAME_SIZE];
    if (os_open(directory, claim->file, OS_READ, &inside, &status) != 0) {
        return false;
    }
    bool ours = os_same(status.inode, claim->inode) && owner_find_inside(&inside, name) == 0 &&
                owner_check(&inside, claim->unique_name, claim->beacon.inode) == 0;
    os_close(&inside);
    return ours;
}

/* A network client keeps what is open under another name, in the directory: for as long
 * as others on this machine look at it, that is, which is not long. */
static int
remove_emptied(const struct os_file *directory, const char *file, const struct os_file *inside)
{
    char name[OWNER_NAME_SIZE];
    int64_t limit = os_now() + PLACE_PATIENCE;
    int error;
    while ((error = owner_check(directory, file, inside->inode)) == 0 &&
           (error = os_remove_directory(directory, file)) == ENOTEMPTY && os_now() < limit &&
           owner_find_inside(inside, name) == ENOENT) {
        os_pause(PLACE_PATIENT_PAUSE);
    }
    return error;
}

static void
back_off(const struct os_file *directory, struct owned *claim)
{
    if (claim->beacon.descriptor >= 0) {
        owner_remove(&claim->inside, claim->unique_name, claim->beacon.inode);
    }
    os_close(&claim->beacon);
    remove_emptied(directory, claim->file, &claim->inside);
    table_drop(claim);
}

static enum outcome
claim_in_place(struct attempt *attempt, struct owned *claim)
{
    const struct os_file *directory = &attempt->directory;
    int error = os_make_directory(directory, claim->file, &claim->inside);
    if (error != 0) {
        table_drop(claim);
        place_fail(&attempt->report, error, "make the lock directory");
        return error == EEXIST ? LOCK_HELD : error == ENOENT ? LOCK_FREE : LOCK_FAILED;
    }
    error = owner_create(&claim->inside, attempt->ground, attempt->lock->host, attempt->owner,
                         &claim->beacon, claim->unique_name);
    if (error == 0 && !place_enter(attempt, claim, claim->inside.inode)) {
        error = ECANCELED;
    }
    if (error == 0 && is_all_ours(directory, claim)) {
        return place_own(attempt, claim);
    }
    back_off(directory, claim);
    place_fail(&attempt->report, error, "create the unique file");
    return error == 0 || error == ENOENT || error == EEXIST ? LOCK_HELD : LOCK_FAILED;
}

enum outcome
mkdir_claim(struct attempt *attempt)
{
    const struct lock *lock = attempt->lock;
    struct owned *claim = table_new(lock->mechanism, attempt->owner, lock_name(lock), "");
    if (claim == NULL) {
        return place_fail(&attempt->report, ENOMEM, "allocate");
    }
    int error = make(attempt, claim);
    if (error != 0) {
        table_drop(claim);
        place_fail(&attempt->report, error, "make the lock directory");
        return error == ENOENT ? LOCK_FREE : LOCK_FAILED;
    }
    error = place_enter(attempt, claim, claim->inside.inode) ? publish(attempt, claim) : ECANCELED;
    if (error == 0) {
        return place_own(attempt, claim);
    }
    withdraw(attempt, claim);
    if (os_rename_is_unsupported(error)) {
        claim = table_new(lock->mechanism, attempt->owner, lock_name(lock), "");
        return claim != NULL ? claim_in_place(attempt, claim)
                             : place_fail(&attempt->report, ENOMEM, "allocate");
    }
    place_fail(&attempt->report, error, "rename the lock directory");
    return error == EEXIST ? LOCK_HELD : error == ENOENT ? LOCK_FREE : LOCK_FAILED;
}

/* ---- Judge ---- */

static enum outcome
judge_foreign(struct attempt *attempt)
{
    int error = owner_check(&attempt->directory, attempt->lock->file, attempt->found.inode);
    if (error == ENOENT) {
        return LOCK_FREE; /* removed while we looked into it, so it seemed empty */
    }
    os_close(&attempt->found); /* the removal of one that is open makes no event */
    return place_hold(attempt, LIFE_UNKNOWN, "its lock file is a directory that another made");
}

static enum outcome
mkdir_judge(struct attempt *attempt)
{
    struct os_status status;
    struct owner_name name;
    int error = owner_find_inside(&attempt->found, attempt->found_name);
    if (error == ENOENT || error == ENOTEMPTY ||
        (error == 0 && !owner_parse(attempt->found_name, &name))) {
        return judge_foreign(attempt);
    }
    if (error == 0) {
        error = os_open(&attempt->found, attempt->found_name, OS_READ, &attempt->beacon, &status);
    }
    switch (error) {
    case 0:
        break;
    case ENOENT:
        return LOCK_FREE; /* released meanwhile */
    case EACCES:
    case EPERM:
        attempt->report.error = error;
        return place_hold(attempt, LIFE_UNKNOWN, "its lock file cannot be looked at");
    case ELOOP:
    case ENXIO:
        return judge_foreign(attempt);
    default:
        return place_fail(&attempt->report, error, "look into the lock directory");
    }
    if (status.kind != OS_REGULAR) {
        return judge_foreign(attempt);
    }
    attempt->report.holder.known = true;
    attempt->report.holder.name = name;
    enum outcome outcome = place_look_at_beacon(attempt, &attempt->beacon);
    return outcome == LOCK_STALE ? place_judge_name(attempt) : outcome;
}

/* ---- Break and release ---- */

static int
mkdir_take_beacon(struct attempt *attempt, struct os_file **beacon)
{
    *beacon = &attempt->beacon;
    if (!attempt->ground.local) {
        struct os_inode inode = attempt->beacon.inode;
        os_close(&attempt->beacon);
        int error =
            place_open_beacon(&attempt->found, attempt->found_name, inode, &attempt->beacon);
        if (error != 0) {
            return error;
        }
    }
    return owner_take_beacon(&attempt->beacon);
}

/* To the owner's name, or under another of this process: killed right after, we leave
 * what the next sweep finds. owner NULL: it has none. */
static int
rename_aside(const struct os_file *directory, const char *file, const char *owner,
             char aside[OWNER_NAME_SIZE])
{
    char host[OS_HOST_SIZE];
    int error = EEXIST;
    if (owner != NULL) {
        memcpy(aside, owner, strlen(owner) + 1);
        error = os_rename(directory, file, aside);
    }
    if (error == EEXIST) {
        owner_host(host);
    }
    for (unsigned i = 0; error == EEXIST && i < OWNER_ATTEMPTS; i++) {
        if (owner_try_name(i, directory, host, owner_caller(false), 0, aside)) {
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
    bool left = error == EPERM || error == EACCES || error == ENOTEMPTY;
    return left || error == ENOENT || error == ENOTDIR ? 0 : error;
}

/* Only the one who removed the unique file removes the directory: others may be at it
 * too, and by then it may be another's. */
static int
remove_in_place(const struct os_file *directory, const char *file, const struct os_file *inside,
                const char *unique_name, struct os_file *beacon, remover *remove_unique,
                bool *freed)
{
    bool ours = remove_unique == owner_remove || /* and still lit */
                owner_check(inside, unique_name, beacon->inode) == 0;
    int error = remove_unique(inside, unique_name, beacon->inode);
    if (error == ENOENT && ours) { /* by a removal whose reply was lost? */
        error = owner_check(inside, unique_name, beacon->inode) == ENOENT ? 0 : ENOENT;
    }
    if (error != 0) {
        return error;
    }
    *freed = true;
    os_flock(beacon, OS_UNLOCK);
    os_close(beacon);
    error = remove_emptied(directory, file, inside);
    return error == ENOENT ? 0 : error;
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
             const char *unique_name, struct os_file *beacon, remover *remove_unique, bool *freed)
{
    char aside[OWNER_NAME_SIZE];
    int error = rename_aside(directory, file, unique_name, aside);
    if (cannot_be_renamed(error)) {
        return remove_in_place(directory, file, inside, unique_name, beacon, remove_unique, freed);
    }
    if (error != 0) {
        return error;
    }
    *freed = true;
    error = remove_unique(inside, unique_name, beacon->inode);
    if (tolerate_leftover(error) == 0) {
        error = os_remove_directory(directory, aside);
    }
    return tolerate_leftover(error);
}

/* Nothing has pinned the directory's number since its descriptor went: it is still ours if
 * our own unique file is in it. */
static int
reopen_inside(struct owned *owned)
{
    struct os_file inside;
    struct os_status status;
    int error = os_open(&owned->directory, owned->file, OS_READ, &inside, &status);
    if (error != 0) {
        return error;
    }
    error = os_same(status.inode, owned->inode)
                ? owner_check(&inside, owned->unique_name, owned->beacon.inode)
                : ENOENT;
    if (error != 0) {
        os_close(&inside);
        return error;
    }
    table_replace(&owned->inside, inside);
    return 0;
}

static int
mkdir_mend(struct owned *owned)
{
    int error = os_is_open(&owned->inside) ? 0 : reopen_inside(owned);
    if (error == 0 && !os_is_open(&owned->beacon)) {
        error = place_relight(owned, &owned->inside);
    }
    return error;
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
move_aside(const struct os_file *directory, const char *file, char aside[OWNER_NAME_SIZE])
{
    char host[OS_HOST_SIZE];
    struct owner_ground ground;
    int error = owner_ground(directory, &ground);
    if (error != 0) {
        return error;
    }
    owner_host(host);
    error = EEXIST;
    for (unsigned i = 0; i < OWNER_ATTEMPTS; i++) {
        if (owner_try_name(i, directory, host, owner_caller(false), ground.kernel, aside)) {
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
    char aside[OWNER_NAME_SIZE];
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
    error = clear(inside, true);
    if (error == 0) {
        error = in_place ? remove_emptied(directory, file, inside)
                         : os_remove_directory(directory, aside);
    }
    return in_place ? error : tolerate_leftover(error);
}

/* A directory with anything but empty files in it is no lock, and is left alone. */
static int
mkdir_condemn(const struct os_file *directory, const char *file)
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
    os_close(&inside);
    return error;
}

const struct shape mkdir_shape = {
    .judge = mkdir_judge,
    .take_beacon = mkdir_take_beacon,
    .remove = mkdir_remove,
    .mend = mkdir_mend,
    .condemn = mkdir_condemn,
};
