/* The mechanisms on the file system, and what they do alike whatever the shape of
 * the lock file.
 *
 * Whatever is removed is first compared, name against inode, with what is meant:
 * directories are renamed, locks are broken and claimed again, and names alone
 * would then hit somebody else's lock. Such a check and the removal behind it
 * are two system calls. Between them
 *   - the owner's own release and a stale break are kept off by the beacon, which
 *     only one of them can hold;
 *   - break_lock(), which removes live locks, is kept off by place.h's removals. */
#include "mechanisms/files/place.h"

#include <errno.h>

static const struct shape *
shape_of(enum os_kind kind)
{
    return kind == OS_DIRECTORY ? &mkdir_shape : &link_shape;
}

static const struct shape *
own_shape(const struct owned *owned)
{
    return owned->mechanism == &mkdir_mechanism ? &mkdir_shape : &link_shape;
}

/* ---- Look ---- */

static enum outcome
files_look(struct attempt *attempt, bool watched)
{
    struct os_status status;
    enum outcome outcome = place_find(attempt, watched, &status);
    if (outcome != LOCK_STALE) {
        return outcome;
    }
    outcome = place_look_up(attempt);
    if (outcome != LOCK_FREE) {
        return outcome;
    }
    if (status.kind == OS_OTHER) {
        return place_hold(attempt, LIFE_UNKNOWN, "its lock file is a special file");
    }
    attempt->shape = shape_of(status.kind);
    return attempt->shape->judge(attempt);
}

static bool
files_is_there(struct attempt *attempt)
{
    struct os_status status;
    return os_status_at(&attempt->directory, attempt->lock->file, &status) != ENOENT;
}

static void
files_identify(struct attempt *attempt)
{
    struct holder *holder = &attempt->report.holder;
    char name[OWNER_NAME_SIZE];
    if (!holder->known && attempt->found.descriptor >= 0 &&
        owner_find(&attempt->directory, attempt->found.inode, name) == 0) {
        holder->known = owner_parse(name, &holder->name);
    }
}

/* ---- Break ---- */

static enum outcome
cannot_take_beacon(struct attempt *attempt, int error)
{
    switch (error) {
    case ENOENT:
        return LOCK_FREE;
    case EWOULDBLOCK:
        wait_hurry(&attempt->wait); /* it lives, or another breaks it right now */
        return place_hold(attempt, LIFE_UNKNOWN, NULL);
    case EACCES:
    case EPERM:
        attempt->report.error = error;
        return place_hold(attempt, LIFE_UNKNOWN, "its owner cannot be proven dead");
    default:
        return place_fail(&attempt->report, error, "take the beacon of the stale lock file");
    }
}

static enum outcome
cannot_remove_stale(struct attempt *attempt, int error)
{
    switch (error) {
    case ENOENT:
        return LOCK_FREE;
    case EPERM:
    case EACCES:
    case EBUSY:
        attempt->report.error = error;
        return place_hold(attempt, LIFE_DEAD, "its lock file cannot be removed");
    default:
        return place_fail(&attempt->report, error, "remove the stale lock file");
    }
}

/* Holding the beacon, by which breakers take turns. */
static enum outcome
remove_stale(struct attempt *attempt, struct os_file *beacon)
{
    const struct os_file *directory = &attempt->directory;
    const char *file = attempt->lock->file;
    bool local = attempt->ground.local;
    bool freed = false;
    if (place_begin_removal(directory, local) != 0) {
        wait_hurry(&attempt->wait); /* a break_lock() is at work */
        return place_hold(attempt, LIFE_DEAD, "its directory is locked by another program");
    }
    /* Between the look and the beacon another breaker may have been here. */
    int error = owner_check_afresh(directory, file, attempt->found.inode, local);
    if (error == 0) {
        error = attempt->shape->remove(directory, file, &attempt->found, attempt->found_name,
                                       beacon, owner_remove_dead, &freed);
    }
    place_end_removal(directory, local);
    return freed ? LOCK_FREE : cannot_remove_stale(attempt, error);
}

/* Breakers take turns by the beacon, which a look keeps from them for some microseconds; or for
 * as long as the process is stopped that looks. */
#define LOOK_TIME (100 * OS_MILLISECOND)

/* Whoever tries it, by this object. */
static bool
is_refused_for_long(const struct attempt *attempt)
{
    struct lock *lock = attempt->lock;
    int64_t now = os_now();
    os_lock();
    if (!os_same(lock->refused, attempt->found.inode)) {
        lock->refused = attempt->found.inode;
        lock->refused_since = now;
    }
    bool long_since = now - lock->refused_since >= LOOK_TIME;
    os_unlock();
    return attempt->ground.local && long_since;
}

/* Past a look that does not end. Shared, the beacon proves as well that the owner is dead, and
 * keeps it from lighting it again, and keeps off who has it alone. Those who share it take turns
 * by a mark on the lock file: who sees another's goes back. */
static int
take_beacon_beside_a_look(const struct attempt *attempt, const struct os_file *beacon)
{
    int error = os_flock(beacon, OS_SHARED);
    if (error == 0) {
        error = os_mark(&attempt->found, OS_TURN);
    }
    return error != 0 ? error : os_find_mark(&attempt->found, OS_TURN);
}

static enum outcome
files_break_stale(struct attempt *attempt)
{
    struct os_file *beacon;
    int error = attempt->shape->take_beacon(attempt, &beacon);
    bool beside = error == EWOULDBLOCK && is_refused_for_long(attempt);
    if (beside) {
        error = take_beacon_beside_a_look(attempt, beacon);
    }
    enum outcome outcome =
        error == 0 ? remove_stale(attempt, beacon) : cannot_take_beacon(attempt, error);
    if (beside || error == 0) {
        os_flock(beacon, OS_UNLOCK); /* outright: a fork may have copied the descriptor */
    }
    if (beside) {
        os_unmark(&attempt->found, OS_TURN);
    }
    if (error == 0 && outcome == LOCK_FREE) {
        owner_sweep(&attempt->directory, attempt->ground);
    }
    return outcome;
}

/* ---- What is owned ---- */

/* Programs close descriptors behind our back (daemons close all). ENOENT: what they
 * stood for is not there any more. */
static int
mend(struct owned *owned)
{
    int error = os_is_open(&owned->directory) ? 0 : place_reopen(owned);
    return error != 0 ? error : own_shape(owned)->mend(owned);
}

static int
check_own(const struct owned *owned)
{
    return owner_check_afresh(&owned->directory, owned->file, owned->inode, owned->local);
}

static enum outcome
files_confirm(struct attempt *attempt, struct owned *owned)
{
    int error = mend(owned);
    if (error == 0) {
        error = check_own(owned);
    }
    if (error == 0 && !place_is_there(owned)) {
        return LOCK_FREE;
    }
    return error == 0        ? LOCK_OWNED
           : error == ENOENT ? LOCK_BROKEN
                             : place_fail(&attempt->report, error, "look at the lock file");
}

/* The lock file is not ours any more: nor shall the unique file be. */
static void
files_discard(struct owned *owned)
{
    owner_remove(&owned->directory, owned->unique_name, owned->beacon.inode);
    table_drop(owned);
}

static enum outcome
still_owned(struct report *report, int error, const char *doing)
{
    report->owned = true;
    if (error == EWOULDBLOCK) {
        report->reason = "another program has it locked";
    }
    return place_fail(report, error, doing);
}

/* Where waiters leave their marks: the lock file. */
static const struct os_file *
marked_file(const struct owned *owned)
{
    return owned->inside.descriptor >= 0 ? &owned->inside : &owned->beacon;
}

/* The beacon goes last. */
static enum outcome
files_release(struct attempt *attempt, struct owned *owned, bool *awaited)
{
    struct report *report = &attempt->report;
    const struct os_file *directory = &owned->directory;
    bool freed = false;
    int error = mend(owned);
    if (error == 0) {
        error = place_patiently(place_begin_removal, directory, owned->local);
    }
    if (error == 0 && (error = check_own(owned)) != 0) {
        place_end_removal(directory, owned->local);
    }
    if (error == ENOENT) {
        files_discard(owned);
        return LOCK_BROKEN;
    }
    if (error != 0) {
        return still_owned(report, error, "make sure of the lock file");
    }
    *awaited = owned->local && os_has_waiters(marked_file(owned), OS_FILE_QUEUE);
    error = own_shape(owned)->remove(directory, owned->file, &owned->inside, owned->unique_name,
                                     &owned->beacon, owner_remove, &freed);
    if (!freed && error == ENOENT) {
        files_discard(owned);
        return LOCK_BROKEN;
    }
    if (!freed) {
        place_end_removal(directory, owned->local);
        return still_owned(report, error, "remove the lock file");
    }
    table_drop(owned);
    return error == 0 ? LOCK_RELEASED : place_fail(report, error, "remove the rest of it");
}

/* ---- break_lock() ---- */

/* Removes what is there if it is what was waited for. */
static int
condemn(struct attempt *attempt, const struct os_identity *waited_for, uint64_t *serial)
{
    const struct os_file *directory = &attempt->directory;
    const char *file = attempt->lock->file;
    struct os_identity there;
    struct os_status status;
    struct owner owner;
    int error = os_identify(directory, file, &there);
    if (error == 0) {
        error = os_status_at(directory, file, &status);
    }
    if (error != 0 || (waited_for != NULL && !os_is_identical(there, *waited_for))) {
        return error;
    }
    struct table_key key = {there.inode, directory->inode, file};
    if (!table_find(key, &owner, serial)) {
        *serial = 0;
    }
    return shape_of(status.kind)->condemn(directory, file);
}

/* What this process owned of it: by its serial, since the number may be reused by now. */
static void
drop_condemned(uint64_t serial)
{
    struct owned *owned = serial != 0 ? table_take_serial(serial) : NULL;
    if (owned != NULL) {
        mend(owned);
        files_discard(owned);
    }
}

static enum outcome
files_condemn(struct attempt *attempt, const struct os_identity *waited_for)
{
    uint64_t serial = 0;
    const struct os_file *directory = &attempt->directory;
    bool local = attempt->ground.local;
    int error = place_patiently(place_begin_condemning, directory, local);
    if (error != 0) {
        if (error == EWOULDBLOCK) {
            attempt->report.reason = "another program has it locked";
        }
        return place_fail(&attempt->report, error, "lock the directory");
    }
    error = condemn(attempt, waited_for, &serial);
    place_end_condemning(directory, local);
    if (error != 0 && !owner_is_absent(error)) {
        return place_fail(&attempt->report, error, "remove the lock file");
    }
    if (error == 0) {
        drop_condemned(serial);
        owner_sweep(&attempt->directory, attempt->ground);
    }
    return LOCK_FREE;
}

/* ---- The mechanisms ---- */

const struct mechanism link_mechanism = {
    .open = place_open,
    .close = place_close,
    .claim = link_claim,
    .look = files_look,
    .is_there = files_is_there,
    .identify = files_identify,
    .recognise = place_recognise,
    .break_stale = files_break_stale,
    .confirm = files_confirm,
    .release = files_release,
    .discard = files_discard,
    .condemn = files_condemn,
};

const struct mechanism mkdir_mechanism = {
    .unique_file_is_inside = true,
    .open = place_open,
    .close = place_close,
    .claim = mkdir_claim,
    .look = files_look,
    .is_there = files_is_there,
    .identify = files_identify,
    .recognise = place_recognise,
    .break_stale = files_break_stale,
    .confirm = files_confirm,
    .release = files_release,
    .discard = files_discard,
    .condemn = files_condemn,
};
