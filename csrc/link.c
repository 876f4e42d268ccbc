/* The mechanism of LinkFileLock: the lock file is a hard link to the owner's
 * unique file. link() makes it or refuses, on every file system that has hard
 * links, network ones included.
 *
 * Whatever is removed is first compared, name against inode, with what is meant:
 * directories are renamed, locks are broken and claimed again, and names alone
 * would then hit somebody else's lock. Such a check and the removal behind it
 * are two system calls. Between them
 *   - the owner's own release and a stale break are kept off by the beacon, which
 *     only one of them can hold;
 *   - break_lock(), which removes live locks, is kept off by place.h's removals. */
#include "place.h"

#include <errno.h>
#include <string.h>

static const char not_ours[] = "its lock file was not made by this protocol";

/* ---- Claim ---- */

static void
refuse_link(struct attempt *attempt, int error)
{
    if (error == EPERM || error == EOPNOTSUPP || error == EMLINK || error == EXDEV ||
        error == ENOSYS) {
        attempt->report.reason = "this file system refuses hard links; MkdirFileLock needs none";
    }
    place_fail(&attempt->report, error, "link the unique file");
}

/* Some FUSE file systems number hard links apart: there nobody could ever tell
 * whose a lock file is. What we have just made has our file's time of birth. */
static int
unpublish_if_numbered_apart(struct attempt *attempt, const struct owned *claim)
{
    const struct os_file *directory = &attempt->directory;
    struct os_identity lock_file, unique;
    if (owner_check(directory, claim->file, claim->beacon.inode) == 0) {
        return 0;
    }
    if (os_identify(directory, claim->file, &lock_file) != 0 ||
        os_identify(directory, claim->unique_name, &unique) != 0 || lock_file.born != unique.born) {
        return EEXIST; /* broken already, and perhaps claimed by another */
    }
    os_unlink(directory, claim->file);
    return EOPNOTSUPP;
}

/* Links the unique file, and believes the directory rather than the answer: a
 * network server may have done it and lost the reply. Links are never counted:
 * a backup that makes one of its own would make the count lie. */
static int
publish(struct attempt *attempt, const struct owned *claim)
{
    const struct os_file *directory = &attempt->directory;
    int refused = os_link(directory, claim->unique_name, claim->file);
    if (refused == 0) {
        return attempt->ground.local ? 0 : unpublish_if_numbered_apart(attempt, claim);
    }
    int error = owner_check(directory, claim->file, claim->beacon.inode);
    /* Not there: then what refused the link is the news. */
    return error == ENOENT ? refused : error;
}

/* A contender leaves nothing, even when it is killed while it waits. If we could
 * not see whether the link was made, the unique file stays: without it nobody
 * could tell whose lock file that is. */
static void
withdraw(struct attempt *attempt, struct owned *claim)
{
    if (owner_check(&attempt->directory, claim->file, claim->beacon.inode) == ENOENT) {
        owner_remove(&attempt->directory, claim->unique_name, claim->beacon.inode);
    }
    table_drop(claim);
}

static enum outcome
link_claim(struct attempt *attempt)
{
    const struct lock *lock = attempt->lock;
    struct owned *claim = table_new(lock->mechanism, attempt->owner, lock->lock_file);
    if (claim == NULL) {
        return place_fail(&attempt->report, ENOMEM, "allocate");
    }
    int error = owner_create(&attempt->directory, attempt->ground, lock->host, attempt->owner,
                             &claim->beacon, claim->unique_name);
    if (error != 0) {
        table_drop(claim);
        place_fail(&attempt->report, error, "create the unique file");
        return error == ENOENT ? LOCK_FREE : LOCK_FAILED;
    }
    /* In the table before the link is made: whoever of us sees the lock file
     * must not wait for ourselves. */
    claim->directory.inode = attempt->directory.inode;
    error = table_enter(claim) ? publish(attempt, claim) : ECANCELED;
    if (error == 0) {
        claim->directory = attempt->directory;
        claim->local = attempt->ground.local;
        claim->depth = attempt->entering;
        attempt->directory.descriptor = -1;
        table_keep(claim);
        return LOCK_OWNED;
    }
    withdraw(attempt, claim);
    refuse_link(attempt, error);
    return error == EEXIST ? LOCK_HELD : error == ENOENT ? LOCK_FREE : LOCK_FAILED;
}

/* ---- Look ---- */

/* Some FUSE file systems give two kernel inodes to two hard links: then a beacon
 * is seen by the name alone that it was taken by. */
static int
look_by_unique_name(struct attempt *attempt)
{
    struct os_file file;
    struct os_status status;
    int error = os_open(&attempt->directory, attempt->found_name, OS_READ, &file, &status);
    if (error != 0) {
        return error;
    }
    error = os_flock(&file, OS_SHARED);
    os_flock(&file, OS_UNLOCK);
    os_close(&file);
    return error;
}

/* The beacon was granted to us: does that prove anything? */
static enum outcome
judge_dark(struct attempt *attempt)
{
    struct owner_name name;
    struct os_identity there = place_recognise(attempt);
    if (there.inode.number != 0 && os_is_identical(there, attempt->foreign)) {
        return place_hold(attempt, LIFE_UNKNOWN, not_ours); /* a directory is long to search */
    }
    int error = owner_find(&attempt->directory, attempt->found.inode, attempt->found_name);
    if (error == ENOENT) {
        error = owner_check(&attempt->directory, attempt->lock->file, attempt->found.inode);
        if (error == ENOENT) {
            return LOCK_FREE; /* released while we searched */
        }
        attempt->foreign = there;
        return place_hold(attempt, LIFE_UNKNOWN, not_ours);
    }
    if (error != 0) {
        return place_fail(&attempt->report, error, "list the directory");
    }
    if (!owner_parse(attempt->found_name, &name) || !owner_is_provable(&name, attempt->ground)) {
        return place_hold(attempt, LIFE_UNKNOWN,
                          "only the machine that its owner ran on could tell whether it is alive");
    }
    if (!attempt->ground.local && look_by_unique_name(attempt) != 0) {
        return place_hold(attempt, LIFE_UNKNOWN, NULL);
    }
    attempt->report.holder.life = LIFE_DEAD;
    return LOCK_STALE;
}

static enum outcome
judge_beacon(struct attempt *attempt)
{
    int error = os_flock(&attempt->found, OS_SHARED);
    if (error == EWOULDBLOCK) {
        return place_hold(attempt, LIFE_ALIVE, NULL);
    }
    if (error != 0) {
        return os_flock_is_unsupported(error)
                   ? place_hold(attempt, LIFE_UNKNOWN, "this file system has no locks to tell by")
                   : place_fail(&attempt->report, error, "look at the lock file");
    }
    /* Said outright: a fork may have copied the descriptor, which would keep it. */
    os_flock(&attempt->found, OS_UNLOCK);
    return judge_dark(attempt);
}

static enum outcome
judge(struct attempt *attempt, const struct os_status *status)
{
    if (status->kind == OS_DIRECTORY) {
        os_close(&attempt->found); /* the removal of one that is open makes no event */
        return place_hold(attempt, LIFE_UNKNOWN, "its lock file is a directory");
    }
    if (status->kind != OS_REGULAR) {
        return place_hold(attempt, LIFE_UNKNOWN, "its lock file is a special file");
    }
    return judge_beacon(attempt);
}

static enum outcome
link_look(struct attempt *attempt, bool watched)
{
    struct os_status status;
    enum outcome outcome = place_find(attempt, watched, &status);
    if (outcome != LOCK_STALE) {
        return outcome;
    }
    if (watched && attempt->ground.local) {
        os_mark(&attempt->found, OS_WAITER); /* refused, it costs a turn, not the lock */
    }
    outcome = place_look_up(attempt);
    return outcome == LOCK_FREE ? judge(attempt, &status) : outcome;
}

static void
link_identify(struct attempt *attempt)
{
    struct holder *holder = &attempt->report.holder;
    char name[OWNER_NAME_SIZE];
    if (!holder->known && attempt->found.descriptor >= 0 &&
        owner_find(&attempt->directory, attempt->found.inode, name) == 0) {
        holder->known = owner_parse(name, &holder->name);
    }
}

/* ---- Break ---- */

/* Removes the stale lock file and its unique file, holding the beacon, by which
 * breakers take turns, and the directory's flock. */
static enum outcome
remove_stale(struct attempt *attempt)
{
    const struct os_file *directory = &attempt->directory;
    const char *file = attempt->lock->file;
    if (place_begin_removal(directory) != 0) {
        wait_hurry(&attempt->wait); /* a break_lock() is at work */
        return place_hold(attempt, LIFE_DEAD, "its directory is locked by another program");
    }
    /* Between the look and the beacon another breaker may have been here. */
    int error = owner_check(directory, file, attempt->found.inode);
    if (error == 0) {
        error = os_unlink(directory, file);
    }
    if (error == 0) {
        owner_remove(directory, attempt->found_name, attempt->found.inode);
    }
    place_end_removal(directory);
    switch (error) {
    case 0:
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

/* Takes the beacon under one of its names. Writing is needed on network file systems only. */
static int
take_beacon(struct attempt *attempt, const char *name, struct os_file *file)
{
    struct os_status status;
    int error = os_open(&attempt->directory, name, OS_WRITE, file, &status);
    if (error != 0) {
        return error;
    }
    error = os_same(status.inode, attempt->found.inode) ? owner_take_beacon(file) : ENOENT;
    if (error != 0) {
        os_close(file);
    }
    return error;
}

static void
give_beacon(struct os_file *file)
{
    os_flock(file, OS_UNLOCK);
    os_close(file);
}

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
break_by_both_names(struct attempt *attempt)
{
    struct os_file file, unique;
    int error = take_beacon(attempt, attempt->lock->file, &file);
    if (error != 0) {
        return cannot_take_beacon(attempt, error);
    }
    /* One beacon for both names, on most file systems: it is given back before the
     * other name is asked. The proof is that each was granted. */
    give_beacon(&file);
    error = take_beacon(attempt, attempt->found_name, &unique);
    if (error != 0) {
        return cannot_take_beacon(attempt, error);
    }
    enum outcome outcome = remove_stale(attempt);
    give_beacon(&unique);
    return outcome;
}

static enum outcome
link_break_stale(struct attempt *attempt)
{
    enum outcome outcome;
    if (!attempt->ground.local) {
        outcome = break_by_both_names(attempt);
    } else {
        int error = owner_take_beacon(&attempt->found);
        if (error != 0) {
            return cannot_take_beacon(attempt, error);
        }
        outcome = remove_stale(attempt);
        os_flock(&attempt->found, OS_UNLOCK);
    }
    if (outcome == LOCK_FREE) {
        owner_sweep(&attempt->directory, attempt->ground, attempt->lock->host);
    }
    return outcome;
}

/* ---- What is owned ---- */

/* By the unique name, which is ours alone: the inode's number may have been
 * given to another lock since the descriptor went that pinned it. */
static int
relight_beacon(struct owned *owned)
{
    struct os_file file;
    struct os_status status;
    int error = os_open(&owned->directory, owned->unique_name, OS_WRITE, &file, &status);
    if (error != 0) {
        return error;
    }
    if (!os_same(status.inode, owned->beacon.inode)) {
        os_close(&file);
        return ENOENT;
    }
    /* Refused, another may be proving us dead just now. That is soon over. */
    error = place_patiently(owner_take_beacon, &file);
    if (error != 0 && (owned->local || !os_flock_is_unsupported(error))) {
        os_close(&file);
        return error;
    }
    table_replace(&owned->beacon, file);
    return 0;
}

static int
mend(struct owned *owned)
{
    int error = os_is_open(&owned->directory) ? 0 : place_reopen(owned);
    if (error == 0 && !os_is_open(&owned->beacon)) {
        error = relight_beacon(owned);
    }
    return error;
}

/* The lock file is not ours any more: nor shall the unique file be. */
static void
link_discard(struct owned *owned)
{
    owner_remove(&owned->directory, owned->unique_name, owned->beacon.inode);
    table_drop(owned);
}

static enum outcome
link_confirm(struct owned *owned, struct report *report)
{
    int error = mend(owned);
    if (error == 0) {
        error = owner_check(&owned->directory, owned->file, owned->beacon.inode);
    }
    return error == 0        ? LOCK_OWNED
           : error == ENOENT ? LOCK_BROKEN
                             : place_fail(report, error, "look at the lock file");
}

static enum outcome
still_owned(const struct owned *owned, struct report *report, int error, const char *doing)
{
    place_end_removal(&owned->directory);
    report->owned = true;
    if (error == EWOULDBLOCK) {
        report->reason = "another program has it locked";
    }
    return place_fail(report, error, doing);
}

/* The lock file first, the unique file second: cut in the middle, the other order
 * would leave a lock file that nobody can attribute. The beacon goes last. */
static enum outcome
link_release(struct owned *owned, struct report *report, bool *awaited)
{
    const struct os_file *directory = &owned->directory;
    int error = mend(owned);
    if (error == 0) {
        error = place_patiently(place_begin_removal, directory);
    }
    if (error == 0) {
        error = owner_check(directory, owned->file, owned->beacon.inode);
    }
    if (error == ENOENT) {
        link_discard(owned);
        return LOCK_BROKEN;
    }
    if (error != 0) {
        return still_owned(owned, report, error, "make sure of the lock file");
    }
    *awaited = owned->local && os_find_mark(&owned->beacon, OS_WAITER) == EWOULDBLOCK;
    error = os_unlink(directory, owned->file);
    if (error != 0 && error != ENOENT) { /* gone: by a removal whose reply was lost */
        return still_owned(owned, report, error, "remove the lock file");
    }
    error = owner_remove(directory, owned->unique_name, owned->beacon.inode);
    table_drop(owned);
    return error == 0 || error == ENOENT ? LOCK_RELEASED
                                         : place_fail(report, error, "remove the unique file");
}

/* ---- break_lock() ---- */

static bool
is_condemned(const struct os_identity *there, const struct os_identity *waited_for)
{
    return waited_for == NULL || os_is_identical(*there, *waited_for);
}

/* Holding the directory's flock exclusively: no release and no break is between
 * its check and its removal meanwhile. */
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
    if (error != 0 || !is_condemned(&there, waited_for)) {
        return error;
    }
    struct table_key key = {there.inode, directory->inode, file};
    if (!table_find(key, &owner, serial)) {
        *serial = 0;
    }
    return status.kind == OS_DIRECTORY ? os_remove_directory(directory, file)
                                       : os_unlink(directory, file);
}

/* What this process owned of it: by its serial, since the number may be reused by now. */
static void
drop_condemned(uint64_t serial)
{
    struct owned *owned = serial != 0 ? table_take_serial(serial) : NULL;
    if (owned != NULL) {
        mend(owned);
        link_discard(owned);
    }
}

static enum outcome
link_condemn(struct attempt *attempt, const struct os_identity *waited_for)
{
    uint64_t serial = 0;
    int error = place_patiently(place_begin_condemning, &attempt->directory);
    if (error != 0) {
        place_end_condemning(&attempt->directory);
        attempt->report.reason = "its directory is locked by another program";
        return place_fail(&attempt->report, error, "lock the directory");
    }
    error = condemn(attempt, waited_for, &serial);
    place_end_condemning(&attempt->directory);
    if (error != 0 && !owner_is_absent(error)) {
        return place_fail(&attempt->report, error, "remove the lock file");
    }
    if (error == 0) {
        drop_condemned(serial);
        owner_sweep(&attempt->directory, attempt->ground, attempt->lock->host);
    }
    return LOCK_FREE;
}

const struct mechanism link_mechanism = {
    .open = place_open,
    .close = place_close,
    .claim = link_claim,
    .look = link_look,
    .identify = link_identify,
    .recognise = place_recognise,
    .break_stale = link_break_stale,
    .confirm = link_confirm,
    .release = link_release,
    .discard = link_discard,
    .condemn = link_condemn,
};
