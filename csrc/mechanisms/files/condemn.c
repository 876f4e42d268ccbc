#include "mechanisms/files/condemn.h"

#include "core/judge.h"
#include "mechanisms/files/removals.h"
#include "mechanisms/files/shape.h"
#include "mechanisms/files/sweep.h"

#include <errno.h>

void
condemn_end(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    if (place->is_condemning) {
        removals_admit(&place->directory, attempt->ground.local);
        place->is_condemning = false;
    }
}

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
        condemn_end(attempt);
    }
    return error;
}

/* What this process has of it, in the table. */
static void
find_condemned(struct attempt *attempt, struct identity there)
{
    struct table_found found;
    struct table_key key = {there, attempt->lock->file};
    bool has = table_find(key, attempt->owner, &found);
    attempt->condemned = has ? found.serial : 0;
    attempt->condemned_claim = there;
}

/* Removes what is there if it is what was waited for. EAGAIN: it is emptied. */
static int
remove_condemned(struct attempt *attempt, const struct identity *waited_for)
{
    struct files_place *place = place_of(attempt);
    const struct os_file *directory = &place->directory;
    const char *file = attempt->lock->file;
    struct identity there;
    struct os_status status;
    int error = place_identify(directory, file, &there);
    if (error == 0) {
        error = os_status_at(directory, file, &status);
    }
    if (error != 0) {
        return error;
    }
    if (waited_for != NULL && !identity_is_same(there, *waited_for)) {
        return 0;
    }
    find_condemned(attempt, there);
    place->shape = shape_of(attempt, status.kind);
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

enum outcome
condemn_lock(struct attempt *attempt, const struct identity *waited_for)
{
    struct files_place *place = place_of(attempt);
    int error = begin_condemning(attempt);
    if (error != 0) {
        return cannot_condemn(attempt, error);
    }
    if (place->is_emptied) {
        error = place->shape->finish(&place->directory, attempt->lock->file, &place->found);
    } else {
        error = remove_condemned(attempt, waited_for);
        attempt_renew_patience(attempt);
    }
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    place->is_emptied = false;
    condemn_end(attempt);
    error = error == EAGAIN ? ENOTEMPTY : error;
    if (error != 0 && !os_is_absent(error)) {
        return judge_failed(&attempt->report, error, "remove the lock file");
    }
    place->must_sweep = error == 0;
    return LOCK_FREE;
}

void
condemn_tidy(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    if (place->must_sweep) {
        place->must_sweep = false;
        sweep_all(&place->directory, attempt->ground);
    }
}
