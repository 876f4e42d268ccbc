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
#include "mechanisms/files/place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long a busy database is asked again at once: by who may sleep and ask later, by who
 * wants the lock now or not at all, by who asks something else, and by who gives up
 * something. */
#define SHORT_PATIENCE (2 * OS_MILLISECOND)
#define CLAIM_PATIENCE (50 * OS_MILLISECOND)
#define PATIENCE OS_SECOND
#define RELEASE_PATIENCE (OS_SECOND / 4)
#define EXIT_PATIENCE (2 * OS_SECOND)    /* for all rows together */
#define BUSY_PAUSE (OS_MILLISECOND / 50) /* a statement takes not much longer */

#define LIGHT_ATTEMPTS 10
#define LOOK_ATTEMPTS 100

static struct caller *
caller_of(const struct attempt *attempt)
{
    return attempt->caller;
}

static const char *
explain(const struct caller *caller, int error)
{
    switch (error) {
    case EPERM:
        return "in a directory where others may put files, the database and each file beside it "
               "must be a file of our own user's, with one name";
    case EBUSY:
        return caller->locker == os_process()
                   ? "this program has locked the database itself, by a transaction that is open"
               : caller->latched_out ? "another process is at work in the database"
                                     : "another program has locked the database";
    case DATABASE_FOREIGN:
        return "it holds tables of somebody else, or is no database; database= wants the name of a "
               "database of locks alone, which is made if there is none";
    case DATABASE_FORKED:
        return "this process was forked in the middle of a statement of another thread, by "
               "something that Python knows nothing of";
    default:
        return NULL;
    }
}

/* What database.h says of a statement. */
static enum outcome
fail(struct attempt *attempt, int error, const char *doing)
{
    struct report *report = &attempt->report;
    if (error == EIO || error == EBUSY) {
        report->cause = caller_of(attempt)->error;
    }
    report->reason = explain(caller_of(attempt), error);
    return place_fail(report,
                      error == DATABASE_FOREIGN  ? EEXIST
                      : error == DATABASE_FORKED ? ENOTRECOVERABLE
                                                 : error,
                      doing);
}

/* ---- Where the row is ---- */

struct spot {
    struct row_place place;
    char database[OS_PATH_SIZE];
    char row[OS_PATH_SIZE];
    char beacons[OS_PATH_SIZE];
};

/* The length of a path's directory, with its slash. */
static size_t
directory_length(const char *path)
{
    return (size_t)(strrchr(path, '/') - path) + 1;
}

static bool
is_in(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    return directory_length(path) == length && memcmp(path, directory, length) == 0;
}

/* A lock of the database's own directory is called by its name alone, whatever the
 * directory is called and from wherever it is seen; others by their whole path, in
 * which no symbolic link is left. */
static int
name_row(struct spot *spot, const struct lock *lock)
{
    char directory[OS_PATH_SIZE];
    const char *base = "";
    bool named = is_in(spot->database, lock->directory);
    if (!named) {
        int error = os_resolve(lock->directory, directory);
        if (error != 0) {
            return error;
        }
        size_t length = strlen(directory);
        if (directory[length - 1] != '/' && length + 1 < OS_PATH_SIZE) {
            strcpy(directory + length, "/");
        }
        base = directory;
        char database[OS_PATH_SIZE];
        error = os_resolve(spot->database, database);
        if (error != 0 && error != ENOENT) {
            return error;
        }
        named = error == 0 && is_in(database, directory);
    }
    int length = snprintf(spot->row, OS_PATH_SIZE, "%s%s", named ? "" : base, lock->file);
    return length < OS_PATH_SIZE ? 0 : ENAMETOOLONG;
}

/* ENOENT: there is no database. */
static int
find_database(struct spot *spot, const struct lock *lock)
{
    struct os_status status = {0};
    if (strlen(lock->database) >= OS_PATH_SIZE) {
        return ENAMETOOLONG;
    }
    strcpy(spot->database, lock->database);
    int error = os_status_at(&os_anywhere, spot->database, &status);
    if (error == 0) {
        error = owner_check_trust(spot->database, &status);
    }
    if (error == 0 && status.kind == OS_LINK) {
        error = os_resolve(lock->database, spot->database);
        if (error == 0) {
            error = os_status_at(&os_anywhere, spot->database, &status);
        }
        if (error == 0) {
            error = owner_check_trust(spot->database, &status);
        }
    }
    if (error == 0 && status.kind != OS_REGULAR) {
        error = status.kind == OS_DIRECTORY ? EISDIR : ENODEV;
    }
    if (error == 0) {
        error = name_row(spot, lock);
    }
    if (error == 0 && !beacon_path(spot->database, spot->beacons)) {
        error = ENAMETOOLONG;
    }
    spot->place = (struct row_place){spot->database, status.inode, status.mode, spot->row};
    return error;
}

/* The same, and makes an empty one if there is none. */
static int
find_or_make_database(struct spot *spot, const struct lock *lock)
{
    int error = find_database(spot, lock);
    if (error == ENOENT) {
        error = os_make_file(&os_anywhere, lock->database);
        if (error == 0 || error == EEXIST) {
            error = find_database(spot, lock);
        }
    }
    return error;
}

static enum outcome
cannot_find(struct attempt *attempt, int error)
{
    return fail(attempt, error, "find the database");
}

/* ---- Statements, asked again while the database is busy ---- */

static bool
may_ask_later(const struct attempt *attempt)
{
    return attempt->wait.deadline > 0;
}

/* Until when a busy database is asked again: a claim that must not wait, and the end of the
 * program, have one limit for all that they ask. */
static int64_t
be_patient(const struct attempt *attempt, int64_t patience)
{
    int64_t limit = caller_of(attempt)->patience;
    int64_t until = os_now() + patience;
    return limit != 0 && limit < until ? limit : until;
}

static int64_t
patience_until(const struct attempt *attempt)
{
    return be_patient(attempt, may_ask_later(attempt) ? SHORT_PATIENCE : PATIENCE);
}

/* It could be asked, if it was not busy. */
static void
note_answer(struct attempt *attempt, int error)
{
    if (error != EBUSY) {
        attempt->busy_since = 0;
    }
}

static bool
is_asked_again(int error, int64_t until)
{
    if (error != EBUSY || os_now() >= until) {
        return false;
    }
    os_pause(BUSY_PAUSE);
    return true;
}

static int
select_row(struct attempt *attempt, const struct spot *spot, struct row *row, int64_t until)
{
    int error;
    do {
        error = database_select(caller_of(attempt), spot->place, row);
    } while (is_asked_again(error, until));
    note_answer(attempt, error);
    return error;
}

static int
insert_row(struct attempt *attempt, const struct spot *spot, const struct row *row, int64_t until)
{
    int error;
    do {
        error = database_insert(caller_of(attempt), spot->place, row, attempt->ground.local);
    } while (is_asked_again(error, until));
    note_answer(attempt, error);
    return error;
}

static int
delete_row(struct attempt *attempt, const struct spot *spot, struct beacon beacon, int64_t until)
{
    int error;
    do {
        error = database_delete(caller_of(attempt), spot->place, beacon);
    } while (is_asked_again(error, until));
    return error;
}

/* Whoever may wait, asks again later; if it is still busy when time is up, that is a failure. But
 * who is at work in the database for its own lock, or is stopped there, has not locked it. */
static enum outcome
cannot_ask(struct attempt *attempt, int error, const char *doing)
{
    const struct caller *caller = caller_of(attempt);
    if (error == EBUSY && caller->latched_out && caller->claiming) {
        attempt->report = (struct report){0};
        attempt->busy_since = os_now(); /* claimed again, not looked at: but that is no failure */
        return place_hold(attempt, LIFE_UNKNOWN, explain(caller, error));
    }
    if (error == EBUSY) {
        attempt->busy_since = attempt->busy_since != 0 ? attempt->busy_since : os_now();
    }
    fail(attempt, error, doing);
    return error == EBUSY && may_ask_later(attempt) ? LOCK_HELD : LOCK_FAILED;
}

/* ---- The claim that a row is ---- */

static struct os_inode
inode_of(struct beacon beacon)
{
    return (struct os_inode){beacon.file, beacon.byte};
}

static struct beacon
beacon_of(struct os_inode inode)
{
    return (struct beacon){inode.device, inode.number};
}

/* STALE: there is a row; FREE, HELD, FAILED. */
static enum outcome
find_row(struct attempt *attempt, struct spot *spot, struct row *row)
{
    int error = find_database(spot, attempt->lock);
    if (error != 0) {
        return owner_is_absent(error) ? LOCK_FREE : cannot_find(attempt, error);
    }
    error = select_row(attempt, spot, row, patience_until(attempt));
    switch (error) {
    case 0:
        return LOCK_STALE;
    case ENOENT:
    case DATABASE_MOVED:
        return LOCK_FREE;
    default:
        return cannot_ask(attempt, error, "read the database");
    }
}

/* ---- Reaching the place ---- */

static void
sqlite_close(struct attempt *attempt)
{
    os_close(&attempt->found);
}

/* Each step finds its database anew. */
static int
sqlite_open(struct attempt *attempt)
{
    sqlite_close(attempt);
    return 0;
}

/* ---- Claim ---- */

static int
light(const struct os_file *file, struct beacon *beacon)
{
    int error = EWOULDBLOCK;
    for (int i = 0; error == EWOULDBLOCK && i < LIGHT_ATTEMPTS; i++) {
        error = beacon_light(file, beacon);
    }
    return error;
}

/* Closes nothing: the beacon's file is this process's for all claims. */
static void
drop_dark(struct owned *owned)
{
    beacon_leave(&owned->beacon);
    table_replace(&owned->beacon, (struct os_file){.descriptor = -1});
    table_drop(owned);
}

static void
drop(struct owned *owned)
{
    if (os_is_open(&owned->beacon)) {
        beacon_darken(&owned->beacon, beacon_of(owned->inode));
    }
    drop_dark(owned);
}

/* Makes their file if need be, but none beside a database that cannot be ours. */
static int
share_beacons(struct attempt *attempt, const struct spot *spot, struct os_file *file)
{
    unsigned mode = spot->place.mode;
    int error = beacon_share(spot->beacons, mode, false, file, &attempt->ground);
    if (error == ENOENT) {
        error = database_recognise(caller_of(attempt), spot->place);
        if (error == 0) {
            error = beacon_share(spot->beacons, mode, true, file, &attempt->ground);
        }
    }
    return error;
}

/* Lights the beacon; where there are none, the row says so by its file's number, 0. */
static int
light_claim(struct attempt *attempt, const struct spot *spot, struct owned *claim)
{
    struct beacon beacon;
    int error = share_beacons(attempt, spot, &claim->beacon);
    if (error != 0) {
        return error;
    }
    error = light(&claim->beacon, &beacon);
    if (error == 0 && !attempt->ground.local && beacon_is_vain(spot->beacons, beacon)) {
        beacon_darken(&claim->beacon, beacon);
        error = EOPNOTSUPP; /* it is granted to everybody, and proves nothing */
    }
    if (os_flock_is_unsupported(error) && !attempt->ground.local) {
        attempt->ground.kernel = 0; /* no beacon, so no .K that would promise one */
        beacon = (struct beacon){0, os_random() >> 2};
        error = 0;
    }
    if (error != 0) {
        beacon_leave(&claim->beacon);
        claim->beacon.descriptor = -1;
        return error;
    }
    claim->inode = inode_of(beacon);
    owner_format(claim->unique_name, attempt->lock->host, attempt->owner, attempt->ground.kernel,
                 0);
    return 0;
}

static enum outcome
refuse_claim(struct attempt *attempt, int error)
{
    switch (error) {
    case EEXIST:
        return LOCK_HELD;
    case DATABASE_MOVED:
        return LOCK_FREE;
    default:
        return cannot_ask(attempt, error, "write to the database");
    }
}

static enum outcome
make_row(struct attempt *attempt, const struct spot *spot, struct owned *claim)
{
    struct row row = {.beacon = beacon_of(claim->inode)};
    memcpy(row.owner, claim->unique_name, OWNER_NAME_SIZE);
    claim->directory.inode = spot->place.inode;
    claim->local = attempt->ground.local;
    if (!table_enter(claim)) {
        drop(claim);
        return place_fail(&attempt->report, ECANCELED, "lock while the program ends");
    }
    int error = insert_row(attempt, spot, &row, patience_until(attempt));
    if (error == 0) {
        table_keep(claim);
        return LOCK_OWNED;
    }
    drop(claim);
    return refuse_claim(attempt, error);
}

static enum outcome
sqlite_claim(struct attempt *attempt)
{
    const struct lock *lock = attempt->lock;
    struct spot spot;
    attempt->report = (struct report){0};
    caller_of(attempt)->claiming = true;
    if (!may_ask_later(attempt) && caller_of(attempt)->patience == 0) {
        caller_of(attempt)->patience = os_now() + CLAIM_PATIENCE;
    }
    int error = find_or_make_database(&spot, lock);
    if (error != 0) {
        return cannot_find(attempt, error);
    }
    struct owned *claim = table_new(lock->mechanism, attempt->owner, lock_name(lock), spot.row);
    if (claim == NULL) {
        return place_fail(&attempt->report, ENOMEM, "allocate");
    }
    error = light_claim(attempt, &spot, claim);
    if (error != 0) {
        table_drop(claim);
        return error == DATABASE_MOVED ? LOCK_FREE
               : error < 0 ? fail(attempt, error, "use the database")
                           : fail(attempt, error, "lock the beacon beside the database");
    }
    return make_row(attempt, &spot, claim);
}

/* ---- Judge ---- */

static void
say_owner(struct attempt *attempt, const struct row *row)
{
    struct holder *holder = &attempt->report.holder;
    memcpy(attempt->found_name, row->owner, OWNER_NAME_SIZE);
    holder->known = owner_parse(row->owner, &holder->name);
}

/* Opens the file that the beacon is in, and watches it. 0, or why it proves nothing. */
static int
open_beacon(struct attempt *attempt, const struct spot *spot, const struct row *row, bool watched)
{
    struct os_status status;
    os_close(&attempt->found);
    int error = os_open(&os_anywhere, spot->beacons, OS_READ, &attempt->found, &status);
    if (error == 0) {
        error = owner_ground(&attempt->found, &attempt->ground);
    }
    if (error == 0 && (status.kind != OS_REGULAR || status.inode.number != row->beacon.file)) {
        error = ENOENT;
    }
    if (error == 0 && watched && attempt->ground.local) {
        if (wait_in_queue(&attempt->wait, &attempt->found, beacon_queue(row->beacon))) {
            wait_watch(&attempt->wait, spot->beacons, OS_REGULAR, status.inode);
        }
    }
    return error;
}

/* What cannot be looked at, may be a live owner's. */
static enum outcome
hold_unproven(struct attempt *attempt, int error)
{
    if (error == ENOENT) {
        return place_hold(attempt, LIFE_UNKNOWN,
                          "the file that would tell whether its owner is alive is not there");
    }
    if (error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO) {
        return place_fail(&attempt->report, error, "look at the beacon beside the database");
    }
    attempt->report.error = error;
    return place_hold(attempt, LIFE_UNKNOWN, "whether its owner is alive cannot be seen");
}

/* STALE, OWNED, HELD, FAILED; FREE: the row has changed. */
static enum outcome
judge_row(struct attempt *attempt, struct spot *spot, const struct row *row, bool watched)
{
    struct row again = {.owner = ""};
    int error = open_beacon(attempt, spot, row, watched);
    attempt->found.inode = inode_of(row->beacon); /* of all in that file, which claim it is */
    attempt->directory.inode = spot->place.inode;
    enum outcome in_table = place_look_up(attempt);
    if (in_table == LOCK_OWNED) {
        return LOCK_OWNED;
    }
    if (error == 0) {
        error = beacon_look(&attempt->found, row->beacon);
    }
    if (error == 0) {
        /* A release removes the row before it darkens the beacon. */
        enum outcome outcome = find_row(attempt, spot, &again);
        bool same = os_same(inode_of(again.beacon), inode_of(row->beacon));
        if (outcome != LOCK_STALE || !same) {
            return outcome == LOCK_STALE ? LOCK_FREE : outcome;
        }
    }
    if (in_table == LOCK_HELD) {
        return LOCK_HELD;
    }
    say_owner(attempt, row);
    return error == EWOULDBLOCK ? place_hold(attempt, LIFE_ALIVE, NULL)
           : error != 0         ? hold_unproven(attempt, error)
                                : place_judge_name(attempt);
}

static enum outcome
sqlite_look(struct attempt *attempt, bool watched)
{
    struct spot spot;
    struct row row;
    enum outcome outcome = LOCK_FREE;
    for (int i = 0; outcome == LOCK_FREE && i < LOOK_ATTEMPTS; i++) {
        attempt->report = (struct report){0};
        outcome = find_row(attempt, &spot, &row);
        if (outcome != LOCK_STALE) {
            return outcome;
        }
        if (watched) {
            wait_for_inode(&attempt->wait, inode_of(row.beacon));
        }
        outcome = judge_row(attempt, &spot, &row, watched);
    }
    return outcome;
}

static bool
sqlite_is_there(struct attempt *attempt)
{
    return sqlite_look(attempt, false) != LOCK_FREE;
}

/* The row has said it already. */
static void
sqlite_identify(struct attempt *attempt)
{
    (void)attempt;
}

static struct os_identity
sqlite_recognise(struct attempt *attempt)
{
    struct spot spot;
    struct row row;
    struct os_identity identity = {{0, 0}, 0};
    struct report report = attempt->report; /* asked in passing */
    PyObject *error = caller_of(attempt)->error;
    caller_of(attempt)->error = NULL;
    if (find_row(attempt, &spot, &row) == LOCK_STALE) {
        identity.inode = inode_of(row.beacon);
    }
    caller_restore(caller_of(attempt), error);
    attempt->report = report;
    return identity;
}

/* ---- Break ---- */

/* Is it one of this process's own? Its open file would be granted its own beacon. */
static bool
is_own(const struct spot *spot, const struct listed *listed)
{
    struct owner owner;
    uint64_t serial;
    const char *slash = strrchr(listed->name, '/');
    const char *file = slash != NULL ? slash + 1 : listed->name;
    struct table_key key = {inode_of(listed->row.beacon), spot->place.inode, file};
    return table_find(key, &owner, &serial);
}

/* Removes a row whose owner is proven dead; others are left alone. False: no more of this. */
static bool
reap(struct attempt *attempt, const struct spot *spot, const struct os_file *file,
     const struct listed *listed)
{
    struct owner_name name;
    struct beacon beacon = listed->row.beacon;
    if (!owner_parse(listed->row.owner, &name) || !owner_is_provable(&name, attempt->ground) ||
        is_own(spot, listed) || beacon_take(file, beacon) != 0) {
        return true;
    }
    struct row_place place = spot->place;
    place.row = listed->name;
    int error = database_delete(caller_of(attempt), place, beacon);
    beacon_darken(file, beacon);
    return error == 0 || error == ENOENT;
}

/* Rows of others that died together with it, which nobody may ever ask for again. */
static void
sweep(struct attempt *attempt, const struct spot *spot, const struct os_file *file)
{
    struct listed listed[DATABASE_LISTED];
    char last[OS_PATH_SIZE] = "";
    int count = DATABASE_LISTED;
    bool goes_on = true;
    while (goes_on && count == DATABASE_LISTED) {
        struct row_place place = spot->place;
        place.row = last;
        goes_on = database_list(caller_of(attempt), place, file->inode.number, listed, &count) == 0;
        for (int i = 0; i < count; i++) {
            goes_on = goes_on && reap(attempt, spot, file, &listed[i]);
            snprintf(last, sizeof last, "%s", listed[i].name);
            free(listed[i].name);
        }
    }
    caller_restore(caller_of(attempt), NULL);
}

static enum outcome
remove_stale(struct attempt *attempt, const struct spot *spot, const struct os_file *file)
{
    struct beacon beacon = beacon_of(attempt->found.inode);
    int error = beacon_take(file, beacon);
    if (error == EWOULDBLOCK) {
        wait_hurry(&attempt->wait); /* it lives, or another breaks it right now */
        return place_hold(attempt, LIFE_UNKNOWN, NULL);
    }
    if (error != 0) {
        return place_fail(&attempt->report, error, "take the beacon of a dead owner");
    }
    error = delete_row(attempt, spot, beacon, patience_until(attempt));
    beacon_darken(file, beacon);
    if (error == 0) {
        sweep(attempt, spot, file);
    }
    return error == 0 || error == ENOENT || error == DATABASE_MOVED
               ? LOCK_FREE
               : cannot_ask(attempt, error, "remove the row of a dead owner");
}

static enum outcome
sqlite_break_stale(struct attempt *attempt)
{
    struct spot spot;
    struct os_file file;
    struct owner_ground ground;
    int error = find_database(&spot, attempt->lock);
    if (error == 0) {
        error = beacon_share(spot.beacons, spot.place.mode, true, &file, &ground);
    }
    if (error != 0) {
        return owner_is_absent(error) ? LOCK_FREE : hold_unproven(attempt, error);
    }
    enum outcome outcome = file.inode.number == attempt->found.inode.device
                               ? remove_stale(attempt, &spot, &file)
                               : LOCK_FREE;
    beacon_leave(&file);
    return outcome;
}

/* ---- What is owned ---- */

/* Programs close descriptors behind our back. ENOENT: the file is another by now. */
static int
relight(const struct spot *spot, struct owned *owned)
{
    struct os_file file;
    struct owner_ground ground;
    struct beacon beacon = beacon_of(owned->inode);
    if (beacon.file == 0 || os_is_open(&owned->beacon)) {
        return 0;
    }
    int error = beacon_share(spot->beacons, spot->place.mode, true, &file, &ground);
    if (error != 0) {
        return error;
    }
    error = file.inode.number != beacon.file ? ENOENT : beacon_take(&file, beacon);
    if (error != 0) {
        beacon_leave(&file);
        return error;
    }
    beacon_leave(&owned->beacon);
    table_replace(&owned->beacon, file);
    return 0;
}

/* The database that the row is in, and the row, as it was called then. ENOENT: it is
 * not there any more. */
static int
find_owned(struct attempt *attempt, struct spot *spot, struct owned *owned)
{
    int error = find_database(spot, attempt->lock);
    if (error != 0) {
        return owner_is_absent(error) ? ENOENT : error;
    }
    if (!os_same(spot->place.inode, owned->directory.inode)) {
        return ENOENT;
    }
    spot->place.row = owned->row;
    error = relight(spot, owned);
    /* Refused, another is proving us dead just now, and removes the row: or it has
     * given up. */
    int64_t until = be_patient(attempt, PATIENCE);
    while (error == EWOULDBLOCK && os_now() < until) {
        os_pause(BUSY_PAUSE);
        error = relight(spot, owned);
    }
    return error;
}

static enum outcome
sqlite_confirm(struct attempt *attempt, struct owned *owned)
{
    struct spot spot;
    struct row row;
    attempt->report = (struct report){0};
    int error = find_owned(attempt, &spot, owned);
    if (error == 0) {
        error = select_row(attempt, &spot, &row, be_patient(attempt, PATIENCE));
    }
    switch (error) {
    case 0:
        return os_same(inode_of(row.beacon), owned->inode) ? LOCK_OWNED : LOCK_BROKEN;
    case ENOENT:
    case DATABASE_MOVED:
        return LOCK_BROKEN;
    default:
        return fail(attempt, error, "read the database");
    }
}

static enum outcome
still_owned(struct attempt *attempt, int error)
{
    attempt->report.owned = true;
    return fail(attempt, error, "remove the row from the database");
}

/* Does the row prove nothing without its beacon? */
static bool
is_proven_by_beacon(const struct owned *owned)
{
    return owned->local && beacon_of(owned->inode).file != 0 && os_is_open(&owned->beacon);
}

static enum outcome
sqlite_release(struct attempt *attempt, struct owned *owned, bool *awaited)
{
    struct spot spot;
    *awaited = false;
    if (attempt->lock == NULL) { /* Python is gone: whoever comes next finds it stale */
        drop(owned);
        return LOCK_RELEASED;
    }
    attempt->report = (struct report){0};
    int error = find_owned(attempt, &spot, owned);
    if (error == 0) {
        error = delete_row(attempt, &spot, beacon_of(owned->inode),
                           be_patient(attempt, RELEASE_PATIENCE));
    }
    if (error == ENOENT || error == DATABASE_MOVED) {
        drop(owned);
        return LOCK_BROKEN;
    }
    /* Others keep the database busy: dark, the row is that of a dead owner to all of them, and
     * whoever comes next removes it. */
    if (error != 0 && !(error == EBUSY && is_proven_by_beacon(owned))) {
        return still_owned(attempt, error);
    }
    struct os_file file = owned->beacon;
    struct beacon beacon = beacon_of(owned->inode);
    beacon_darken(&file, beacon);
    *awaited = owned->local && os_has_waiters(&file, beacon_queue(beacon));
    if (*awaited) {
        os_touch(&file);
    }
    drop_dark(owned);
    return LOCK_RELEASED;
}

/* ---- break_lock() ---- */

static void
wake_waiters(const struct spot *spot)
{
    struct os_file file;
    struct owner_ground ground;
    if (beacon_share(spot->beacons, spot->place.mode, true, &file, &ground) == 0) {
        os_touch(&file);
        beacon_leave(&file);
    }
}

/* What this process owned of it. */
static void
drop_condemned(uint64_t serial)
{
    struct owned *owned = serial != 0 ? table_take_serial(serial) : NULL;
    if (owned != NULL) {
        drop(owned);
    }
}

static enum outcome
sqlite_condemn(struct attempt *attempt, const struct os_identity *waited_for)
{
    struct spot spot;
    struct row row;
    struct owner owner;
    uint64_t serial = 0;
    enum outcome outcome = find_row(attempt, &spot, &row);
    if (outcome != LOCK_STALE) {
        return outcome;
    }
    struct os_identity there = {inode_of(row.beacon), 0};
    if (waited_for != NULL && !os_is_identical(there, *waited_for)) {
        return LOCK_FREE;
    }
    struct table_key key = {there.inode, spot.place.inode, attempt->lock->file};
    if (!table_find(key, &owner, &serial)) {
        serial = 0;
    }
    int error = delete_row(attempt, &spot, row.beacon, be_patient(attempt, PATIENCE));
    if (error != 0 && error != ENOENT && error != DATABASE_MOVED) {
        return cannot_ask(attempt, error, "remove the row from the database");
    }
    drop_condemned(serial);
    wake_waiters(&spot);
    return LOCK_FREE;
}

const struct mechanism sqlite_mechanism = {
    .open = sqlite_open,
    .close = sqlite_close,
    .claim = sqlite_claim,
    .look = sqlite_look,
    .is_there = sqlite_is_there,
    .identify = sqlite_identify,
    .recognise = sqlite_recognise,
    .break_stale = sqlite_break_stale,
    .confirm = sqlite_confirm,
    .release = sqlite_release,
    .discard = drop,
    .condemn = sqlite_condemn,
};

/* ---- Exit ---- */

/* False: what is left of its time, or of the user's patience, is not for rows. */
static bool
release_at_exit(struct caller *caller, struct owned *owned)
{
    struct attempt attempt = {.caller = caller};
    bool awaited, goes_on = false;
    caller_leave(caller);
    attempt.lock =
        lock_new(&sqlite_mechanism, owned->lock_file, owned->lock_file, owned->database, false);
    if (sqlite_release(&attempt, owned, &awaited) != LOCK_FAILED) {
        goes_on = true;
    } else {
        goes_on = attempt.report.error != EBUSY;
        drop(owned); /* whoever comes next finds it stale */
    }
    caller_return(caller);
    if (attempt.lock != NULL) {
        lock_drop(attempt.lock);
    }
    return goes_on;
}

void
sqlite_release_all(struct pool *pool)
{
    struct caller caller = {.pool = pool, .patience = os_now() + EXIT_PATIENCE};
    struct owned *owned;
    bool goes_on = true;
    table_close();
    while ((owned = table_take_last(&sqlite_mechanism)) != NULL) {
        if (goes_on && os_now() < caller.patience) {
            goes_on = release_at_exit(&caller, owned) && PyErr_CheckSignals() == 0;
            PyErr_Clear();
        } else {
            drop(owned);
        }
    }
    Py_CLEAR(caller.error);
}
