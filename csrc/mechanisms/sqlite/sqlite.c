/* Locks that are rows of a table in a database.
 *
 * The row is made by one statement, which leaves one that is there alone: no check
 * comes before it. What proves an owner dead is its beacon, a byte of a file beside
 * the database (beacon.h): never the row's age, never the process's number.
 *
 * Claim: light the beacon, enter it in the table, make the row.
 * Release: remove the row, then darken the beacon, then wake who waits. A dark beacon
 * whose row is still there is therefore a dead owner's.
 * Break: take the beacon, so that an owner that has lost it cannot light it again
 * meanwhile, and remove the row of that very claim. */
#include "mechanisms/sqlite/sqlite.h"

#include "mechanisms/sqlite/claims.h"
#include "mechanisms/sqlite/group.h"
#include "mechanisms/sqlite/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How long a busy database is asked again at once: by who wants the lock now or not at all, by
 * who asks something else, and by who gives up something. */
#define CLAIM_PATIENCE (50 * OS_MILLISECOND)
#define PATIENCE OS_SECOND
#define RELEASE_PATIENCE (OS_SECOND / 4)

#define LOOK_ATTEMPTS 100

/* More are not counted. */
#define COUNTED_READERS 256

static struct request *
request_of(struct attempt *attempt)
{
    return &place_of(attempt)->request;
}

/* ---- Reaching the place ---- */

static void
sqlite_begin(struct attempt *attempt)
{
    struct sqlite_place *place = place_of(attempt);
    place->request.python = python_call_offered();
    place->request.pool = place->request.python != NULL ? place->request.python->resource : NULL;
    place->found = OS_NO_FILE;
}

static void
sqlite_close(struct attempt *attempt)
{
    os_close(&place_of(attempt)->found);
}

/* Each step finds its database anew. What is open stays so meanwhile: whoever comes to share the
 * lock sees by its mark that others wait to have it alone. */
static int
sqlite_open(struct attempt *attempt)
{
    (void)attempt;
    return 0;
}

/* ---- Claim ---- */

static enum outcome
refuse_claim(struct attempt *attempt, int error)
{
    if (rows_ask_again(attempt, error, 0)) {
        return LOCK_WAITING;
    }
    switch (error) {
    case EEXIST:
        return LOCK_HELD;
    case DATABASE_MOVED:
        return LOCK_FREE;
    default:
        return rows_cannot_ask(attempt, error, "write to the database");
    }
}

/* KNOWN: attempt->found is what its owner shares already, by another path or in another thread. */
static enum table_entry
enter(struct attempt *attempt, struct claim *claim)
{
    if (claim->is_shared) {
        return table_join_by_note(claim, &attempt->found);
    }
    return table_enter(claim) ? TABLE_ENTERED : TABLE_CLOSED;
}

static enum outcome
make_row(struct attempt *attempt, const struct spot *spot, struct claim *claim)
{
    struct row row = {.beacon = rows_beacon(claim->identity)};
    memcpy(row.owner, claim->unique_name, NAME_SIZE);
    enum table_entry entry = enter(attempt, claim);
    if (entry != TABLE_ENTERED) {
        claims_drop(claim);
        return entry == TABLE_KNOWN
                   ? LOCK_FOUND
                   : judge_failed(&attempt->report, ECANCELED, "lock while the program ends");
    }
    bool local = attempt->ground.local;
    int error = claim->is_shared ? database_share(request_of(attempt), spot->place, &row, local)
                                 : database_insert(request_of(attempt), spot->place, &row, local);
    if (error == 0) {
        attempt->unanswered_since = 0;
        table_keep(claim);
        return LOCK_OWNED;
    }
    claims_drop(claim);
    return refuse_claim(attempt, error);
}

static enum outcome
sqlite_claim(struct attempt *attempt)
{
    struct spot spot;
    attempt->report = (struct report){0};
    if (!os_locks_bytes) {
        return judge_failed(&attempt->report, EOPNOTSUPP,
                            "lock a byte for an open file, for which this system has no call "
                            "(LinkFileLock and MkdirFileLock need none)");
    }
    if (!wait_is_wanted(&attempt->wait) && attempt->patience_limit == 0) {
        attempt->patience_limit = os_now() + CLAIM_PATIENCE;
    }
    int error = spot_find_or_make(&spot, attempt->lock);
    if (error != 0) {
        return rows_failed(attempt, error, "find the database");
    }
    struct claim *claim = claims_new(attempt, &spot);
    if (claim == NULL) {
        return judge_failed(&attempt->report, ENOMEM, "allocate");
    }
    claim->is_shared = attempt_may_join(attempt);
    error = claims_light(attempt, &spot, claim);
    if (error != 0) {
        free(claim);
        return error == DATABASE_MOVED ? LOCK_FREE
               : error < 0 ? rows_failed(attempt, error, "use the database")
                           : rows_failed(attempt, error, "lock the beacon beside the database");
    }
    return make_row(attempt, &spot, claim);
}

/* ---- Judge ---- */

/* Opens the file that the beacon is in, and watches it. 0, or why it proves nothing. Those who
 * share it need not have theirs in the same file: each is looked at by itself. */
static int
open_beacon(struct attempt *attempt, const struct spot *spot, const struct row *row, bool will_wait)
{
    bool is_shared = database_is_shared(row);
    uint64_t queue = is_shared ? group_queue(spot->place.row) : beacon_queue(row->beacon);
    struct os_status status;
    struct os_file *found = &place_of(attempt)->found;
    struct os_file marked = *found;
    *found = OS_NO_FILE;
    int error = os_open(&os_anywhere, spot->beacons, OS_READ, found, &status);
    os_close(&marked);
    if (error == 0) {
        error = proof_find_ground(found, &attempt->ground);
    }
    bool is_other = error == 0 && !is_shared && status.inode.number != row->beacon.file;
    if (error == 0 && (status.kind != OS_REGULAR || is_other)) {
        error = ENOENT;
    }
    if (error == 0 && will_wait && attempt->ground.local &&
        wait_in_queue(&attempt->wait, found, queue, attempt->shares)) {
        /* It is one file for all claims: one watch serves for them all. */
        struct identity file = {.claim = {status.inode.device, status.inode.number}};
        wait_watch(&attempt->wait, spot->beacons, OS_REGULAR, file);
    }
    return error;
}

/* What cannot be looked at, may be a live owner's. */
static enum outcome
hold_unproven(struct attempt *attempt, int error)
{
    if (error == ENOENT) {
        return judge_held(attempt, LIFE_UNKNOWN,
                          "the file that would tell whether its owner is alive is not there");
    }
    if (os_is_exhausted(error)) {
        return judge_failed(&attempt->report, error, "look at the beacon beside the database");
    }
    attempt->report.error = error;
    return judge_held(attempt, LIFE_UNKNOWN, "whether its owner is alive cannot be seen");
}

static enum outcome
judge_beacon(struct attempt *attempt, const struct row *row, int error)
{
    struct holder *holder = &attempt->report.holder;
    holder->known = proof_read_name(row->owner, &holder->name);
    return os_is_refused(error) ? judge_held(attempt, LIFE_ALIVE, NULL)
           : error != 0         ? hold_unproven(attempt, error)
                                : judge_by_name(attempt, row->owner);
}

/* The beacon is dark. But a release removes the row before it darkens the beacon. FOUND: the row
 * is there still; FREE: it has changed; HELD, FAILED, WAITING. */
static enum outcome
find_again(struct attempt *attempt, struct spot *spot)
{
    struct row again = {.owner = ""};
    enum outcome outcome = rows_find(attempt, spot, &again);
    struct identity there = rows_identity(spot->place.inode, again.beacon);
    bool changed = outcome == LOCK_FOUND && !identity_is_alike(there, attempt->found);
    return changed ? LOCK_FREE : outcome;
}

/* error: their file could not be opened; then only the table tells. */
static enum outcome
judge_group(struct attempt *attempt, struct spot *spot, const struct row *row, int error)
{
    if (os_is_exhausted(error)) {
        return hold_unproven(attempt, error);
    }
    if (error != 0) {
        os_close(&place_of(attempt)->found);
    }
    return group_judge(attempt, spot, row);
}

/* STALE, OWNED, HELD, FAILED, WAITING; FREE: the row has changed. */
static enum outcome
judge_row(struct attempt *attempt, struct spot *spot, const struct row *row, bool will_wait)
{
    int error = open_beacon(attempt, spot, row, will_wait);
    place_of(attempt)->is_of_group = database_is_shared(row);
    if (place_of(attempt)->is_of_group) {
        return judge_group(attempt, spot, row, error);
    }
    enum outcome in_table = judge_by_table(attempt);
    if (in_table == LOCK_OWNED) {
        return LOCK_OWNED;
    }
    if (error == 0) {
        error = beacon_look(&place_of(attempt)->found, row->beacon);
    }
    enum outcome outcome = error == 0 ? find_again(attempt, spot) : LOCK_FOUND;
    if (outcome != LOCK_FOUND) {
        return outcome;
    }
    return in_table == LOCK_HELD ? LOCK_HELD : judge_beacon(attempt, row, error);
}

static enum outcome
sqlite_look(struct attempt *attempt, bool will_wait)
{
    struct spot spot;
    struct row row;
    enum outcome outcome = LOCK_FREE;
    for (int i = 0; outcome == LOCK_FREE && i < LOOK_ATTEMPTS; i++) {
        attempt->report = (struct report){0};
        attempt->found = (struct identity){.born = 0};
        outcome = rows_find(attempt, &spot, &row);
        if (outcome != LOCK_FOUND) {
            return outcome;
        }
        attempt->found = rows_identity(spot.place.inode, row.beacon);
        if (will_wait) {
            wait_meet(&attempt->wait, attempt->found);
        }
        outcome = judge_row(attempt, &spot, &row, will_wait);
    }
    return outcome;
}

static bool
sqlite_is_there(struct attempt *attempt)
{
    enum outcome outcome = sqlite_look(attempt, false);
    return outcome != LOCK_FREE && outcome != LOCK_WAITING;
}

static unsigned
sqlite_list_readers(struct attempt *attempt, struct os_reader readers[], unsigned most)
{
    struct spot spot;
    struct os_status status;
    struct os_file *found = &place_of(attempt)->found;
    os_close(found);
    if (spot_find(&spot, attempt->lock) != 0 ||
        os_open(&os_anywhere, spot.beacons, OS_READ, found, &status) != 0) {
        return 0;
    }
    return group_list(attempt, &spot, readers, most);
}

/* The row has said it already. */
static void
sqlite_identify(struct attempt *attempt)
{
    struct holder *holder = &attempt->report.holder;
    holder->beacon = place_of(attempt)->found.inode;
    if (holder->is_shared) {
        struct os_reader readers[COUNTED_READERS];
        holder->readers = sqlite_list_readers(attempt, readers, COUNTED_READERS);
    }
}

/* What the last look could not see is asked for in passing. */
static struct identity
ask_in_passing(struct attempt *attempt)
{
    struct spot spot;
    struct row row;
    struct identity there = {.born = 0};
    struct python_call *python = request_of(attempt)->python;
    PyObject *error = python->error;
    python->error = NULL;
    if (spot_find(&spot, attempt->lock) == 0 &&
        database_select(request_of(attempt), spot.place, &row) == 0) {
        there = rows_identity(spot.place.inode, row.beacon);
    }
    python_call_restore_error(python, error);
    return there;
}

static struct identity
sqlite_recognise(struct attempt *attempt)
{
    return attempt->unanswered_since == 0 ? attempt->found : ask_in_passing(attempt);
}

/* ---- Break ---- */

static enum outcome
remove_stale(struct attempt *attempt, const struct spot *spot, const struct os_file *file)
{
    struct beacon beacon = rows_beacon(attempt->found);
    int error = beacon_take(file, beacon);
    if (os_is_refused(error)) {
        wait_hurry(&attempt->wait); /* it lives, or another breaks it right now */
        return judge_held(attempt, LIFE_UNKNOWN, NULL);
    }
    if (error != 0) {
        return judge_failed(&attempt->report, error, "take the beacon of a dead owner");
    }
    error = rows_remove(attempt, spot, beacon, place_of(attempt)->is_of_group);
    beacon_darken(file, beacon);
    if (error == 0) {
        rows_sweep(attempt, spot, file);
    }
    if (error == 0 || error == ENOENT || error == DATABASE_MOVED) {
        return LOCK_FREE;
    }
    bool again = error == EBUSY && rows_ask_again(attempt, error, 0);
    return again ? LOCK_WAITING : rows_cannot_ask(attempt, error, "remove the row of a dead owner");
}

static enum outcome
sqlite_break_stale(struct attempt *attempt)
{
    struct spot spot;
    struct os_file file;
    struct ground ground;
    int error = spot_find(&spot, attempt->lock);
    if (error == 0) {
        error = beacon_share(spot.beacons, spot.place.mode, true, &file, &ground);
    }
    if (error != 0) {
        return os_is_absent(error) ? LOCK_FREE : hold_unproven(attempt, error);
    }
    bool same = file.inode.number == rows_beacon(attempt->found).file;
    enum outcome outcome = same ? remove_stale(attempt, &spot, &file) : LOCK_FREE;
    beacon_leave(&file);
    return outcome;
}

/* ---- What is owned ---- */

/* Is what others keep from us asked for again, in a moment? */
static bool
is_patient(struct attempt *attempt, int error, int64_t patience)
{
    return rows_ask_again(attempt, os_is_refused(error) ? EBUSY : error, patience);
}

static int
select_own(struct attempt *attempt, const struct spot *spot, const struct claim *claim,
           struct row *row)
{
    struct request *request = request_of(attempt);
    return claim->is_shared
               ? database_select_member(request, spot->place, rows_beacon(claim->identity), row)
               : database_select(request, spot->place, row);
}

static enum outcome
sqlite_confirm(struct attempt *attempt, struct claim *claim)
{
    struct spot spot;
    struct row row;
    attempt->report = (struct report){0};
    int error = claims_find(attempt, &spot, claim);
    if (error == 0) {
        error = select_own(attempt, &spot, claim, &row);
    }
    if (is_patient(attempt, error, PATIENCE)) {
        return LOCK_WAITING;
    }
    switch (error) {
    case 0:
        return identity_is_alike(rows_identity(spot.place.inode, row.beacon), claim->identity)
                   ? LOCK_OWNED
                   : LOCK_BROKEN;
    case ENOENT:
    case DATABASE_MOVED:
        return LOCK_BROKEN;
    default:
        return rows_failed(attempt, error, "read the database");
    }
}

/* ---- Release ---- */

static enum outcome
still_owned(struct attempt *attempt, int error)
{
    attempt->report.owned = true;
    return rows_failed(attempt, error, "remove the row from the database");
}

static enum outcome
sqlite_release(struct attempt *attempt, struct claim *claim, bool *has_waiters)
{
    struct spot spot;
    *has_waiters = false;
    if (attempt->lock == NULL) { /* Python is gone: whoever comes next finds it stale */
        claims_drop(claim);
        return LOCK_RELEASED;
    }
    attempt->report = (struct report){0};
    int64_t patience = PATIENCE;
    int error = claims_find(attempt, &spot, claim);
    if (error == 0) {
        patience = RELEASE_PATIENCE;
        error = rows_remove(attempt, &spot, rows_beacon(claim->identity), claim->is_shared);
    }
    if (error == ENOENT || error == DATABASE_MOVED) {
        claims_drop(claim);
        return LOCK_BROKEN;
    }
    if (is_patient(attempt, error, patience)) {
        return LOCK_WAITING;
    }
    /* Others keep the database busy: dark, the row is that of a dead owner to all of them, and
     * whoever comes next removes it. */
    bool is_over = error == 0 || (error == EBUSY && claims_have_proof(claim));
    return is_over ? claims_end_release(claim, has_waiters) : still_owned(attempt, error);
}

/* ---- Shared ---- */

static enum outcome
sqlite_downgrade(struct attempt *attempt, struct claim *claim)
{
    struct spot spot;
    struct row row = {.beacon = rows_beacon(claim->identity)};
    memcpy(row.owner, claim->unique_name, NAME_SIZE);
    int error = claims_find(attempt, &spot, claim);
    if (error == 0) {
        error = database_downgrade(request_of(attempt), spot.place, &row);
    }
    if (is_patient(attempt, error, PATIENCE)) {
        return LOCK_WAITING;
    }
    if (error != 0) {
        return rows_failed(attempt, error, "share the row in the database");
    }
    claims_tell_shared(claim);
    return LOCK_OWNED;
}

/* ---- break_lock() ---- */

static void
wake_waiters(const struct spot *spot)
{
    struct os_file file;
    struct ground ground;
    if (beacon_share(spot->beacons, spot->place.mode, true, &file, &ground) == 0) {
        os_touch(&file);
        beacon_leave(&file);
    }
}

/* The lock that was waited for, or else the first one that this call has met: while the database
 * was busy, another may have taken its place. */
static bool
is_meant(struct attempt *attempt, struct identity there, const struct identity *waited_for)
{
    if (waited_for == NULL && identity_is_none(attempt->found)) {
        attempt->found = there;
    }
    return identity_is_same(there, waited_for != NULL ? *waited_for : attempt->found);
}

static enum outcome
sqlite_condemn(struct attempt *attempt, const struct identity *waited_for)
{
    struct spot spot;
    struct row row;
    enum outcome outcome = rows_find(attempt, &spot, &row);
    if (outcome != LOCK_FOUND) {
        return outcome;
    }
    struct table_key key = {rows_identity(spot.place.inode, row.beacon), attempt->lock->file};
    if (!is_meant(attempt, key.identity, waited_for)) {
        return LOCK_FREE;
    }
    struct table_found ours;
    bool has = table_find(key, attempt->owner, &ours);
    int error = database_is_shared(&row)
                    ? database_dissolve(request_of(attempt), spot.place, row.beacon)
                    : database_delete(request_of(attempt), spot.place, row.beacon);
    if (is_patient(attempt, error, PATIENCE)) {
        return LOCK_WAITING;
    }
    if (error != 0 && error != ENOENT && error != DATABASE_MOVED) {
        return rows_cannot_ask(attempt, error, "remove the row from the database");
    }
    attempt->condemned = has ? ours.serial : 0;
    attempt->condemned_claim = key.identity;
    wake_waiters(&spot);
    return LOCK_FREE;
}

static void
sqlite_tidy(struct attempt *attempt)
{
    (void)attempt;
}

const struct mechanism sqlite_mechanism = {
    .begin = sqlite_begin,
    .leave_to_parent = sqlite_close,
    .open = sqlite_open,
    .close = sqlite_close,
    .claim = sqlite_claim,
    .look = sqlite_look,
    .is_there = sqlite_is_there,
    .join = group_join,
    .downgrade = sqlite_downgrade,
    .list_readers = sqlite_list_readers,
    .identify = sqlite_identify,
    .recognise = sqlite_recognise,
    .break_stale = sqlite_break_stale,
    .confirm = sqlite_confirm,
    .discard = claims_drop,
    .release = sqlite_release,
    .stop_release = table_keep,
    .abandon = claims_drop,
    .condemn = sqlite_condemn,
    .tidy = sqlite_tidy,
};
