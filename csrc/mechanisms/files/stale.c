#include "mechanisms/files/stale.h"

#include "core/vain.h"
#include "mechanisms/files/family.h"
#include "mechanisms/files/removals.h"
#include "mechanisms/files/shape.h"
#include "mechanisms/files/sweep.h"

#include <errno.h>

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
    if (os_is_forbidden(error) || os_is_refused(error) || error == EBUSY) {
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

/* Those that have kept it together, and were killed as they named it, may have left several. */
static void
remove_rest(struct attempt *attempt, const struct os_file *beacon)
{
    struct os_status status;
    struct files_place *place = place_of(attempt);
    if (os_status(beacon, &status) == 0 && status.links > 0) {
        family_remove_names(&place->directory, attempt->lock->file, beacon->inode, NULL,
                            entry_remove_dead);
    }
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
    int error = place->shape->check(directory, file, place->found.inode, place->found_name, local);
    if (error == 0) {
        error = place->shape->remove(directory, file, &place->found, place->found_name, beacon,
                                     entry_remove_dead, &freed);
    }
    removals_end(directory, local);
    if (freed) {
        remove_rest(attempt, beacon);
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
 * by a mark on the lock file: who sees another's goes back; and so does who sees a reader, who
 * looks for that mark after it has made its own. Where there are no marks, nobody passes. */
static int
take_beacon_beside_a_look(const struct files_place *place, const struct os_file *beacon)
{
    int error = os_flock(beacon, OS_SHARED);
    if (error == 0) {
        error = os_mark(&place->found, OS_TURN);
    }
    if (error == 0) {
        error = os_find_mark(&place->found, OS_TURN);
    }
    if (error == 0) {
        error = os_may_have_reader(beacon); /* is it a look that is in the way? */
    }
    return os_flock_is_unsupported(error) ? EWOULDBLOCK : error;
}

enum outcome
stale_break(struct attempt *attempt)
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
