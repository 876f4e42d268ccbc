#include "mechanisms/sqlite/rows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long a busy database is asked again at once: by who may sleep and ask later, and by who
 * wants to know now. */
#define SHORT_PATIENCE (2 * OS_MILLISECOND)
#define PATIENCE OS_SECOND
#define BUSY_PAUSE (OS_MILLISECOND / 50) /* a statement takes not much longer */

/* ---- What failed ---- */

/* SQLite adds "-journal" to a path, and takes 512 bytes in all, as it is usually built. */
#define SQLITE_PATH_SIZE 505

#define WAY_OUT "database= or lock_file= can name others, by shorter names or paths"

static const char *
explain(struct attempt *attempt, int error)
{
    const struct request *request = &place_of(attempt)->request;
    switch (error) {
    case ENAMETOOLONG:
        return WAY_OUT;
    case EIO:
        return attempt->report.raised && strlen(attempt->lock->store) >= SQLITE_PATH_SIZE
                   ? "its path may be too long for SQLite; " WAY_OUT
                   : NULL;
    case EPERM:
        return "in a directory where others may put files, the database and each file beside it "
               "must be a file of our own user's, with one name";
    case EBUSY:
        return request->locker == os_process()
                   ? "this program has locked the database itself, by a transaction that is open"
               : request->latched_out ? "another process is at work in the database"
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

enum outcome
rows_failed(struct attempt *attempt, int error, const char *doing)
{
    struct report *report = &attempt->report;
    const struct request *request = &place_of(attempt)->request;
    if (error == EIO || error == EBUSY) {
        report->raised = request->python != NULL && request->python->error != NULL;
    }
    report->reason = explain(attempt, error);
    return judge_failed(report,
                        error == DATABASE_FOREIGN  ? EEXIST
                        : error == DATABASE_FORKED ? ENOTRECOVERABLE
                                                   : error,
                        doing);
}

/* ---- While it is busy ---- */

static bool
may_ask_later(const struct attempt *attempt)
{
    return wait_is_wanted(&attempt->wait);
}

bool
rows_ask_again(struct attempt *attempt, int error, int64_t patience)
{
    if (error != EBUSY) {
        attempt->unanswered_since = 0; /* it could be asked */
        return false;
    }
    if (patience == 0) {
        patience = may_ask_later(attempt) ? SHORT_PATIENCE : PATIENCE;
    }
    return attempt_is_patient(attempt, patience, BUSY_PAUSE);
}

/* If it is still busy when time is up, that is a failure. But who is at work in the database for
 * its own lock, or is stopped there, has not locked it. */
enum outcome
rows_cannot_ask(struct attempt *attempt, int error, const char *doing)
{
    const struct request *request = &place_of(attempt)->request;
    if (error == EBUSY && request->latched_out && attempt->claiming) {
        attempt->report = (struct report){0};
        attempt->unanswered_since = os_now(); /* claimed again, not looked at: but no failure */
        return judge_held(attempt, LIFE_UNKNOWN, explain(attempt, error));
    }
    if (error == EBUSY && attempt->unanswered_since == 0) {
        attempt->unanswered_since = os_now();
    }
    rows_failed(attempt, error, doing);
    return error == EBUSY && may_ask_later(attempt) ? LOCK_HELD : LOCK_FAILED;
}

/* ---- Finding one ---- */

enum outcome
rows_find(struct attempt *attempt, struct spot *spot, struct row *row)
{
    int error = spot_find(spot, attempt->lock);
    if (error != 0) {
        return os_is_absent(error) && !attempt_is_beyond_paths(attempt)
                   ? LOCK_FREE
                   : rows_failed(attempt, error, "find the database");
    }
    error = database_select(&place_of(attempt)->request, spot->place, row);
    if (rows_ask_again(attempt, error, 0)) {
        return LOCK_WAITING;
    }
    switch (error) {
    case 0:
        return LOCK_FOUND;
    case ENOENT:
    case DATABASE_MOVED:
        return LOCK_FREE;
    default:
        return rows_cannot_ask(attempt, error, "read the database");
    }
}

/* ---- Removing one ---- */

int
rows_remove(struct attempt *attempt, const struct spot *spot, struct beacon beacon, bool is_shared)
{
    struct request *request = &place_of(attempt)->request;
    return is_shared ? database_leave(request, spot->place, beacon)
                     : database_delete(request, spot->place, beacon);
}

/* ---- Rows of the dead ---- */

/* The name of the lock that a reader's row is of: cut out of it. False: it is a lock's row. */
static bool
cut_member(char *name)
{
    char *end = strstr(name, DATABASE_MEMBER);
    if (end != NULL) {
        *end = '\0';
    }
    return end != NULL;
}

/* Is it one of this process's own? Its open file would be granted its own beacon. */
static bool
is_own(const struct spot *spot, const struct listed *listed, const char *name)
{
    struct table_found found;
    struct table_key key = {rows_identity(spot->place.inode, listed->row.beacon),
                            os_last_name(name)};
    return table_find(key, owner_calling(true), &found);
}

/* Removes a row whose owner is proven dead; others are left alone. False: no more of this. */
static bool
reap(struct attempt *attempt, const struct spot *spot, const struct os_file *file,
     const struct listed *listed)
{
    struct name name;
    char lock[DATABASE_NAME_SIZE];
    struct beacon beacon = listed->row.beacon;
    snprintf(lock, sizeof lock, "%s", listed->name);
    bool is_member = cut_member(lock);
    if (!proof_read_name(listed->row.owner, &name) || !proof_is_possible(&name, attempt->ground) ||
        is_own(spot, listed, lock) || beacon_take(file, beacon) != 0) {
        return true;
    }
    struct spot there = *spot;
    there.place.row = lock;
    int error = rows_remove(attempt, &there, beacon, is_member);
    beacon_darken(file, beacon);
    return error == 0 || error == ENOENT;
}

void
rows_sweep(struct attempt *attempt, const struct spot *spot, const struct os_file *file)
{
    struct request *request = &place_of(attempt)->request;
    struct listed listed[DATABASE_LISTED];
    char last[DATABASE_NAME_SIZE] = "";
    int count = DATABASE_LISTED;
    bool goes_on = true;
    while (goes_on && count == DATABASE_LISTED) {
        struct row_place place = spot->place;
        place.row = last;
        goes_on = database_list(request, place, file->inode.number, listed, &count) == 0;
        for (int i = 0; i < count; i++) {
            goes_on = goes_on && reap(attempt, spot, file, &listed[i]);
            snprintf(last, sizeof last, "%s", listed[i].name);
            free(listed[i].name);
        }
    }
    python_call_restore_error(request->python, NULL);
}
