/* The lock file of LinkFileLock: a hard link to the owner's unique file. link()
 * makes it or refuses, on every file system that has hard links, network ones
 * included. */
#include "mechanisms/files/place.h"

#include <errno.h>

/* ---- Claim ---- */

static void
refuse_link(struct attempt *attempt, int error)
{
    /* EACCES: a policy of the system, since in this directory a file could be made. */
    if (error == EPERM || error == EOPNOTSUPP || error == EMLINK || error == EXDEV ||
        error == ENOSYS || error == EACCES) {
        attempt->report.reason = "hard links are refused here; MkdirFileLock needs none";
    }
    place_fail(&attempt->report, error, "link the unique file");
}

static int
check_published(const struct attempt *attempt, const struct owned *claim)
{
    return owner_check_afresh(&attempt->directory, claim->file, claim->beacon.inode,
                              attempt->ground.local);
}

/* Some FUSE file systems number hard links apart: there nobody could ever tell
 * whose a lock file is. Nobody breaks it meanwhile, so it is what we have made. */
static int
unpublish_if_numbered_apart(struct attempt *attempt, const struct owned *claim)
{
    const struct os_file *directory = &attempt->directory;
    struct os_identity lock_file, unique;
    int error = check_published(attempt, claim);
    if (error != ENOENT) {
        return error; /* not seen is not numbered apart */
    }
    if (os_identify(directory, claim->file, &lock_file) != 0 ||
        os_identify(directory, claim->unique_name, &unique) != 0 || lock_file.born != unique.born) {
        return EEXIST;
    }
    os_unlink(directory, claim->file);
    return EOPNOTSUPP;
}

static int
link_carefully(struct attempt *attempt, const struct owned *claim)
{
    const struct os_file *directory = &attempt->directory;
    if (attempt->ground.local) {
        return os_link(directory, claim->unique_name, claim->file);
    }
    int error = place_patiently(place_begin_removal, directory, false);
    if (error != 0) {
        return error;
    }
    error = os_link(directory, claim->unique_name, claim->file);
    if (error == 0) {
        error = unpublish_if_numbered_apart(attempt, claim);
    }
    place_end_removal(directory, false);
    return error;
}

/* Links the unique file, and believes the directory rather than the answer: a
 * network server may have done it and lost the reply. Links are never counted:
 * a backup that makes one of its own would make the count lie. */
static int
publish(struct attempt *attempt, const struct owned *claim)
{
    int refused = link_carefully(attempt, claim);
    if (refused == 0) {
        return 0;
    }
    int error = check_published(attempt, claim);
    /* Not there: then what refused the link is the news. */
    return error == ENOENT ? refused : error;
}

/* A contender leaves nothing, even when it is killed while it waits. If we could
 * not see whether the link was made, the unique file stays: without it nobody
 * could tell whose lock file that is. */
static void
withdraw(struct attempt *attempt, struct owned *claim)
{
    if (check_published(attempt, claim) == ENOENT) {
        owner_remove(&attempt->directory, claim->unique_name, claim->beacon.inode);
    }
    table_drop(claim);
}

enum outcome
link_claim(struct attempt *attempt)
{
    const struct lock *lock = attempt->lock;
    struct owned *claim = table_new(lock->mechanism, attempt->owner, lock_name(lock), "");
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
    error = place_enter(attempt, claim, claim->beacon.inode) ? publish(attempt, claim) : ECANCELED;
    if (error == 0) {
        return place_own(attempt, claim);
    }
    withdraw(attempt, claim);
    refuse_link(attempt, error);
    return error == EEXIST ? LOCK_HELD : error == ENOENT ? LOCK_FREE : LOCK_FAILED;
}

/* ---- Judge ---- */

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
    static const char not_ours[] = "its lock file was not made by this protocol";
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
    error = attempt->ground.local ? 0 : look_by_unique_name(attempt);
    if (error != 0) {
        return place_hold(attempt, error == EWOULDBLOCK ? LIFE_ALIVE : LIFE_UNKNOWN, NULL);
    }
    return place_judge_name(attempt);
}

static enum outcome
link_judge(struct attempt *attempt)
{
    enum outcome outcome = place_look_at_beacon(attempt, &attempt->found);
    return outcome == LOCK_STALE ? judge_dark(attempt) : outcome;
}

/* ---- Break and release ---- */

/* Takes the beacon under one of its names. Writing is needed on network file systems only. */
static int
take_by_name(struct attempt *attempt, const char *name)
{
    int error =
        place_open_beacon(&attempt->directory, name, attempt->found.inode, &attempt->beacon);
    return error == 0 ? owner_take_beacon(&attempt->beacon) : error;
}

static int
link_take_beacon(struct attempt *attempt, struct os_file **beacon)
{
    if (attempt->ground.local) {
        *beacon = &attempt->found;
        return owner_take_beacon(*beacon);
    }
    int error = take_by_name(attempt, attempt->lock->file);
    if (error == 0) {
        /* One beacon for both names, on most file systems: it is given back before
         * the other name is asked. The proof is that each was granted. */
        os_flock(&attempt->beacon, OS_UNLOCK);
        os_close(&attempt->beacon);
        error = take_by_name(attempt, attempt->found_name);
    }
    *beacon = &attempt->beacon;
    return error;
}

/* The lock file first, the unique file second: cut in the middle, the other order
 * would leave a lock file that nobody can attribute. */
static int
link_remove(const struct os_file *directory, const char *file, const struct os_file *inside,
            const char *unique_name, struct os_file *beacon, remover *remove_unique, bool *freed)
{
    (void)inside;
    int error = os_unlink(directory, file);
    if (error != 0 && error != ENOENT) { /* gone: by a removal whose reply was lost */
        return error;
    }
    *freed = true;
    error = remove_unique(directory, unique_name, beacon->inode);
    return error == ENOENT ? 0 : error;
}

/* By the unique name, which is ours alone: the inode's number may have been
 * given to another lock since the descriptor went that pinned it. */
static int
link_mend(struct owned *owned)
{
    return os_is_open(&owned->beacon) ? 0 : place_relight(owned, &owned->directory);
}

const struct shape link_shape = {
    .judge = link_judge,
    .take_beacon = link_take_beacon,
    .remove = link_remove,
    .mend = link_mend,
    .condemn = os_unlink,
};
