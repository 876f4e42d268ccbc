#include "mechanisms/files/release.h"

#include "core/judge.h"
#include "mechanisms/files/owned.h"
#include "mechanisms/files/readers.h"
#include "mechanisms/files/shape.h"

#include <errno.h>

static enum outcome
still_owned(struct report *report, int error, const char *doing)
{
    report->owned = true;
    if (os_is_refused(error)) {
        report->reason = "another program has it locked";
    }
    return judge_failed(report, error, doing);
}

/* BROKEN; RELEASED: by a reader who had left it already, and finds that it is gone. */
static enum outcome
lose(struct files_claim *claim)
{
    bool has_left = claim->has_left;
    owned_discard(&claim->claim);
    return has_left ? LOCK_RELEASED : LOCK_BROKEN;
}

/* ---- Alone ---- */

/* It is not owned any more; and the lock directory is gone, unless the error says otherwise. */
static enum outcome
finish_release(struct attempt *attempt, struct files_claim *claim, int error)
{
    claim->is_emptied = claim->shape->finish != NULL && place_is_patient(attempt, error);
    if (claim->is_emptied) {
        return LOCK_WAITING;
    }
    owned_end_turn(claim);
    owned_remove_other_names(claim);
    place_drop(claim);
    error = error == EAGAIN ? ENOTEMPTY : error;
    return error == 0 ? LOCK_RELEASED
                      : judge_failed(&attempt->report, error, "remove the rest of it");
}

static enum outcome
go_on_releasing(struct attempt *attempt, struct files_claim *claim)
{
    int error = owned_begin_removing(claim);
    if (error == 0) {
        error = claim->shape->finish(&claim->directory, claim->claim.file, &claim->inside);
        owned_end_removing(claim);
    }
    return finish_release(attempt, claim, error);
}

/* The beacon goes last. */
static enum outcome
remove_own(struct attempt *attempt, struct files_claim *claim, bool *has_waiters)
{
    struct claim *base = &claim->claim;
    bool freed = false;
    *has_waiters = claim->local && os_has_waiters(place_marked(claim), OS_FILE_QUEUE, 2);
    int error = claim->shape->remove(&claim->directory, base->file, &claim->inside,
                                     base->unique_name, &base->beacon, entry_remove, &freed);
    if (freed && error == EAGAIN) {
        owned_end_removing(claim);
    }
    if (freed && base->has_joined) {
        owned_remove_unique_name(claim); /* now: it may take long to find */
    }
    if (freed) {
        attempt_renew_patience(attempt);
        return finish_release(attempt, claim, error);
    }
    if (error == ENOENT) {
        return lose(claim);
    }
    owned_end_removing(claim);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING; /* another program has something in it open */
    }
    return still_owned(&attempt->report, error, "remove the lock file");
}

/* Whoever is at work, may have removed it already. Only the check tells that it is gone. */
static int
begin_removing(struct files_claim *claim)
{
    int refused = owned_begin_removing(claim);
    int error = owned_check(claim);
    if (refused == 0 && error != 0) {
        owned_end_removing(claim);
    }
    if (error == 0) {
        claim->has_left = false; /* it is there, and stays until this removes it, or is broken */
    }
    return error != 0 ? error : refused == ENOENT ? EIO : refused;
}

static enum outcome
release_alone(struct attempt *attempt, struct files_claim *claim, bool is_mended, bool *has_waiters)
{
    int error = is_mended ? 0 : owned_mend(claim);
    if (error == 0) {
        error = begin_removing(claim);
    }
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    if (error == 0) {
        return remove_own(attempt, claim, has_waiters);
    }
    return error == ENOENT ? lose(claim)
                           : still_owned(&attempt->report, error, "make sure of the lock file");
}

/* ---- Among readers ---- */

/* For so long the last reader waits for those who look at the lock, and then leaves it dark:
 * whoever wants it next finds it stale. */
#define LEAVING_TIME OS_SECOND
#define LEAVING_PAUSE (OS_MILLISECOND / 20)

/* Others do not notice; the last one is given the lock for itself: OWNED. */
static enum outcome
leave(struct attempt *attempt, struct files_claim *claim, bool *has_waiters)
{
    const struct os_file *beacon = &claim->claim.beacon;
    bool is_open = !claim->has_left || os_is_open(beacon);
    enum readers_rest rest = is_open ? readers_leave(beacon) : READERS_OTHERS;
    if (rest == READERS_LAST) {
        claim->is_lit_shared = false;
        claim->has_left |= os_unshares_in_two_steps; /* in between another may have removed it */
        attempt_renew_patience(attempt);
        return LOCK_OWNED;
    }
    claim->has_left = true;
    if (rest == READERS_DISTURBED && attempt_is_patient(attempt, LEAVING_TIME, LEAVING_PAUSE)) {
        return LOCK_WAITING;
    }
    *has_waiters = os_has_waiters(place_marked(claim), OS_FILE_QUEUE, 1);
    place_drop(claim);
    return LOCK_RELEASED;
}

/* OWNED: alone, so it is to be removed. */
static enum outcome
leave_readers(struct attempt *attempt, struct files_claim *claim, bool *has_waiters)
{
    int error = claim->has_left ? 0 : owned_mend(claim);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    if (error == 0 && !claim->has_left) {
        error = owned_check(claim);
    }
    return error == 0        ? leave(attempt, claim, has_waiters)
           : error == ENOENT ? lose(claim)
                             : still_owned(&attempt->report, error, "make sure of the lock file");
}

/* Who had left as the last one, and could not release it, is a reader as before; and told, if it
 * has lost the lock meanwhile. */
static void
share_again(struct files_claim *claim)
{
    if (claim->claim.is_shared && claim->local && !claim->is_lit_shared) {
        readers_share(claim, claim->reader);
        claim->has_left = false;
    }
}

/* ---- All ---- */

enum outcome
release_claim(struct attempt *attempt, struct claim *base, bool *has_waiters)
{
    struct files_claim *claim = files_claim_of(base);
    *has_waiters = false;
    if (claim->is_emptied) {
        return go_on_releasing(attempt, claim);
    }
    bool is_mended = claim->is_lit_shared && !claim->has_left; /* once it leaves the readers */
    enum outcome outcome =
        claim->is_lit_shared ? leave_readers(attempt, claim, has_waiters) : LOCK_OWNED;
    if (outcome == LOCK_OWNED) {
        outcome = release_alone(attempt, claim, is_mended, has_waiters);
    }
    if (outcome == LOCK_FAILED && attempt->report.owned) {
        share_again(claim);
    }
    return outcome;
}

/* What is emptied is not owned: once more, then. */
void
release_stop(struct claim *base)
{
    struct files_claim *claim = files_claim_of(base);
    if (claim->is_emptied) {
        claim->shape->finish(&claim->directory, base->file, &claim->inside);
        place_drop(claim);
    } else if (claim->has_left) {
        place_drop(claim); /* others find it dark */
    } else {
        share_again(claim);
        table_keep(base);
    }
}
