#include "mechanisms/files/place.h"

#include "mechanisms/files/entry.h"
#include "mechanisms/files/search.h"
#include "mechanisms/files/target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_ATTEMPTS 100

/* How long to wait for what others do in a moment, and between two tries. */
#define PATIENCE OS_SECOND
#define PATIENT_PAUSE (OS_MILLISECOND / 2)

bool
place_is_patient(struct attempt *attempt, int error)
{
    return (os_is_refused(error) || error == EAGAIN) &&
           attempt_is_patient(attempt, PATIENCE, PATIENT_PAUSE);
}

/* ---- What is there ---- */

void
place_begin(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    place->directory = OS_NO_FILE;
    place->found = OS_NO_FILE;
    place->beacon = OS_NO_FILE;
}

void
place_leave_to_parent(struct attempt *attempt)
{
    attempt->place = (union place){.bytes = {0}};
    place_begin(attempt);
}

void
place_close(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    os_close(&place->beacon);
    os_close(&place->found);
    os_close(&place->directory);
}

/* Is it still what its path names, so that opening it anew would tell nothing new? A network
 * file system may answer that from what it remembers. */
static bool
is_still_there(struct attempt *attempt)
{
    struct os_status status;
    const struct os_file *directory = &place_of(attempt)->directory;
    return attempt->ground.local && os_is_open(directory) &&
           os_status_of(attempt->lock->directory, &status) == 0 &&
           os_same(status.inode, directory->inode);
}

int
place_open(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    bool is_busy = place->is_emptied || place->is_condemning || place->backing_off != NULL;
    if (is_busy && os_is_open(&place->directory)) {
        return 0; /* it has something to do here yet */
    }
    place->is_emptied = false; /* or it was lost, with the marks on it */
    place->is_condemning = false;
    os_close(&place->beacon);
    os_close(&place->found);
    if (is_still_there(attempt)) {
        return 0;
    }
    os_close(&place->directory);
    int error = os_open_directory(attempt->lock->directory, &place->directory);
    return error != 0 ? error : proof_find_ground(&place->directory, &attempt->ground);
}

static enum outcome
cannot_open(struct attempt *attempt, int error)
{
    if (os_is_absent(error) && error != ENOTDIR) {
        return LOCK_FREE;
    }
    if (os_is_link(error)) {
        return judge_held(attempt, LIFE_UNKNOWN,
                          "its lock file is a symbolic link, made by no lock");
    }
    if (os_is_special(error)) {
        return judge_held(attempt, LIFE_UNKNOWN,
                          "its lock file is a socket or device, made by no lock");
    }
    if (os_is_refused(error)) { /* a lease, which a server may have given to a client of its own */
        return judge_held(attempt, LIFE_UNKNOWN, "its lock file is leased by another program");
    }
    if (os_is_forbidden(error)) {
        attempt->report.error = error;
        return judge_held(attempt, LIFE_UNKNOWN, "its lock file cannot be looked at");
    }
    return judge_failed(&attempt->report, error, "open the lock file");
}

/* The path of what is watched: the lock file, or what stands for it. */
static const char *
watched_path(struct attempt *attempt, const struct os_status *status, char path[OS_PATH_SIZE])
{
    const struct lock *lock = attempt->lock;
    if (status->kind != OS_LINK) {
        return lock->lock_file;
    }
    snprintf(path, OS_PATH_SIZE, "%s%s", lock->directory, place_of(attempt)->found_name);
    return path;
}

/* Lets the owner and the others know that it waits, and watches, unless others do. */
static void
wait_for_found(struct attempt *attempt, const struct os_status *status)
{
    struct waiter *wait = &attempt->wait;
    struct files_place *place = place_of(attempt);
    struct identity claim = place_identity(&place->directory, status->inode);
    char path[OS_PATH_SIZE];
    bool may_join =
        attempt->shares && !attempt->cannot_join; /* else others are to give way to it */
    wait_meet(wait, claim);
    if (attempt->ground.local && wait_in_queue(wait, &place->found, OS_FILE_QUEUE, may_join)) {
        wait_watch(wait, watched_path(attempt, status, path), status->kind, claim);
    }
}

/* What stands for it, where it is a symbolic link; its kind tells. */
static int
open_found(struct attempt *attempt, struct os_status *status)
{
    const char *file = attempt->lock->file;
    struct files_place *place = place_of(attempt);
    int error = os_open(&place->directory, file, OS_READ, &place->found, status);
    if (!os_is_link(error)) {
        return error;
    }
    error = target_open(&place->directory, file, &place->found, status, place->found_name);
    status->kind = OS_LINK;
    return error;
}

static int
check_found(struct attempt *attempt, const struct os_status *status)
{
    const char *file = attempt->lock->file;
    struct files_place *place = place_of(attempt);
    return status->kind == OS_LINK
               ? target_check(&place->directory, file, place->found.inode, place->found_name, true)
               : entry_check(&place->directory, file, place->found.inode);
}

/* Opens the lock file, watches it, and makes sure that the path still names what
 * was opened: from then on no change goes unnoticed. */
static int
open_lock_file(struct attempt *attempt, bool will_wait, struct os_status *status)
{
    struct files_place *place = place_of(attempt);
    int error = ENOENT;
    for (int i = 0; error == ENOENT && i < LOOK_ATTEMPTS; i++) {
        os_close(&place->beacon); /* a round may look more than once */
        os_close(&place->found);
        error = open_found(attempt, status);
        if (error != 0) {
            return error;
        }
        attempt->found = place_identity(&place->directory, place->found.inode);
        if (will_wait) {
            wait_for_found(attempt, status);
        }
        error = check_found(attempt, status);
    }
    return error;
}

enum outcome
place_find(struct attempt *attempt, bool will_wait, struct os_status *status)
{
    attempt->report = (struct report){0};
    int error = open_lock_file(attempt, will_wait, status);
    return error == 0 ? LOCK_FOUND : cannot_open(attempt, error);
}

/* A look at a symbolic link of ours sees the file that it leads to. */
static void
follow(const struct os_file *directory, const char *file, struct os_identity *identity)
{
    char name[NAME_SIZE];
    struct os_identity target;
    if (target_read(directory, file, name) == 0 && os_identify(directory, name, &target) == 0) {
        *identity = target;
    }
}

int
place_identify(const struct os_file *directory, const char *file, struct identity *identity)
{
    struct os_identity there;
    int error = os_identify(directory, file, &there);
    if (error != 0) {
        return error;
    }
    if (there.is_link) {
        follow(directory, file, &there);
    }
    *identity = place_identity(directory, there.inode);
    identity->born = there.born;
    return 0;
}

struct identity
place_recognise(struct attempt *attempt)
{
    struct identity identity;
    int error = place_identify(&place_of(attempt)->directory, attempt->lock->file, &identity);
    return error == 0 ? identity : (struct identity){.born = 0};
}

enum outcome
place_look_at_beacon(struct attempt *attempt, const struct os_file *file)
{
    int error = os_flock(file, OS_SHARED);
    if (os_is_refused(error)) {
        /* The last reader on its way out is no writer, to who would share the lock. */
        attempt->report.holder.is_shared = attempt_may_join(attempt) && attempt->ground.local &&
                                           os_is_refused(os_find_reader(file));
        return judge_held(attempt, LIFE_ALIVE, NULL);
    }
    if (error != 0) {
        return os_flock_is_unsupported(error)
                   ? judge_held(attempt, LIFE_UNKNOWN, "this file system has no locks to tell by")
                   : judge_failed(&attempt->report, error, "look at the lock file");
    }
    bool is_shared = os_can_share && attempt->ground.local && os_is_refused(os_find_reader(file));
    /* Said outright: a fork may have copied the descriptor, which would keep it. */
    os_flock(file, OS_UNLOCK);
    return is_shared ? judge_shared(attempt) : LOCK_STALE;
}

/* ---- A claim's place ---- */

struct files_claim *
place_new_claim(struct attempt *attempt, const struct shape *shape)
{
    const struct lock *lock = attempt->lock;
    struct claim *claim =
        table_new(sizeof(struct files_claim), lock->mechanism, attempt->owner, lock_name(lock), "");
    if (claim == NULL) {
        judge_failed(&attempt->report, ENOMEM, "allocate");
        return NULL;
    }
    claim->is_shared = attempt_may_join(attempt);
    struct files_claim *made = files_claim_of(claim);
    if (claim->is_shared) {
        made->reader = lock_reader(lock->host, attempt->owner);
    }
    made->shape = shape;
    made->directory = OS_NO_FILE;
    made->inside = OS_NO_FILE;
    made->turn = OS_NO_FILE;
    return made;
}

void
place_share(struct files_claim *claim, bool inheritable)
{
    os_mutex_lock();
    claim->claim.is_inheritable = inheritable;
    os_keep_in_child_locked(&claim->claim.beacon, inheritable);
    os_keep_in_child_locked(&claim->directory, inheritable);
    os_keep_in_child_locked(&claim->inside, inheritable);
    os_mutex_unlock();
}

/* A child that is forked from here on has neither the claim nor what belongs to it. */
void
place_drop(struct files_claim *claim)
{
    place_share(claim, false);
    table_remove(&claim->claim);
    os_close(&claim->claim.beacon);
    os_close(&claim->inside);
    os_close(&claim->directory);
    free(claim);
}

bool
place_enter(struct attempt *attempt, struct files_claim *claim, struct os_inode inode)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    claim->inode = inode;
    claim->directory.inode = directory->inode;
    claim->claim.identity = place_identity(directory, inode);
    return table_enter(&claim->claim);
}

enum table_entry
place_join(struct attempt *attempt, struct files_claim *claim)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    claim->directory.inode = directory->inode;
    claim->claim.identity = place_identity(directory, claim->inode);
    return table_join(&claim->claim);
}

enum outcome
place_own(struct attempt *attempt, struct files_claim *claim)
{
    struct files_place *place = place_of(attempt);
    table_replace(&claim->directory, place->directory);
    place->directory = OS_NO_FILE;
    claim->local = attempt->ground.local;
    table_keep(&claim->claim);
    return LOCK_OWNED;
}

/* The path of the directory of what is owned. */
static bool
spell_directory(const struct files_claim *claim, char path[OS_PATH_SIZE])
{
    size_t length = (size_t)(claim->claim.file - claim->claim.lock_file);
    if (length >= OS_PATH_SIZE) {
        return false;
    }
    memcpy(path, claim->claim.lock_file, length);
    path[length] = '\0';
    return true;
}

bool
place_is_there(const struct files_claim *claim)
{
    char path[OS_PATH_SIZE];
    struct os_status status;
    return spell_directory(claim, path) && os_status_of(path, &status) == 0 &&
           os_same(status.inode, claim->directory.inode);
}

int
place_reopen(struct files_claim *claim)
{
    struct os_inode inode = claim->directory.inode;
    struct os_file directory;
    char path[OS_PATH_SIZE];
    if (!spell_directory(claim, path)) {
        return ENAMETOOLONG;
    }
    int error = os_open_directory(path, &directory);
    if (error != 0) {
        return error == ENOTDIR ? ENOENT : error;
    }
    if (!os_same(directory.inode, inode)) {
        os_close(&directory);
        return ENOENT;
    }
    table_replace(&claim->directory, directory);
    return 0;
}

/* The lock file, too, is called so, or there is one name in it: where others may have changed the
 * unique name. Since nothing need have pinned the inode's number, it must be as old as it was. */
static int
find_renamed(const struct files_claim *claim, const struct os_file *directory, char name[NAME_SIZE])
{
    struct os_identity there;
    const struct claim *base = &claim->claim;
    bool is_inside = !os_same(claim->inode, base->beacon.inode);
    int error = is_inside ? search_inside(directory, name) : 0;
    if (!is_inside) {
        snprintf(name, NAME_SIZE, "%s", base->file);
    }
    error = error == 0 ? os_identify(directory, name, &there) : error;
    if (error != 0) {
        return error == ENOTEMPTY ? ENOENT : error;
    }
    bool is_same = os_same(there.inode, base->beacon.inode) && there.born == claim->born;
    return is_same ? 0 : ENOENT;
}

int
place_find_unique(const struct files_claim *claim, const struct os_file *directory,
                  char name[NAME_SIZE])
{
    const struct claim *base = &claim->claim;
    int error = entry_check(directory, base->unique_name, base->beacon.inode);
    if (error == ENOENT && claim->has_heirs) {
        return find_renamed(claim, directory, name);
    }
    memcpy(name, base->unique_name, NAME_SIZE);
    return error;
}

/* So often it is looked for anew: another of those who keep it may rename it meanwhile. */
#define FIND_ATTEMPTS 5

int
place_open_beacon(const struct files_claim *claim, const struct os_file *directory,
                  struct os_file *file)
{
    char name[NAME_SIZE];
    unique_opener *open = os_is_none(&claim->inside) ? os_open : os_open_inside;
    int error = ENOENT;
    for (int i = 0; error == ENOENT && i < (claim->has_heirs ? FIND_ATTEMPTS : 1); i++) {
        error = place_find_unique(claim, directory, name);
        if (error == 0) {
            error = unique_open_beacon(directory, name, claim->claim.beacon.inode, open, file);
        }
    }
    return error;
}

static int
relight(struct files_claim *claim, const struct os_file *directory)
{
    struct os_file file;
    struct claim *base = &claim->claim;
    int error = place_open_beacon(claim, directory, &file);
    if (error != 0) {
        return error;
    }
    error = unique_take_beacon(&file);
    claim->is_lit_by_others = os_is_refused(error) && claim->has_heirs;
    if (error != 0 && !claim->is_lit_by_others &&
        (claim->local || !os_flock_is_unsupported(error))) {
        os_close(&file);
        return error;
    }
    table_replace(&base->beacon, file);
    return 0;
}

int
place_mend_beacon(struct files_claim *claim, const struct os_file *directory)
{
    if (!os_is_open(&claim->claim.beacon)) {
        return relight(claim, directory);
    }
    if (claim->is_lit_by_others) {
        claim->is_lit_by_others = unique_take_beacon(&claim->claim.beacon) != 0;
    }
    return 0;
}
