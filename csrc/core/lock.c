/* The order in which a lock is looked at, released and broken. How it is acquired: acquire.c. */
#include "core/lock.h"

#include "core/fairness.h"
#include "core/judge.h"
#include "core/mechanism.h"
#include "core/own.h"
#include "core/vain.h"

#include <errno.h>
#include <string.h>

enum outcome
lock_run(struct attempt *attempt, lock_operation *operation)
{
    enum outcome outcome;
    attempt->reached = false; /* the program may have closed it since the last run */
    attempt->runs = true;
    while ((outcome = operation(attempt)) == LOCK_WAITING && wait_sleep(&attempt->wait) == 0) {
    }
    attempt->runs = false;
    wait_admit_signals(&attempt->wait);
    return outcome == LOCK_WAITING ? LOCK_INTERRUPTED : outcome;
}

/* More than these are as many as there are. */
#define COUNTED_READERS 256

/* ---- Look ---- */

/* Judges what is there. OWNED: the claim is still true. If it was broken, there may be another's by
 * now, or what was ours may not say so any more. */
static enum outcome
look_and_confirm(struct attempt *attempt)
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    enum outcome outcome = mechanism->look(attempt, false);
    if (outcome != LOCK_OWNED) {
        return outcome;
    }
    outcome = own_look_up_found(attempt);
    if (outcome == LOCK_FREE) {
        outcome = mechanism->look(attempt, false);
        return outcome == LOCK_OWNED ? LOCK_FREE : outcome;
    }
    return outcome;
}

static enum outcome
look_around(struct attempt *attempt)
{
    enum outcome outcome = own_look_up(attempt);
    if (outcome != LOCK_FREE) {
        return outcome;
    }
    attempt->reached = false;
    outcome = attempt_reach_to_look(attempt);
    return outcome == LOCK_FOUND ? look_and_confirm(attempt) : outcome;
}

enum outcome
lock_look(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    return attempt_end_step(attempt, look_around(attempt));
}

/* Of what the owner shares; the path was not looked at yet. */
static void
count_readers(struct attempt *attempt)
{
    struct os_reader readers[COUNTED_READERS];
    const struct mechanism *mechanism = attempt->lock->mechanism;
    if (mechanism->list_readers != NULL && attempt_reach(attempt) == 0) {
        attempt->report.holder.readers = mechanism->list_readers(attempt, readers, COUNTED_READERS);
    }
}

static enum outcome
identify(struct attempt *attempt)
{
    enum outcome outcome = look_around(attempt);
    if (outcome == LOCK_OWNED) {
        own_identify(attempt);
        if (attempt->is_owned_shared) {
            count_readers(attempt);
        }
    } else if (outcome == LOCK_HELD || outcome == LOCK_STALE) {
        attempt->lock->mechanism->identify(attempt);
    }
    return outcome;
}

/* Of what was found just now, or of the owner's own. */
static int64_t
find_birth(struct attempt *attempt, enum outcome outcome)
{
    bool is_own = outcome == LOCK_OWNED;
    if (!(is_own || outcome == LOCK_HELD || outcome == LOCK_STALE) || attempt_reach(attempt) != 0) {
        return 0;
    }
    struct identity there = attempt->lock->mechanism->recognise(attempt);
    return is_own || identity_is_alike(there, attempt->found) ? there.born : 0;
}

enum outcome
lock_identify(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    enum outcome outcome = identify(attempt);
    attempt->report.holder.since = find_birth(attempt, outcome);
    return attempt_end_step(attempt, outcome);
}

/* ---- Release ---- */

/* The owner's claim, by this path or by another: OWNED, FREE, WAITING. */
static enum outcome
take_own(struct attempt *attempt, struct claim **claim)
{
    enum outcome outcome = own_take(attempt, NULL, claim);
    if (outcome != LOCK_FREE) {
        return outcome;
    }
    outcome = look_around(attempt);
    if (outcome == LOCK_OWNED) {
        struct table_key key = attempt_key(attempt);
        return own_take(attempt, &key, claim);
    }
    return outcome == LOCK_WAITING ? outcome : LOCK_FREE;
}

/* Counts one with block less, unless it is the outermost: that one counts until
 * the lock is released. */
static bool
leave_inner(struct claim *claim)
{
    os_mutex_lock();
    bool inner = claim->depth > 1;
    claim->depth -= inner;
    os_mutex_unlock();
    return inner;
}

static bool
others_keep(struct claim *claim)
{
    return claim->is_inheritable && !claim->mechanism->is_last(claim);
}

/* OWNED: the claim is this call's to release; RELEASED, FREE, WAITING. */
static enum outcome
begin_release(struct attempt *attempt)
{
    struct claim *claim;
    enum outcome outcome = take_own(attempt, &claim);
    if (outcome != LOCK_OWNED) {
        return outcome;
    }
    if (attempt->leaving && leave_inner(claim)) {
        table_keep(claim); /* another thread of this owner has entered meanwhile */
        return LOCK_RELEASED;
    }
    if (attempt->forsaking && others_keep(claim)) {
        claim->mechanism->abandon(claim);
        return LOCK_RELEASED;
    }
    table_begin_release(claim);
    attempt->releasing = claim;
    return LOCK_OWNED;
}

static void
keep_owned(struct attempt *attempt, struct claim *claim)
{
    if (attempt->leaving) {
        table_end_block(lock_name(attempt->lock), attempt->owner); /* it is over all the same */
    }
    table_keep(claim);
}

static enum outcome
go_on_releasing(struct attempt *attempt)
{
    bool has_waiters = false;
    struct claim *claim = attempt->releasing;
    enum outcome outcome = attempt->lock->mechanism->release(attempt, claim, &has_waiters);
    if (outcome == LOCK_WAITING) {
        return outcome;
    }
    attempt->releasing = NULL;
    attempt->report.releasing = outcome == LOCK_FAILED;
    if (outcome == LOCK_FAILED && attempt->report.owned) {
        keep_owned(attempt, claim);
    }
    if (outcome == LOCK_RELEASED && has_waiters) {
        fairness_owe(attempt->lock->lock_file, attempt->owner);
    }
    return outcome;
}

/* Whoever owns it now: what we had was broken. */
static enum outcome
tell_broken(struct attempt *attempt)
{
    attempt->broken = true;
    enum outcome outcome = identify(attempt);
    return outcome == LOCK_STALE ? LOCK_FREE : outcome == LOCK_OWNED ? LOCK_HELD : outcome;
}

/* Of a lock that says it is this process's, though nothing proves it: removed, if it is still the
 * one that was looked at. */
static enum outcome
release_unproven(struct attempt *attempt)
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    struct identity there = mechanism->recognise(attempt);
    if (!identity_is_alike(there, attempt->found)) {
        return LOCK_HELD;
    }
    enum outcome outcome = mechanism->condemn(attempt, &there);
    attempt->report.releasing = attempt->report.owned = outcome == LOCK_FAILED;
    if (outcome == LOCK_FREE) {
        mechanism->tidy(attempt);
        outcome = LOCK_RELEASED;
    }
    return outcome;
}

/* RELEASED, FAILED, WAITING; FREE, BROKEN: the owner has nothing, or had what was broken. */
static enum outcome
release_own(struct attempt *attempt)
{
    enum outcome outcome = attempt->releasing != NULL ? LOCK_OWNED : begin_release(attempt);
    return outcome == LOCK_OWNED ? go_on_releasing(attempt) : outcome;
}

/* What was claimed by this path may have been broken, and the lock claimed again by another. But
 * a block ends with its own claim, not with another's. */
static enum outcome
release(struct attempt *attempt)
{
    enum outcome outcome = attempt->broken ? LOCK_FREE : release_own(attempt);
    if (outcome == LOCK_BROKEN && !attempt->leaving) {
        outcome = release_own(attempt);
    }
    if (outcome == LOCK_FREE || outcome == LOCK_BROKEN) {
        outcome = tell_broken(attempt);
    }
    return outcome == LOCK_HELD && attempt->report.mine ? release_unproven(attempt) : outcome;
}

enum outcome
lock_release(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    return attempt_end_step(attempt, release(attempt));
}

/* ---- Readers ---- */

unsigned
lock_list_readers(struct attempt *attempt, struct os_reader readers[], unsigned most)
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    attempt_begin_step(attempt);
    bool can = mechanism->list_readers != NULL && attempt_reach(attempt) == 0;
    unsigned count = can ? mechanism->list_readers(attempt, readers, most) : 0;
    attempt_end_step(attempt, LOCK_HELD);
    return count;
}

/* The caller's own, for this call alone. */
static enum outcome
take_identified(struct attempt *attempt, struct claim **claim)
{
    enum outcome outcome = identify(attempt);
    return outcome == LOCK_OWNED ? take_own(attempt, claim) : outcome;
}

static enum outcome
downgrade(struct attempt *attempt)
{
    struct claim *claim;
    enum outcome outcome = take_identified(attempt, &claim);
    if (outcome != LOCK_OWNED) {
        return outcome;
    }
    const char *reason = lock_cannot_share(claim->mechanism);
    if (reason != NULL) {
        attempt->report.reason = reason;
        outcome = judge_failed(&attempt->report, EOPNOTSUPP, "share the lock");
    } else if (!claim->is_shared) {
        outcome = claim->mechanism->downgrade(attempt, claim);
    }
    table_keep(claim);
    attempt->report.releasing = attempt->report.owned = outcome == LOCK_FAILED;
    return outcome;
}

enum outcome
lock_downgrade(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    return attempt_end_step(attempt, downgrade(attempt));
}

const char *
lock_never_shares(const struct mechanism *mechanism)
{
    return mechanism->join != NULL
               ? NULL
               : "a lock of this class has one owner at a time; LinkFileLock, MkdirFileLock and "
                 "SQLiteFileLock can be shared";
}

const char *
lock_cannot_share(const struct mechanism *mechanism)
{
    const char *reason = lock_never_shares(mechanism);
    if (reason != NULL || !mechanism->shares_beacon) {
        return reason;
    }
    if (!os_can_share) {
        return "on this system a lock file cannot be shared, since its kernel cannot tell whether "
               "the last one who shares it lives; a SQLiteFileLock can";
    }
    if (mechanism->unique_file_is_inside && !os_can_share_directories) {
        return "on this system a lock directory cannot be shared, since its kernel cannot tell "
               "whether the last one who shares it lives; a LinkFileLock or SQLiteFileLock can";
    }
    return NULL;
}

/* ---- Inheritance ---- */

static enum outcome
share_with_children(struct attempt *attempt)
{
    struct claim *claim;
    enum outcome outcome = take_identified(attempt, &claim);
    if (outcome != LOCK_OWNED) {
        return outcome;
    }
    bool is_refused = claim->is_shared && attempt->inheritable;
    bool can_share = claim->mechanism->share != NULL && !is_refused;
    int error = can_share ? claim->mechanism->share(claim, attempt->inheritable) : EOPNOTSUPP;
    if (is_refused) {
        attempt->report.reason =
            "it is shared, and a parent and its children would count as one of "
            "those who share it: let each child acquire it for itself";
    }
    table_keep(claim);
    attempt->report.releasing = error != 0;
    return error == 0 ? LOCK_OWNED
                      : judge_failed(&attempt->report, error, "keep it for child processes");
}

enum outcome
lock_share_with_children(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    return attempt_end_step(attempt, share_with_children(attempt));
}

/* ---- Break ---- */

/* How long to wait for another call that uses a claim on what was broken. */
#define CONDEMNED_PATIENCE (50 * OS_MILLISECOND)

/* Drops what this process had of it: by serials, too, since identities are reused. FREE, WAITING.
 */
static enum outcome
drop_condemned(struct attempt *attempt)
{
    struct claim *claim;
    struct table_key key = {attempt->condemned_claim, attempt->lock->file};
    uint64_t changes;
    enum table_answer answer;
    while ((answer = table_take_condemned(key, attempt->condemned, attempt->owner, &claim,
                                          &changes)) == TABLE_TAKEN) {
        claim->mechanism->discard(claim);
    }
    int64_t now = os_now();
    if (attempt->condemned_until == 0) {
        attempt->condemned_until = now + CONDEMNED_PATIENCE;
    }
    bool busy = answer == TABLE_BUSY || answer == TABLE_RELEASING;
    if (busy && now < attempt->condemned_until) {
        wait_for_call(&attempt->wait, changes, attempt->condemned_until);
        return LOCK_WAITING;
    }
    attempt->condemned = 0; /* or that call finds out, or the next one of its owner */
    return LOCK_FREE;
}

static enum outcome
break_whatever_is_there(struct attempt *attempt)
{
    struct identity waited_for;
    bool waited = vain_recall(attempt, &waited_for);
    enum outcome outcome = attempt_reach_to_look(attempt);
    if (outcome == LOCK_FOUND) {
        outcome = attempt->lock->mechanism->condemn(attempt, waited ? &waited_for : NULL);
    }
    if (outcome == LOCK_FREE) {
        vain_forget(attempt);
    }
    return outcome;
}

enum outcome
lock_break(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    enum outcome outcome = attempt->broken ? LOCK_FREE : break_whatever_is_there(attempt);
    attempt->broken = outcome == LOCK_FREE;
    if (attempt->broken && attempt->condemned != 0) {
        outcome = drop_condemned(attempt);
    }
    if (outcome == LOCK_FREE) {
        attempt->lock->mechanism->tidy(attempt);
    }
    return attempt_end_step(attempt, outcome);
}

/* ---- with blocks ---- */

/* What was acquired before may have been broken since: nobody has looked at it in between. OWNED,
 * FREE, WAITING. */
static enum outcome
confirm_acquired(struct attempt *attempt)
{
    enum outcome outcome = own_look_up(attempt);
    return outcome == LOCK_OWNED || outcome == LOCK_WAITING ? outcome : LOCK_FREE;
}

enum outcome
lock_enter(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    struct claim *claim;
    enum outcome outcome = attempt->entering != 0 ? confirm_acquired(attempt) : LOCK_OWNED;
    if (outcome == LOCK_OWNED) {
        outcome = take_own(attempt, &claim);
    }
    if (outcome == LOCK_OWNED) {
        bool enters = attempt->entering == 0 || attempt->entering == claim->serial;
        os_mutex_lock();
        claim->depth += enters;
        os_mutex_unlock();
        table_keep(claim);
        outcome = enters ? LOCK_OWNED : LOCK_FREE;
    }
    return attempt_end_step(attempt, outcome);
}

void
lock_end_block(struct attempt *attempt)
{
    table_end_block(lock_name(attempt->lock), attempt->owner);
}

enum outcome
lock_leave(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    struct claim *claim;
    enum outcome outcome = take_own(attempt, &claim);
    if (outcome == LOCK_OWNED) {
        outcome = leave_inner(claim) ? LOCK_RELEASED : LOCK_OWNED;
        table_keep(claim);
    }
    return attempt_end_step(attempt, outcome == LOCK_FREE ? LOCK_OWNED : outcome);
}

/* ---- What a lock tells of itself ---- */

/* OWNED: by the lock file that is found. */
static enum outcome
find_own(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    attempt->reached = false;
    enum outcome outcome = attempt_reach_to_look(attempt);
    if (outcome == LOCK_FOUND) {
        outcome = attempt->lock->mechanism->look(attempt, false);
    }
    return attempt_end_step(attempt, outcome);
}

/* Who owns nothing of that name by any path need not look at the file system. Does not wait
 * for another call that uses the claim: what is told of it does not change. */
static bool
tell(struct attempt *attempt, struct table_told *told)
{
    const struct lock *lock = attempt->lock;
    struct table_name name = lock_name(lock);
    if (table_tell(&name, NULL, attempt->owner, told)) {
        return true;
    }
    if (lock->mechanism == NULL || !table_has_file(lock->file, attempt->owner) ||
        lock_run(attempt, find_own) != LOCK_OWNED) {
        return false;
    }
    struct table_key key = attempt_key(attempt);
    return table_tell(NULL, &key, attempt->owner, told);
}

bool
lock_unique_name(struct attempt *attempt, char name[NAME_SIZE])
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    struct table_told told;
    bool is_own = tell(attempt, &told) && !told.has_joined;
    if (is_own && told.is_inheritable) {
        lock_run(attempt, lock_look); /* others may have given it another name */
        is_own = tell(attempt, &told);
    }
    if (is_own) {
        memcpy(name, told.unique_name, NAME_SIZE);
        mechanism = told.mechanism;
    } else {
        struct ground plain = {.local = false};
        proof_write_name(name, attempt->lock->host, attempt->owner, plain, 0);
    }
    return mechanism != NULL && mechanism->unique_file_is_inside;
}

bool
lock_excludes_owner(const struct lock *lock)
{
    return lock->mechanism->excludes_owner;
}

uint64_t
lock_sole_serial(const struct attempt *attempt)
{
    struct table_told told;
    struct table_name name = lock_name(attempt->lock);
    bool is_sole =
        lock_excludes_owner(attempt->lock) && table_tell(&name, NULL, attempt->owner, &told);
    return is_sole ? told.serial : 0;
}

int
lock_descriptor(struct attempt *attempt)
{
    struct table_told told;
    return tell(attempt, &told) ? told.descriptor : -1;
}

struct lock *
lock_owned_by(struct owner owner)
{
    struct claim *claim = table_take_any(owner);
    if (claim == NULL) {
        return NULL;
    }
    struct lock *lock = lock_new(claim->mechanism, claim->lock_file, claim->lock_file, claim->store,
                                 OWNED_BY_OBJECT, claim->is_shared);
    if (lock != NULL) {
        lock->token = owner.token;
    }
    table_keep(claim);
    return lock;
}

/* ---- Exit ---- */

static void
release_last(struct claim *claim)
{
    struct attempt attempt;
    enum outcome outcome;
    bool has_waiters;
    if (others_keep(claim)) {
        claim->mechanism->abandon(claim);
        return;
    }
    attempt_begin(&attempt, NULL, claim->owner, 0);
    while ((outcome = claim->mechanism->release(&attempt, claim, &has_waiters)) == LOCK_WAITING &&
           wait_sleep(&attempt.wait) == 0) {
    }
    if (outcome == LOCK_WAITING || (outcome == LOCK_FAILED && attempt.report.owned)) {
        claim->mechanism->abandon(claim); /* whoever comes next finds it stale */
    }
    attempt_end(&attempt);
}

void
lock_release_all(void)
{
    struct claim *claim;
    table_close();
    while ((claim = table_take_last(NULL)) != NULL) {
        release_last(claim);
    }
}
