#include "core/own.h"

#include "core/mechanism.h"

#include <string.h>

/* How long to wait for another call of the same owner, which may have come from another
 * thread: ever longer, up to a moment in which nobody misses a signal. A claim that would not
 * wait for the lock waits so long for what only looks. */
#define LONGEST_CALL_PATIENCE (50 * OS_MILLISECOND)
#define CLAIM_PATIENCE OS_SECOND

/* OWNED, FAILED, WAITING; FREE: it was broken, and is dropped. */
static enum outcome
confirm(struct attempt *attempt, struct claim *claim)
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    enum outcome outcome = mechanism->confirm(attempt, claim);
    if (outcome == LOCK_BROKEN) {
        mechanism->discard(claim);
        return LOCK_FREE;
    }
    attempt->is_owned_shared = claim->is_shared; /* which this owner alone changes */
    table_keep(claim);
    return outcome;
}

void
own_identify(struct attempt *attempt)
{
    struct holder *holder = &attempt->report.holder;
    holder->known = true;
    holder->life = LIFE_ALIVE;
    holder->is_shared = attempt->is_owned_shared;
    holder->name.thread = attempt->owner.thread;
    holder->name.process = os_process();
    memcpy(holder->name.host, attempt->lock->host, OS_HOST_SIZE);
}

/* Waits for the other call for so long. False: it has, this time. */
static bool
waits_for_call(struct attempt *attempt, uint64_t changes)
{
    int64_t now = os_now();
    if (attempt->call_until == 0) {
        attempt->call_until = now + attempt->call_patience;
    }
    wait_for_call(&attempt->wait, changes, attempt->call_until);
    return now < attempt->call_until;
}

/* Another call of this owner uses the claim. HELD, if that takes longer than such calls do, for who
 * waits for the lock anyway, or would rather not wait for it; WAITING. */
static enum outcome
find_busy(struct attempt *attempt, enum table_answer answer, uint64_t changes)
{
    if (waits_for_call(attempt, changes)) {
        return LOCK_WAITING;
    }
    attempt->call_waited += attempt->call_patience;
    attempt->call_until = 0;
    bool refused = attempt->call_waited >= CLAIM_PATIENCE || answer == TABLE_RELEASING;
    if (!attempt->claiming || !(wait_is_wanted(&attempt->wait) || refused)) {
        int64_t longer = 2 * attempt->call_patience;
        attempt->call_patience = longer < LONGEST_CALL_PATIENCE ? longer : LONGEST_CALL_PATIENCE;
        waits_for_call(attempt, changes);
        return LOCK_WAITING;
    }
    own_identify(attempt);
    attempt->report.reason = answer == TABLE_RELEASING
                                 ? "another call of its owner is releasing it just now"
                                 : "another call of its owner is at work on it";
    wait_hurry(&attempt->wait);
    return LOCK_HELD;
}

enum outcome
own_take(struct attempt *attempt, const struct table_key *key, struct claim **claim)
{
    uint64_t changes = 0;
    enum table_answer answer =
        key != NULL ? table_take_key(*key, attempt->owner, claim, &changes)
                    : table_take(lock_name(attempt->lock), attempt->owner, claim, &changes);
    if (answer == TABLE_BUSY || answer == TABLE_RELEASING) {
        return find_busy(attempt, answer, changes);
    }
    attempt->call_until = 0;
    return answer == TABLE_TAKEN ? LOCK_OWNED : LOCK_FREE;
}

enum outcome
own_look_up(struct attempt *attempt)
{
    struct claim *claim;
    enum outcome outcome = own_take(attempt, NULL, &claim);
    return outcome == LOCK_OWNED ? confirm(attempt, claim) : outcome;
}

enum outcome
own_look_up_found(struct attempt *attempt)
{
    struct claim *claim;
    struct table_key key = attempt_key(attempt);
    enum outcome outcome = own_take(attempt, &key, &claim);
    return outcome == LOCK_OWNED ? confirm(attempt, claim) : outcome;
}
