#include "mechanisms/files/place.h"

#include <errno.h>
#include <string.h>

#define LOOK_ATTEMPTS 100

enum outcome
place_fail(struct report *report, int error, const char *doing)
{
    report->error = error;
    report->doing = doing;
    return LOCK_FAILED;
}

enum outcome
place_hold(struct attempt *attempt, enum life life, const char *reason)
{
    attempt->report.holder.life = life;
    attempt->report.reason = reason;
    return LOCK_HELD;
}

void
place_close(struct attempt *attempt)
{
    os_close(&attempt->beacon);
    os_close(&attempt->found);
    os_close(&attempt->directory);
}

/* Is it still what its path names, so that opening it anew would tell nothing new? A network
 * file system may answer that from what it remembers. */
static bool
is_still_there(const struct attempt *attempt)
{
    struct os_status status;
    return attempt->ground.local && os_is_open(&attempt->directory) &&
           os_status_of(attempt->lock->directory, &status) == 0 &&
           os_same(status.inode, attempt->directory.inode);
}

int
place_open(struct attempt *attempt)
{
    os_close(&attempt->beacon);
    os_close(&attempt->found);
    if (is_still_there(attempt)) {
        return 0;
    }
    os_close(&attempt->directory);
    int error = os_open_directory(attempt->lock->directory, &attempt->directory);
    return error != 0 ? error : owner_ground(&attempt->directory, &attempt->ground);
}

/* ---- What is there ---- */

static enum outcome
cannot_open(struct attempt *attempt, int error)
{
    switch (error) {
    case ENOENT:
    case ENAMETOOLONG:
        return LOCK_FREE;
    case ELOOP:
    case EMLINK: /* what some systems say for ELOOP here */
        return place_hold(attempt, LIFE_UNKNOWN,
                          "its lock file is a symbolic link, made by no lock");
    case ENXIO:
    case ENODEV:
        return place_hold(attempt, LIFE_UNKNOWN,
                          "its lock file is a socket or device, made by no lock");
    case EWOULDBLOCK: /* a lease, which a server may have given to a client of its own */
        return place_hold(attempt, LIFE_UNKNOWN, "its lock file is leased by another program");
    case EACCES:
    case EPERM:
        attempt->report.error = error;
        return place_hold(attempt, LIFE_UNKNOWN, "its lock file cannot be looked at");
    default:
        return place_fail(&attempt->report, error, "open the lock file");
    }
}

/* Lets the owner and the others know that it waits, and watches, unless others do. */
static void
wait_for_found(struct attempt *attempt, const struct os_status *status)
{
    struct wait *wait = &attempt->wait;
    wait_for_inode(wait, status->inode);
    if (attempt->ground.local && wait_in_queue(wait, &attempt->found, OS_FILE_QUEUE)) {
        wait_watch(wait, attempt->lock->lock_file, status->kind, status->inode);
    }
}

/* Opens the lock file, watches it, and makes sure that the path still names what
 * was opened: from then on no change goes unnoticed. */
static int
open_lock_file(struct attempt *attempt, bool watched, struct os_status *status)
{
    const struct lock *lock = attempt->lock;
    int error = ENOENT;
    for (int i = 0; error == ENOENT && i < LOOK_ATTEMPTS; i++) {
        os_close(&attempt->beacon); /* a round may look more than once */
        os_close(&attempt->found);
        error = os_open(&attempt->directory, lock->file, OS_READ, &attempt->found, status);
        if (error != 0) {
            return error;
        }
        if (watched) {
            wait_for_found(attempt, status);
        }
        error = owner_check(&attempt->directory, lock->file, attempt->found.inode);
    }
    return error;
}

enum outcome
place_find(struct attempt *attempt, bool watched, struct os_status *status)
{
    attempt->report = (struct report){0};
    int error = open_lock_file(attempt, watched, status);
    return error == 0 ? LOCK_STALE : cannot_open(attempt, error);
}

static enum outcome
is_one_of_ours(struct attempt *attempt, struct owner owner)
{
    if (owner.token == attempt->owner.token) {
        return LOCK_OWNED;
    }
    struct holder *holder = &attempt->report.holder;
    holder->known = true;
    holder->thread = owner.thread != 0;
    holder->name = (struct owner_name){.thread = owner.thread, .process = os_process()};
    memcpy(holder->name.host, attempt->lock->host, OS_HOST_SIZE);
    return place_hold(attempt, LIFE_ALIVE, NULL);
}

enum outcome
place_look_up(struct attempt *attempt)
{
    struct owner owner;
    uint64_t serial;
    return table_find(attempt_key(attempt), &owner, &serial) ? is_one_of_ours(attempt, owner)
                                                             : LOCK_FREE;
}

enum outcome
place_look_at_beacon(struct attempt *attempt, const struct os_file *file)
{
    int error = os_flock(file, OS_SHARED);
    if (error == EWOULDBLOCK) {
        return place_hold(attempt, LIFE_ALIVE, NULL);
    }
    if (error != 0) {
        return os_flock_is_unsupported(error)
                   ? place_hold(attempt, LIFE_UNKNOWN, "this file system has no locks to tell by")
                   : place_fail(&attempt->report, error, "look at the lock file");
    }
    /* Said outright: a fork may have copied the descriptor, which would keep it. */
    os_flock(file, OS_UNLOCK);
    return LOCK_STALE;
}

enum outcome
place_judge_name(struct attempt *attempt)
{
    struct owner_name name;
    if (!owner_parse(attempt->found_name, &name)) {
        return place_hold(attempt, LIFE_UNKNOWN, NULL);
    }
    if (!owner_is_provable(&name, attempt->ground)) {
        return place_hold(
            attempt, LIFE_UNKNOWN,
            name.kernel == 0 || name.kernel == OWNER_NO_KERNEL
                ? "nothing can tell here whether its owner is alive"
                : "only the machine that its owner ran on can tell whether it is "
                  "alive, and only until it restarts or mounts this file system anew");
    }
    attempt->report.holder.life = LIFE_DEAD;
    return LOCK_STALE;
}

bool
place_enter(const struct attempt *attempt, struct owned *claim, struct os_inode inode)
{
    claim->inode = inode;
    claim->directory.inode = attempt->directory.inode;
    return table_enter(claim);
}

enum outcome
place_own(struct attempt *attempt, struct owned *claim)
{
    table_replace(&claim->directory, attempt->directory);
    attempt->directory.descriptor = -1;
    claim->local = attempt->ground.local;
    table_keep(claim);
    return LOCK_OWNED;
}

static int
take_beacon(const struct os_file *file, bool local)
{
    (void)local;
    return owner_take_beacon(file);
}

int
place_relight(struct owned *owned, const struct os_file *directory)
{
    struct os_file file;
    int error = place_open_beacon(directory, owned->unique_name, owned->beacon.inode, &file);
    if (error != 0) {
        return error;
    }
    /* Refused, another may be proving us dead just now. That is soon over. */
    error = place_patiently(take_beacon, &file, owned->local);
    if (error != 0 && (owned->local || !os_flock_is_unsupported(error))) {
        os_close(&file);
        return error;
    }
    table_replace(&owned->beacon, file);
    return 0;
}

int
place_open_beacon(const struct os_file *directory, const char *name, struct os_inode inode,
                  struct os_file *file)
{
    struct os_status status;
    int error = os_open(directory, name, OS_WRITE, file, &status);
    if (error == 0 && !os_same(status.inode, inode)) {
        error = ENOENT;
        os_close(file);
    }
    return error;
}

struct os_identity
place_recognise(struct attempt *attempt)
{
    struct os_identity identity;
    int error = os_identify(&attempt->directory, attempt->lock->file, &identity);
    return error == 0 ? identity : (struct os_identity){{0, 0}, 0};
}

/* The path of the directory of what is owned. */
static bool
spell_directory(const struct owned *owned, char path[OS_PATH_SIZE])
{
    size_t length = (size_t)(owned->file - owned->lock_file);
    if (length >= OS_PATH_SIZE) {
        return false;
    }
    memcpy(path, owned->lock_file, length);
    path[length] = '\0';
    return true;
}

bool
place_is_there(const struct owned *owned)
{
    char path[OS_PATH_SIZE];
    struct os_status status;
    return spell_directory(owned, path) && os_status_of(path, &status) == 0 &&
           os_same(status.inode, owned->directory.inode);
}

int
place_reopen(struct owned *owned)
{
    struct os_inode inode = owned->directory.inode;
    struct os_file directory;
    char path[OS_PATH_SIZE];
    if (!spell_directory(owned, path)) {
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
    table_replace(&owned->directory, directory);
    return 0;
}

/* ---- Removals and break_lock() keep off each other ----
 *
 * On a local file system by marks on the directory. Each side sets its mark before it looks
 * for the other's, so at least one sees the other. Removals set a mark and nothing more:
 * programs lock directories for reasons of their own (flock -n DIRECTORY COMMAND), and an
 * flock of ours, for however short a moment, would refuse theirs.
 *
 * break_lock() holds the directory's flock, too, so that there is one at a time; and so that a
 * removal in doubt can ask whether there is one at all. What looks like its mark may be a lock
 * of another program's, over all bytes of the directory; and there may be no marks.
 *
 * Elsewhere marks collide with flock, so all is done by flock. */

/* So long break_lock() keeps new removals off while it waits for one that has begun: the process
 * that is at it may be stopped, and the others must not wait for that. */
#define REMOVAL_TIME (20 * OS_MILLISECOND)

static int
lock_for_removal(const struct os_file *directory)
{
    int error = os_flock(directory, OS_SHARED);
    return os_flock_is_unsupported(error) ? 0 : error;
}

static int
mark_removal(const struct os_file *directory)
{
    int error = os_mark(directory, OS_REMOVER);
    if (error == 0) {
        error = os_find_mark(directory, OS_BREAKER);
    }
    return error == 0 ? 0 : os_flock(directory, OS_SHARED);
}

int
place_begin_removal(const struct os_file *directory, bool local)
{
    int error = local ? mark_removal(directory) : lock_for_removal(directory);
    if (error != 0) {
        place_end_removal(directory, local);
    }
    return error;
}

void
place_end_removal(const struct os_file *directory, bool local)
{
    if (local) {
        os_unmark(directory, OS_REMOVER);
    }
    os_flock(directory, OS_UNLOCK);
}

static int
lock_for_condemning(const struct os_file *directory)
{
    int error = os_flock(directory, OS_EXCLUSIVE);
    return os_flock_is_unsupported(error) ? 0 : error;
}

/* The mark comes second: while another program keeps the directory locked, removals go on. */
static int
mark_condemning(const struct os_file *directory)
{
    int64_t until = os_now() + REMOVAL_TIME;
    int error = os_flock(directory, OS_EXCLUSIVE);
    if (error != 0) {
        return error;
    }
    error = os_mark(directory, OS_BREAKER);
    if (os_flock_is_unsupported(error)) {
        return 0; /* removals go by the flock then */
    }
    while (error == 0 && (error = os_find_mark(directory, OS_REMOVER)) == EWOULDBLOCK &&
           os_now() < until) {
        os_pause(PLACE_PATIENT_PAUSE);
        error = 0;
    }
    return error;
}

int
place_begin_condemning(const struct os_file *directory, bool local)
{
    int error = local ? mark_condemning(directory) : lock_for_condemning(directory);
    if (error != 0) {
        place_end_condemning(directory, local);
    }
    return error;
}

void
place_end_condemning(const struct os_file *directory, bool local)
{
    if (local) {
        os_unmark(directory, OS_BREAKER);
    }
    os_flock(directory, OS_UNLOCK);
}

int
place_patiently(int (*take)(const struct os_file *file, bool local), const struct os_file *file,
                bool local)
{
    int64_t limit = 0;
    int error;
    while ((error = take(file, local)) == EWOULDBLOCK) {
        if (limit == 0) {
            limit = os_now() + PLACE_PATIENCE;
        } else if (os_now() >= limit) {
            break;
        }
        os_pause(PLACE_PATIENT_PAUSE);
    }
    return error;
}
