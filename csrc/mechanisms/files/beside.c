#include "mechanisms/files/beside.h"

#include "mechanisms/files/readers.h"
#include "mechanisms/files/removals.h"

#include <errno.h>

/* ---- Claim ---- */

int
beside_light_and_write(const struct unique_want *want, const char *name, struct os_file *beacon,
                       int (*write)(const struct unique_want *want, const struct os_file *beacon))
{
    int error = unique_file.light(want, name, beacon);
    if (error == 0 && (error = write(want, beacon)) != 0) {
        entry_remove(want->directory, name, beacon->inode);
        os_close(beacon);
    }
    return error;
}

static enum outcome
refuse(struct attempt *attempt, const struct beside *beside, int error)
{
    /* EACCES is a policy of the system, since in this directory a file could be made. */
    if (os_link_is_unsupported(error)) {
        attempt->report.reason = beside->refused;
    }
    judge_failed(&attempt->report, error, beside->publishing);
    return error == EEXIST ? LOCK_HELD : error == ENOENT ? LOCK_FREE : LOCK_FAILED;
}

static int
check_published(struct attempt *attempt, const struct files_claim *claim)
{
    const struct claim *base = &claim->claim;
    return claim->shape->check(&place_of(attempt)->directory, base->file, base->beacon.inode,
                               base->unique_name, attempt->ground.local);
}

/* Believes the directory rather than the answer: a network server may have done it and lost the
 * reply. */
static int
publish(struct attempt *attempt, const struct beside *beside, const struct files_claim *claim)
{
    int refused = beside->publish(attempt, claim);
    if (refused == 0) {
        return 0;
    }
    int error = check_published(attempt, claim);
    /* Not there: then what refused it is the news. */
    return error == ENOENT ? refused : error;
}

/* A contender leaves nothing, even when it is killed while it waits. If we could not see whether
 * the lock file was made, the unique file stays: without it nobody could tell whose lock file that
 * is.
 */
static void
withdraw(struct attempt *attempt, struct files_claim *claim)
{
    const struct claim *base = &claim->claim;
    if (check_published(attempt, claim) == ENOENT) {
        entry_remove(&place_of(attempt)->directory, base->unique_name, base->beacon.inode);
    }
    place_drop(claim);
}

/* Where a lock file is checked once it is made, no break_lock() shall come in between. */
static int
begin_publishing(struct attempt *attempt)
{
    return attempt->ground.local ? 0 : removals_begin(&place_of(attempt)->directory, false);
}

static void
end_publishing(struct attempt *attempt)
{
    if (!attempt->ground.local) {
        removals_end(&place_of(attempt)->directory, false);
    }
}

/* The chosen name is taken: by another owner that has chosen it, or is it somebody's file? */
static enum outcome
refuse_chosen(struct attempt *attempt, const char *name)
{
    struct os_status status;
    int error = os_status_at(&place_of(attempt)->directory, name, &status);
    if (error == ENOENT) {
        return LOCK_FREE;
    }
    if (error == 0 && status.kind == OS_REGULAR && status.stamped) {
        return LOCK_HELD;
    }
    return judge_failed(&attempt->report, EEXIST, "create the unique file");
}

static struct unique_want
want_file(struct attempt *attempt, const struct beside *beside)
{
    const struct lock *lock = attempt->lock;
    bool chooses = beside->takes_chosen_name && attempt->ground.local &&
                   lock->chosen_name[0] != '\0' && !attempt->shares;
    return (struct unique_want){
        .directory = &place_of(attempt)->directory,
        .host = lock->host,
        .owner = attempt->owner,
        .ground = attempt->ground,
        .file = lock->file,
        .chosen = chooses ? lock->chosen_name : NULL,
    };
}

static int
make_readers_file(const struct unique_want *want, const char *name, void *made)
{
    struct files_claim *claim = made;
    return unique_file.make(want, name, &claim->claim.beacon);
}

static int
light_readers_file(const struct unique_want *want, const char *name, void *made)
{
    return readers_light(made, want->directory, want->ground, name, os_open);
}

/* A first reader's; made is its claim. */
static const struct unique_kind readers_file = {
    .make = make_readers_file,
    .light = light_readers_file,
};

static enum outcome
make_claim(struct attempt *attempt, const struct beside *beside, struct files_claim *claim)
{
    struct claim *base = &claim->claim;
    struct unique_want want = want_file(attempt, beside);
    int error = base->is_shared
                    ? unique_make(want, &readers_file, claim, base->unique_name)
                    : unique_make(want, beside->unique, &base->beacon, base->unique_name);
    if (error != 0) {
        end_publishing(attempt);
        place_drop(claim);
        if (error == EEXIST && want.chosen != NULL) {
            return refuse_chosen(attempt, want.chosen);
        }
        attempt->report.reason = unique_explain(error);
        judge_failed(&attempt->report, error, "create the unique file");
        return error == ENOENT ? LOCK_FREE : LOCK_FAILED;
    }
    bool entered = place_enter(attempt, claim, base->beacon.inode);
    error = entered ? publish(attempt, beside, claim) : ECANCELED;
    end_publishing(attempt);
    if (error == 0) {
        return place_own(attempt, claim);
    }
    withdraw(attempt, claim);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING; /* another program has what was made open */
    }
    return refuse(attempt, beside, error);
}

enum outcome
beside_claim(struct attempt *attempt, const struct beside *beside)
{
    int error = begin_publishing(attempt);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    if (error != 0) {
        return refuse(attempt, beside, error);
    }
    struct files_claim *claim = place_new_claim(attempt, beside->shape);
    if (claim == NULL) {
        end_publishing(attempt);
        return LOCK_FAILED;
    }
    return make_claim(attempt, beside, claim);
}

/* ---- Operations ---- */

int
beside_check(const struct os_file *directory, const char *file, struct os_inode inode,
             const char *unique_name, bool local)
{
    (void)unique_name;
    return entry_check_afresh(directory, file, inode, local);
}

/* Takes the beacon under one of its names. Writing is needed on network file systems only. */
static int
take_by_name(struct files_place *place, const char *name)
{
    int error =
        unique_open_beacon(&place->directory, name, place->found.inode, os_open, &place->beacon);
    return error == 0 ? unique_take_beacon(&place->beacon) : error;
}

/* On a file system that is not local, under each of these names in turn. */
int
beside_take_beacon(struct attempt *attempt, const char *const names[], struct os_file **beacon)
{
    struct files_place *place = place_of(attempt);
    if (attempt->ground.local) {
        *beacon = &place->found;
        return unique_take_beacon(*beacon);
    }
    *beacon = &place->beacon;
    int error = take_by_name(place, *names);
    while (error == 0 && *++names != NULL) {
        /* One beacon for all names, on most file systems: it is given back before
         * the next name is asked. The proof is that each was granted. */
        os_flock(&place->beacon, OS_UNLOCK);
        os_close(&place->beacon);
        error = take_by_name(place, *names);
    }
    return error;
}

/* The lock file first, the unique file second: cut in the middle, the other order
 * would leave a lock file that nobody can attribute. A unique file that another program has open is
 * left, where that keeps it from being removed: it is in nobody's way. */
int
beside_remove(const struct os_file *directory, const char *file, const struct os_file *inside,
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
    return error == ENOENT || os_is_refused(error) ? 0 : error;
}

/* By the unique name, which is ours alone: the inode's number may have been
 * given to another lock since the descriptor went that pinned it. */
int
beside_mend(struct files_claim *claim)
{
    return claim->is_lit_shared ? readers_mend(claim, &claim->directory)
                                : place_mend_beacon(claim, &claim->directory);
}
