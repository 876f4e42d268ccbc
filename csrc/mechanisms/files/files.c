/* What the mechanisms on the file system do alike, whatever the shape of the lock file. */
#include "mechanisms/files/files.h"

#include "core/vain.h"
#include "mechanisms/files/removals.h"
#include "mechanisms/files/search.h"
#include "mechanisms/files/shape.h"
#include "mechanisms/files/sweep.h"

#include <errno.h>

static const struct shape *
shape_of(enum os_kind kind)
{
    return kind == OS_DIRECTORY ? &mkdir_shape : &link_shape;
}

static void
end_condemning(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    if (place->is_condemning) {
        removals_admit(&place->directory, attempt->ground.local);
        place->is_condemning = false;
    }
}

/* The last try, for who is not called again. */
static void
finish_emptied(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    if (place->is_emptied && os_is_open(&place->directory)) {
        place->shape->finish(&place->directory, attempt->lock->file, &place->found);
    }
    place->is_emptied = false;
}

static void
files_close(struct attempt *attempt)
{
    finish_emptied(attempt);
    end_condemning(attempt);
    mkdir_end_backing_off(attempt);
    place_close(attempt);
}

/* ---- Look ---- */

static enum outcome
files_look(struct attempt *attempt, bool will_wait)
{
    struct files_place *place = place_of(attempt);
    struct os_status status;
    if (place->is_emptied) {
        return LOCK_STALE; /* its removal goes on */
    }
    enum outcome outcome = place_find(attempt, will_wait, &status);
    if (outcome != LOCK_FOUND) {
        return outcome;
    }
    outcome = judge_by_table(attempt);
    if (outcome != LOCK_FOUND) {
        return outcome;
    }
    if (status.kind == OS_OTHER) {
        return judge_held(attempt, LIFE_UNKNOWN, "its lock file is a special file");
    }
    place->shape = shape_of(status.kind);
    return place->shape->judge(attempt);
}

static bool
files_is_there(struct attempt *attempt)
{
    struct os_status status;
    return os_status_at(&place_of(attempt)->directory, attempt->lock->file, &status) != ENOENT;
}

static void
files_identify(struct attempt *attempt)
{
    struct holder *holder = &attempt->report.holder;
    const struct files_place *place = place_of(attempt);
    char name[NAME_SIZE];
    holder->beacon = os_is_none(&place->beacon) ? place->found.inode : place->beacon.inode;
    if (!holder->known && !os_is_none(&place->found) &&
        search_unique_name(&place->directory, attempt->lock->file, place->found.inode, name) == 0) {
        holder->known = proof_read_name(name, &holder->name);
    }
}

/* ---- Break ---- */

static enum outcome
cannot_take_beacon(struct attempt *attempt, int error)
{
    if (error == ENOENT) {
        return LOCK_FREE;
    }
    if (os_is_refused(error)) {
        wait_hurry(&attempt->wait); /* it lives, or another breaks it right now */
        return judge_held(attempt, LIFE_UNKNOWN, NULL);
    }
    if (os_is_forbidden(error)) {
        attempt->report.error = error;
        return judge_held(attempt, LIFE_UNKNOWN, "its owner cannot be proven dead");
    }
    return judge_failed(&attempt->report, error, "take the beacon of the stale lock file");
}

static enum outcome
cannot_remove_stale(struct attempt *attempt, int error)
{
    if (error == ENOENT) {
        return LOCK_FREE;
    }
    if (os_is_forbidden(error) || error == EBUSY) {
        attempt->report.error = error;
        return judge_held(attempt, LIFE_DEAD, "its lock file cannot be removed");
    }
    return judge_failed(&attempt->report, error, "remove the stale lock file");
}

static enum outcome
refuse_removal(struct attempt *attempt)
{
    wait_hurry(&attempt->wait); /* a break_lock() is at work */
    return judge_held(attempt, LIFE_DEAD, "its directory is locked by another program");
}

/* The lock directory was emptied, and is in nobody's way for long: WAITING, FREE. */
static enum outcome
finish_stale(struct attempt *attempt, int error)
{
    struct files_place *place = place_of(attempt);
    place->is_emptied = place->shape->finish != NULL && place_is_patient(attempt, error);
    return place->is_emptied ? LOCK_WAITING : LOCK_FREE;
}

static enum outcome
go_on_removing_stale(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    bool local = attempt->ground.local;
    int error = removals_begin(&place->directory, local);
    if (error == 0) {
        error = place->shape->finish(&place->directory, attempt->lock->file, &place->found);
        removals_end(&place->directory, local);
    }
    enum outcome outcome = finish_stale(attempt, error);
    if (outcome == LOCK_FREE) {
        sweep_all(&place->directory, attempt->ground);
    }
    return outcome;
}

/* Holding the beacon, by which breakers take turns. */
static enum outcome
remove_stale(struct attempt *attempt, struct os_file *beacon)
{
    struct files_place *place = place_of(attempt);
    const struct os_file *directory = &place->directory;
    const char *file = attempt->lock->file;
    bool local = attempt->ground.local;
    bool freed = false;
    if (removals_begin(directory, local) != 0) {
        return refuse_removal(attempt);
    }
    /* Between the look and the beacon another breaker may have been here. */
    int error = entry_check_afresh(directory, file, place->found.inode, local);
    if (error == 0) {
        error = place->shape->remove(directory, file, &place->found, place->found_name, beacon,
                                     entry_remove_dead, &freed);
    }
    removals_end(directory, local);
    if (freed) {
        attempt_renew_patience(attempt);
    }
    return freed ? finish_stale(attempt, error) : cannot_remove_stale(attempt, error);
}

/* Breakers take turns by the beacon, which a look keeps from them for some microseconds; or for
 * as long as the process is stopped that looks. */
#define LOOK_TIME (100 * OS_MILLISECOND)

static bool
is_refused_for_long(const struct attempt *attempt)
{
    return attempt->ground.local && vain_refused_for(attempt->lock, attempt->found) >= LOOK_TIME;
}

/* Past a look that does not end. Shared, the beacon proves as well that the owner is dead, and
 * keeps it from lighting it again, and keeps off who has it alone. Those who share it take turns
 * by a mark on the lock file: who sees another's goes back. */
static int
take_beacon_beside_a_look(const struct files_place *place, const struct os_file *beacon)
{
    int error = os_flock(beacon, OS_SHARED);
    if (error == 0) {
        error = os_mark(&place->found, OS_TURN);
    }
    return error != 0 ? error : os_find_mark(&place->found, OS_TURN);
}

static enum outcome
files_break_stale(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    struct os_file *beacon;
    if (place->is_emptied) {
        return go_on_removing_stale(attempt);
    }
    int error = place->shape->take_beacon(attempt, &beacon);
    bool beside = os_is_refused(error) && is_refused_for_long(attempt);
    if (beside) {
        error = take_beacon_beside_a_look(place, beacon);
    }
    enum outcome outcome =
        error == 0 ? remove_stale(attempt, beacon) : cannot_take_beacon(attempt, error);
    if (beside || error == 0) {
        os_flock(beacon, OS_UNLOCK); /* outright: a fork may have copied the descriptor */
    }
    if (beside) {
        os_unmark(&place->found, OS_TURN);
    }
    if (error == 0 && outcome == LOCK_FREE) {
        sweep_all(&place->directory, attempt->ground);
    }
    return outcome;
}

/* ---- What is owned ---- */

/* Programs close descriptors behind our back (daemons close all). ENOENT: what they
 * stood for is not there any more. */
static int
mend(struct files_claim *claim)
{
    int error = os_is_open(&claim->directory) ? 0 : place_reopen(claim);
    return error != 0 ? error : claim->shape->mend(claim);
}

static int
check_own(const struct files_claim *claim)
{
    return entry_check_afresh(&claim->directory, claim->claim.file, claim->inode, claim->local);
}

static enum outcome
files_confirm(struct attempt *attempt, struct claim *base)
{
    struct files_claim *claim = files_claim_of(base);
    int error = mend(claim);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    if (error == 0) {
        error = check_own(claim);
    }
    if (error == 0 && !place_is_there(claim)) {
        return LOCK_FREE;
    }
    return error == 0        ? LOCK_OWNED
           : error == ENOENT ? LOCK_BROKEN
                             : judge_failed(&attempt->report, error, "look at the lock file");
}

/* The lock file is not ours any more: nor shall the unique file be. */
static void
files_discard(struct claim *base)
{
    struct files_claim *claim = files_claim_of(base);
    mend(claim);
    entry_remove(&claim->directory, base->unique_name, base->beacon.inode);
    place_drop(claim);
}

/* What is emptied is not owned: once more, then. */
static void
files_stop_release(struct claim *base)
{
    struct files_claim *claim = files_claim_of(base);
    if (claim->is_emptied) {
        claim->shape->finish(&claim->directory, base->file, &claim->inside);
        place_drop(claim);
    } else {
        table_keep(base);
    }
}

static void
files_abandon(struct claim *claim)
{
    place_drop(files_claim_of(claim));
}

/* ---- Release ---- */

static enum outcome
still_owned(struct report *report, int error, const char *doing)
{
    report->owned = true;
    if (os_is_refused(error)) {
        report->reason = "another program has it locked";
    }
    return judge_failed(report, error, doing);
}

/* Keeps off break_lock(). */
static int
begin_removing_own(struct files_claim *claim)
{
    int error = mend(claim);
    return error != 0 ? error : removals_begin(&claim->directory, claim->local);
}

/* Where waiters leave their marks: the lock file. */
static const struct os_file *
marked_file(const struct files_claim *claim)
{
    return os_is_none(&claim->inside) ? &claim->claim.beacon : &claim->inside;
}

/* It is not owned any more; and the lock directory is gone, unless the error says otherwise. */
static enum outcome
finish_release(struct attempt *attempt, struct files_claim *claim, int error)
{
    claim->is_emptied = claim->shape->finish != NULL && place_is_patient(attempt, error);
    if (claim->is_emptied) {
        return LOCK_WAITING;
    }
    place_drop(claim);
    error = error == EAGAIN ? ENOTEMPTY : error;
    return error == 0 ? LOCK_RELEASED
                      : judge_failed(&attempt->report, error, "remove the rest of it");
}

static enum outcome
go_on_releasing(struct attempt *attempt, struct files_claim *claim)
{
    int error = removals_begin(&claim->directory, claim->local);
    if (error == 0) {
        error = claim->shape->finish(&claim->directory, claim->claim.file, &claim->inside);
        removals_end(&claim->directory, claim->local);
    }
    return finish_release(attempt, claim, error);
}

/* The beacon goes last. */
static enum outcome
remove_own(struct attempt *attempt, struct files_claim *claim, bool *has_waiters)
{
    struct claim *base = &claim->claim;
    bool freed = false;
    *has_waiters = claim->local && os_has_waiters(marked_file(claim), OS_FILE_QUEUE);
    int error = claim->shape->remove(&claim->directory, base->file, &claim->inside,
                                     base->unique_name, &base->beacon, entry_remove, &freed);
    if (freed && error == EAGAIN) {
        removals_end(&claim->directory, claim->local);
    }
    if (freed) {
        attempt_renew_patience(attempt);
        return finish_release(attempt, claim, error);
    }
    if (error == ENOENT) {
        files_discard(base);
        return LOCK_BROKEN;
    }
    removals_end(&claim->directory, claim->local);
    return still_owned(&attempt->report, error, "remove the lock file");
}

static enum outcome
files_release(struct attempt *attempt, struct claim *base, bool *has_waiters)
{
    struct files_claim *claim = files_claim_of(base);
    *has_waiters = false;
    if (claim->is_emptied) {
        return go_on_releasing(attempt, claim);
    }
    int error = begin_removing_own(claim);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    if (error == 0 && (error = check_own(claim)) != 0) {
        removals_end(&claim->directory, claim->local);
    }
    if (error == 0) {
        return remove_own(attempt, claim, has_waiters);
    }
    if (error == ENOENT) {
        files_discard(base);
        return LOCK_BROKEN;
    }
    return still_owned(&attempt->report, error, "make sure of the lock file");
}

/* ---- break_lock() ---- */

/* Keeps removals off, and waits until none is in course. EAGAIN: one is; EWOULDBLOCK: another keeps
 * us off, or one takes too long. */
static int
begin_condemning(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    if (!place->is_condemning) {
        int error = removals_exclude(&place->directory, attempt->ground.local, &place->is_marked);
        if (error != 0) {
            return error;
        }
        place->is_condemning = true;
        place->condemns_until = os_now() + REMOVALS_TIME;
    }
    int error = place->is_marked ? removals_find(&place->directory) : 0;
    if (os_is_refused(error) && os_now() < place->condemns_until) {
        return EAGAIN;
    }
    if (error != 0) {
        end_condemning(attempt);
    }
    return error;
}

/* Removes what is there if it is what was waited for. EAGAIN: it is emptied. */
static int
condemn(struct attempt *attempt, const struct identity *waited_for)
{
    struct files_place *place = place_of(attempt);
    const struct os_file *directory = &place->directory;
    const char *file = attempt->lock->file;
    struct os_identity there;
    struct os_status status;
    struct owner owner;
    int error = os_identify(directory, file, &there);
    if (error == 0) {
        error = os_status_at(directory, file, &status);
    }
    if (error != 0) {
        return error;
    }
    struct table_key key = {place_identity(directory, there.inode), file};
    key.identity.born = there.born;
    if (waited_for != NULL && !identity_is_same(key.identity, *waited_for)) {
        return 0;
    }
    if (!table_find(key, &owner, &attempt->condemned)) {
        attempt->condemned = 0;
    }
    place->shape = shape_of(status.kind);
    error = place->shape->condemn(directory, file, &place->found);
    place->is_emptied = error == EAGAIN && place->shape->finish != NULL;
    return error;
}

static enum outcome
cannot_condemn(struct attempt *attempt, int error)
{
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    if (os_is_refused(error)) {
        attempt->report.reason = "another program has it locked";
    }
    return judge_failed(&attempt->report, error, "lock the directory");
}

static enum outcome
files_condemn(struct attempt *attempt, const struct identity *waited_for)
{
    struct files_place *place = place_of(attempt);
    int error = begin_condemning(attempt);
    if (error != 0) {
        return cannot_condemn(attempt, error);
    }
    if (place->is_emptied) {
        error = place->shape->finish(&place->directory, attempt->lock->file, &place->found);
    } else {
        error = condemn(attempt, waited_for);
        attempt_renew_patience(attempt);
    }
    if (error == EAGAIN && place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    place->is_emptied = false;
    end_condemning(attempt);
    error = error == EAGAIN ? ENOTEMPTY : error;
    if (error != 0 && !os_is_absent(error)) {
        return judge_failed(&attempt->report, error, "remove the lock file");
    }
    place->must_sweep = error == 0;
    return LOCK_FREE;
}

static void
files_tidy(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    if (place->must_sweep) {
        place->must_sweep = false;
        sweep_all(&place->directory, attempt->ground);
    }
}

/* ---- The mechanisms ---- */

#define FILES_OPERATIONS                                                                        \
    .begin = place_begin, .leave_to_parent = place_leave_to_parent, .open = place_open,         \
    .close = files_close, .look = files_look, .is_there = files_is_there,                       \
    .identify = files_identify, .recognise = place_recognise, .break_stale = files_break_stale, \
    .confirm = files_confirm, .discard = files_discard, .release = files_release,               \
    .stop_release = files_stop_release, .abandon = files_abandon, .condemn = files_condemn,     \
    .tidy = files_tidy

const struct mechanism link_mechanism = {FILES_OPERATIONS, .claim = link_claim};
const struct mechanism mkdir_mechanism = {
    FILES_OPERATIONS,
    .claim = mkdir_claim,
    .unique_file_is_inside = true,
};
