/* How a lock is acquired, step by step. */
#include "core/fairness.h"
#include "core/judge.h"
#include "core/lock.h"
#include "core/mechanism.h"
#include "core/own.h"
#include "core/vain.h"

#include <errno.h>
#include <string.h>

/* Rounds without sleep before a lock that comes and goes counts as held. */
#define ROUNDS 100

/* What could not be asked for so long has not just been busy. */
#define BUSY_TIME OS_SECOND

/* For so long who would share the lock lets in who waits to have it alone; no longer, since that
 * one may be stopped. */
#define WAY_TIME OS_SECOND

/* It looks so often meanwhile whether that one waits still: nothing tells of who has given up. */
#define WAY_PAUSE (20 * OS_MILLISECOND)

static enum outcome
refuse_upgrade(struct attempt *attempt)
{
    own_identify(attempt);
    attempt->report.upgrades = true;
    return judge_failed(&attempt->report, EDEADLK, "upgrade");
}

/* Where its end would not be told of otherwise. */
static void
watch_owner(struct attempt *attempt)
{
    const struct holder *holder = &attempt->report.holder;
    if (!wait_wants_owner(&attempt->wait)) {
        return;
    }
    if (!holder->known) {
        attempt->lock->mechanism->identify(attempt);
    }
    if (holder->known && strcmp(holder->name.host, attempt->lock->host) == 0) {
        wait_watch_owner(&attempt->wait, holder->name.process);
    }
}

/* What its owner has already is held, too, by a lock that lets nobody in twice. */
static enum outcome
refuse_own(struct attempt *attempt, enum outcome outcome)
{
    if (outcome == LOCK_OWNED && attempt->lock->mechanism->excludes_owner) {
        own_identify(attempt);
        return LOCK_HELD;
    }
    bool upgrades = outcome == LOCK_OWNED && attempt->is_owned_shared && !attempt->shares;
    return upgrades ? refuse_upgrade(attempt) : outcome;
}

/* Shares what is there with others, if they do. */
static enum outcome
join(struct attempt *attempt)
{
    bool has_time = attempt->gives_way_until == 0 || os_now() < attempt->gives_way_until;
    attempt->gives_way = has_time && !attempt->has_waited && !wait_is_over(&attempt->wait);
    attempt->has_given_way = false;
    enum outcome outcome = attempt->lock->mechanism->join(attempt);
    attempt->granted = outcome == LOCK_OWNED;
    attempt->owes_way = attempt->owes_way || attempt->has_given_way;
    if (attempt->has_given_way && attempt->gives_way_until == 0) {
        attempt->gives_way_until = os_now() + WAY_TIME;
    }
    return outcome == LOCK_FOUND ? own_look_up_found(attempt) : outcome;
}

/* Judges what is in the way, and removes it if it is stale. */
static enum outcome
look(struct attempt *attempt)
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    bool will_wait = !wait_is_over(&attempt->wait);
    attempt->has_given_way = false;
    wait_begin_look(&attempt->wait);
    enum outcome outcome = mechanism->look(attempt, will_wait);
    wait_end_look(&attempt->wait);
    if (outcome == LOCK_HELD) {
        watch_owner(attempt);
    }
    if (outcome == LOCK_STALE) {
        outcome = mechanism->break_stale(attempt);
    } else if (outcome == LOCK_OWNED) {
        outcome = refuse_own(attempt, own_look_up_found(attempt));
    } else if (outcome == LOCK_SHARED) {
        outcome = join(attempt);
    } else {
        bool is_held_alone = outcome == LOCK_HELD && !attempt->report.holder.is_shared;
        attempt->has_waited = attempt->has_waited || is_held_alone;
    }
    attempt->reached = attempt->reached && outcome != LOCK_WAITING;
    return outcome;
}

/* From now on it looks before it claims. Who would sleep after the look has had the occasion to
 * hold signals off before it, so that none is slept through: WAITING, for nothing. */
static enum outcome
look_first(struct attempt *attempt)
{
    attempt->stage = STAGE_LOOK;
    if (!wait_is_over(&attempt->wait) && !attempt->wait.prepared) {
        wait_for_nothing(&attempt->wait);
        return LOCK_WAITING;
    }
    return look(attempt);
}

/* Lets those in to whom this owner has just released. FREE: go on and claim. */
static enum outcome
give_way(struct attempt *attempt)
{
    if (!attempt->yielded) {
        attempt->yielded = true;
        attempt->yield_until = fairness_ask(attempt->lock->lock_file, attempt->owner);
    }
    /* Who does not wait is not made to. */
    if (wait_is_over(&attempt->wait) || os_now() >= attempt->yield_until) {
        return LOCK_FREE;
    }
    if (attempt->lock->mechanism->is_there(attempt)) {
        return look_first(attempt);
    }
    wait_for_moment(&attempt->wait, FAIRNESS_PAUSE);
    return LOCK_WAITING;
}

/* It was given way to one who waited, whose turn has come. */
static enum outcome
let_in(struct attempt *attempt)
{
    attempt->owes_way = false;
    attempt->yielded = true;
    attempt->yield_until = os_now() + FAIRNESS_TIME;
    attempt->stage = STAGE_CLAIM;
    return give_way(attempt);
}

/* Who would share the lock, and finds it free, makes it. */
static enum outcome
claim(struct attempt *attempt)
{
    enum outcome outcome = attempt->shares ? join(attempt) : LOCK_FREE;
    if (outcome == LOCK_FREE) {
        outcome = attempt->lock->mechanism->claim(attempt);
        attempt->granted = outcome == LOCK_OWNED;
    }
    if (outcome == LOCK_FOUND) {
        outcome = own_look_up_found(attempt);
    }
    attempt->stage = STAGE_CLAIM;
    if (outcome == LOCK_WAITING) {
        attempt->reached = false;
    }
    bool is_held = outcome == LOCK_HELD && attempt->unanswered_since == 0;
    return is_held ? look_first(attempt) : outcome;
}

/* From opening the place to its end or a sleep: the directory may be replaced while we sleep, so
 * each round finds it anew. OWNED, HELD, FAILED, WAITING; FREE: worth another round at once. */
static enum outcome
acquire_round(struct attempt *attempt)
{
    int error = attempt_reach(attempt);
    if (error != 0) {
        return attempt_cannot_reach(attempt, error);
    }
    enum outcome outcome = attempt->stage == STAGE_LOOK ? look_first(attempt) : give_way(attempt);
    if (outcome == LOCK_FREE && attempt->owes_way) {
        outcome = let_in(attempt);
    }
    return outcome == LOCK_FREE ? claim(attempt) : outcome;
}

/* Rounds, until there is something to wait for. */
static enum outcome
acquire_rounds(struct attempt *attempt)
{
    enum outcome outcome;
    while ((outcome = acquire_round(attempt)) == LOCK_FREE) {
        attempt->reached = false;
        if (++attempt->rounds == ROUNDS) {
            return attempt->report.error != 0 ? LOCK_FAILED : LOCK_HELD;
        }
    }
    return outcome;
}

/* The lock is held. WAITING; HELD: time is up. */
static enum outcome
sleep_on(struct attempt *attempt)
{
    attempt->rounds = 0;
    /* Before all else: time may be up before it could sleep at all. */
    if (!attempt->has_met && wait_is_wanted(&attempt->wait)) {
        attempt->has_met = true;
        attempt->met = attempt->lock->mechanism->recognise(attempt);
    }
    if (wait_is_over(&attempt->wait)) {
        return LOCK_HELD;
    }
    if (wait_polls(&attempt->wait)) {
        attempt_leave_place(attempt); /* a network server may not let go of what is kept open */
    }
    attempt->reached = false;
    wait_for_change(&attempt->wait, attempt->has_given_way ? WAY_PAUSE : OS_NEVER);
    return LOCK_WAITING;
}

/* Would a wait stop the very one that is to release the lock? */
static bool
stops_owner(struct attempt *attempt)
{
    struct report *report = &attempt->report;
    if (!attempt->stops_thread || !report->holder.beside || !wait_is_wanted(&attempt->wait)) {
        return false;
    }
    report->error = EDEADLK;
    report->doing = "wait";
    report->reason = "a wait would stop its owner, which runs in this thread, too: await the lock, "
                     "by async with or acquire_async()";
    return true;
}

/* Time is up. */
static enum outcome
give_up(struct attempt *attempt)
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    if (attempt->unanswered_since != 0 && os_now() - attempt->unanswered_since >= BUSY_TIME) {
        return LOCK_FAILED;
    }
    if (!attempt->incurious) {
        mechanism->identify(attempt);
    }
    return vain_remember(attempt, mechanism->recognise(attempt));
}

static enum outcome
look_up_own(struct attempt *attempt)
{
    const char *reason = attempt->shares ? lock_cannot_share(attempt->lock->mechanism) : NULL;
    if (reason != NULL) {
        attempt->report.reason = reason;
        return judge_failed(&attempt->report, EOPNOTSUPP, "share the lock");
    }
    return refuse_own(attempt, own_look_up(attempt));
}

/* Of the owner's own claim, by the lock file's path. FREE: go on. */
static enum outcome
begin_acquire(struct attempt *attempt)
{
    attempt->claiming = true;
    enum outcome outcome = look_up_own(attempt);
    if (outcome == LOCK_FREE) {
        attempt->stage = STAGE_CLAIM;
    } else if (outcome == LOCK_HELD && !wait_is_over(&attempt->wait)) {
        attempt->stage = STAGE_LOOK; /* so it waits for that lock file, as for another's */
        outcome = LOCK_FREE;
    } else if (outcome == LOCK_HELD) {
        attempt->has_met = wait_is_wanted(&attempt->wait); /* nothing that is to be condemned */
        outcome = vain_remember(attempt, (struct identity){.born = 0});
    }
    return outcome;
}

static enum outcome
go_on_acquiring(struct attempt *attempt)
{
    enum outcome outcome = acquire_rounds(attempt);
    if (outcome == LOCK_HELD && attempt->has_given_way && wait_is_over(&attempt->wait)) {
        outcome = acquire_rounds(attempt); /* which gives no way any more */
    }
    if (outcome == LOCK_HELD && stops_owner(attempt)) {
        outcome = LOCK_FAILED;
    }
    if (outcome == LOCK_HELD) {
        outcome = sleep_on(attempt);
    }
    if (outcome == LOCK_HELD) {
        outcome = give_up(attempt);
    }
    if (outcome != LOCK_WAITING) {
        attempt_leave_place(attempt);
    }
    return outcome;
}

/* What the one ahead waits for just now, if it is known. */
static struct identity
met_by(const struct attempt *ahead)
{
    bool is_there = ahead->has_met && identity_is_alike(ahead->met, ahead->found);
    return is_there ? ahead->met : (struct identity){.born = 0};
}

enum outcome
lock_join(struct attempt *attempt, const struct attempt *ahead)
{
    attempt_begin_step(attempt);
    attempt->claiming = true;
    attempt->has_met = wait_is_wanted(&attempt->wait);
    attempt->met = met_by(ahead);
    enum outcome outcome = look_up_own(attempt);
    if (outcome == LOCK_FREE || outcome == LOCK_HELD) {
        attempt->stage = STAGE_CLAIM;
        outcome = LOCK_WAITING;
    }
    return attempt_end_step(attempt, outcome);
}

void
lock_follow(struct attempt *attempt, const struct attempt *ahead)
{
    attempt->has_waited = attempt->has_waited || ahead->has_waited;
    if (attempt->gives_way_until == 0) {
        attempt->gives_way_until = ahead->gives_way_until;
    }
}

enum outcome
lock_acquire(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    if (wait_goes_on(&attempt->wait)) {
        return LOCK_WAITING;
    }
    enum outcome outcome = attempt->stage == STAGE_OWN ? begin_acquire(attempt) : LOCK_FREE;
    if (outcome == LOCK_FREE) {
        outcome = go_on_acquiring(attempt);
    }
    if (outcome == LOCK_OWNED) {
        vain_forget(attempt);
    }
    return attempt_end_step(attempt, outcome);
}
