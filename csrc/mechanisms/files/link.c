/* The lock file of LinkFileLock: a hard link to the owner's unique file. link()
 * makes it or refuses, on every file system that has hard links, network ones
 * included. */
#include "mechanisms/files/removals.h"
#include "mechanisms/files/search.h"
#include "mechanisms/files/shape.h"
#include "mechanisms/files/unique.h"

#include <errno.h>

/* ---- Claim ---- */

static enum outcome
refuse_link(struct attempt *attempt, int error)
{
    /* EACCES is a policy of the system, since in this directory a file could be made. */
    if (os_link_is_unsupported(error)) {
        attempt->report.reason = "hard links are refused here; MkdirFileLock needs none";
    }
    judge_failed(&attempt->report, error, "link the unique file");
    return error == EEXIST ? LOCK_HELD : error == ENOENT ? LOCK_FREE : LOCK_FAILED;
}

static int
check_published(struct attempt *attempt, const struct files_claim *claim)
{
    return entry_check_afresh(&place_of(attempt)->directory, claim->claim.file,
                              claim->claim.beacon.inode, attempt->ground.local);
}

/* Some FUSE file systems number hard links apart: there nobody could ever tell
 * whose a lock file is. Nobody breaks it meanwhile, so it is what we have made. */
static int
unpublish_if_numbered_apart(struct attempt *attempt, const struct files_claim *claim)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    struct os_identity lock_file, unique;
    int error = check_published(attempt, claim);
    if (error != ENOENT) {
        return error; /* not seen is not numbered apart */
    }
    if (os_identify(directory, claim->claim.file, &lock_file) != 0 ||
        os_identify(directory, claim->claim.unique_name, &unique) != 0 ||
        lock_file.born != unique.born) {
        return EEXIST;
    }
    os_unlink(directory, claim->claim.file);
    return EOPNOTSUPP;
}

static int
link_and_check(struct attempt *attempt, const struct files_claim *claim)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    if (attempt->ground.local) {
        return os_link(directory, claim->claim.unique_name, claim->claim.file);
    }
    int error = os_link(directory, claim->claim.unique_name, claim->claim.file);
    return error != 0 ? error : unpublish_if_numbered_apart(attempt, claim);
}

/* Links the unique file, and believes the directory rather than the answer: a
 * network server may have done it and lost the reply. Links are never counted:
 * a backup that makes one of its own would make the count lie. */
static int
publish(struct attempt *attempt, const struct files_claim *claim)
{
    int refused = link_and_check(attempt, claim);
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
withdraw(struct attempt *attempt, struct files_claim *claim)
{
    const struct claim *base = &claim->claim;
    if (check_published(attempt, claim) == ENOENT) {
        entry_remove(&place_of(attempt)->directory, base->unique_name, base->beacon.inode);
    }
    place_drop(claim);
}

/* Where a link is checked once it is made, no break_lock() shall come in between. */
static int
begin_linking(struct attempt *attempt)
{
    return attempt->ground.local ? 0 : removals_begin(&place_of(attempt)->directory, false);
}

static void
end_linking(struct attempt *attempt)
{
    if (!attempt->ground.local) {
        removals_end(&place_of(attempt)->directory, false);
    }
}

static enum outcome
make_claim(struct attempt *attempt, struct files_claim *claim)
{
    struct claim *base = &claim->claim;
    struct unique_want want = {&place_of(attempt)->directory, attempt->lock->host, attempt->owner,
                               attempt->ground, attempt->lock->file};
    int error = unique_make(want, &unique_file, &base->beacon, base->unique_name);
    if (error != 0) {
        end_linking(attempt);
        place_drop(claim);
        attempt->report.reason = unique_explain(error);
        judge_failed(&attempt->report, error, "create the unique file");
        return error == ENOENT ? LOCK_FREE : LOCK_FAILED;
    }
    error = place_enter(attempt, claim, base->beacon.inode) ? publish(attempt, claim) : ECANCELED;
    end_linking(attempt);
    if (error == 0) {
        return place_own(attempt, claim);
    }
    withdraw(attempt, claim);
    return refuse_link(attempt, error);
}

enum outcome
link_claim(struct attempt *attempt)
{
    int error = begin_linking(attempt);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    if (error != 0) {
        return refuse_link(attempt, error);
    }
    struct files_claim *claim = place_new_claim(attempt, &link_shape);
    if (claim == NULL) {
        end_linking(attempt);
        return LOCK_FAILED;
    }
    return make_claim(attempt, claim);
}

/* ---- Judge ---- */

/* Some FUSE file systems give two kernel inodes to two hard links: then a beacon
 * is seen by the name alone that it was taken by. */
static int
look_by_unique_name(const struct files_place *place)
{
    struct os_file file;
    struct os_status status;
    int error = os_open(&place->directory, place->found_name, OS_READ, &file, &status);
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
    struct files_place *place = place_of(attempt);
    struct identity there = place_recognise(attempt);
    if (!identity_is_none(there) && identity_is_same(there, place->foreign)) {
        return judge_held(attempt, LIFE_UNKNOWN, not_ours); /* a directory is long to search */
    }
    int error = search_unique_name(&place->directory, attempt->lock->file, place->found.inode,
                                   place->found_name);
    if (error == ENOENT) {
        error = entry_check(&place->directory, attempt->lock->file, place->found.inode);
        if (error == ENOENT) {
            return LOCK_FREE; /* released while we searched */
        }
        place->foreign = there;
        return judge_held(attempt, LIFE_UNKNOWN, not_ours);
    }
    if (error != 0) {
        return judge_failed(&attempt->report, error, "list the directory");
    }
    error = attempt->ground.local ? 0 : look_by_unique_name(place);
    if (error != 0) {
        return judge_held(attempt, os_is_refused(error) ? LIFE_ALIVE : LIFE_UNKNOWN, NULL);
    }
    return judge_by_name(attempt, place->found_name);
}

static enum outcome
link_judge(struct attempt *attempt)
{
    enum outcome outcome = place_look_at_beacon(attempt, &place_of(attempt)->found);
    return outcome == LOCK_STALE ? judge_dark(attempt) : outcome;
}

/* ---- Break and release ---- */

/* Takes the beacon under one of its names. Writing is needed on network file systems only. */
static int
take_by_name(struct files_place *place, const char *name)
{
    int error = unique_open_beacon(&place->directory, name, place->found.inode, &place->beacon);
    return error == 0 ? unique_take_beacon(&place->beacon) : error;
}

static int
link_take_beacon(struct attempt *attempt, struct os_file **beacon)
{
    struct files_place *place = place_of(attempt);
    if (attempt->ground.local) {
        *beacon = &place->found;
        return unique_take_beacon(*beacon);
    }
    int error = take_by_name(place, attempt->lock->file);
    if (error == 0) {
        /* One beacon for both names, on most file systems: it is given back before
         * the other name is asked. The proof is that each was granted. */
        os_flock(&place->beacon, OS_UNLOCK);
        os_close(&place->beacon);
        error = take_by_name(place, place->found_name);
    }
    *beacon = &place->beacon;
    return error;
}

/* The lock file first, the unique file second: cut in the middle, the other order
 * would leave a lock file that nobody can attribute. */
static int
link_remove(const struct os_file *directory, const char *file, const struct os_file *inside,
            const char *unique_name, struct os_file *beacon, entry_remover *remove_unique,
            bool *freed)
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
link_mend(struct files_claim *claim)
{
    bool is_open = os_is_open(&claim->claim.beacon);
    return is_open ? 0 : place_relight(claim, &claim->directory);
}

static int
link_condemn(const struct os_file *directory, const char *file, struct os_file *emptied)
{
    (void)emptied;
    return os_unlink(directory, file);
}

const struct shape link_shape = {
    .judge = link_judge,
    .take_beacon = link_take_beacon,
    .remove = link_remove,
    .mend = link_mend,
    .condemn = link_condemn,
};
