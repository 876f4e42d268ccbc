#include "mechanisms/sqlite/database.h"

#include "mechanisms/sqlite/statement.h"
#include "mechanisms/sqlite/whose.h"

#include <errno.h>
#include <string.h>

/* How often an answer may be lost. */
#define ATTEMPTS 5

/* What is only told apart in between. */
static int
plain_error(int error)
{
    return error == CONNECTION_CANNOT_OPEN || error == CONNECTION_NO_DATABASE ? EIO : error;
}

/* Latched, and with the GIL. */
static int
ask(struct request *request, struct connection *connection, struct row_place place,
    const struct statement *statement)
{
    int error = 0;
    if (connection->object != NULL && (!os_same(connection->inode, place.inode) ||
                                       connection->foreign || connection->is_read_only)) {
        connection_close(connection);
    }
    if (connection->object == NULL) {
        error = whose_open(request, connection, place, statement_makes(statement));
    }
    if (error == 0) {
        error = statement_run(request, connection, statement);
    }
    return plain_error(error);
}

/* Without the GIL, and latched still. SQLite opens the path by itself, perhaps another file
 * by now; and a row that is made in a database that is not there any more is no lock. */
static int
verify(struct request *request, struct connection *connection, struct row_place place,
       const struct statement *statement, int error)
{
    struct os_status status;
    if (connection->object != NULL && !connection->foreign && !connection_is_kept(connection)) {
        connection_abandon(connection);
        return STATEMENT_LOST;
    }
    if ((statement_makes(statement) || error == EIO) && whose_find_status(place, &status) != 0) {
        return DATABASE_MOVED;
    }
    if (error == EBUSY && !os_is_none(&connection->number)) {
        /* https://www.sqlite.org/lockingv3.html: the pending byte and those behind it */
        request->locker = os_find_locker(&connection->number, UINT64_C(0x40000000), 512);
    }
    return error;
}

/* Reads without a latch, where none may be made: who cannot write there, cannot do any
 * harm. */
static int
latch(struct connection *connection, unsigned mode, const struct statement *statement)
{
    int error = connection_latch(connection, mode);
    if (os_is_read_only(error) && error != EPERM &&
        (statement->sql == SQL_SELECT || statement->sql == SQL_LIST_GROUP)) {
        connection->latch_is_shared = true;
        return 0;
    }
    return error == ENOENT ? DATABASE_MOVED : error;
}

/* Does the connection serve another statement? */
static bool
is_of_use(const struct connection *connection, int error)
{
    bool answered = error == 0 || error == ENOENT || error == EEXIST || error == EBUSY;
    return (answered && !connection->is_read_only) ||
           (error == DATABASE_FOREIGN && connection->foreign);
}

static int
ask_once(struct request *request, struct connection *connection, struct row_place place,
         const struct statement *statement)
{
    if (connection->object != NULL && !connection->foreign && !connection_is_kept(connection)) {
        connection_abandon(connection);
    }
    int error =
        plain_error(whose_recognise(request, connection, place, statement_makes(statement)));
    if (error == 0) {
        error = latch(connection, place.mode, statement);
        request->latched_out = error == EBUSY;
    }
    if (error != 0) {
        return error;
    }
    sql_begin(request);
    error = ask(request, connection, place, statement);
    sql_end(request);
    error = verify(request, connection, place, statement, error);
    if (!is_of_use(connection, error)) {
        sql_begin(request);
        connection_close(connection); /* whatever is wrong with it: next time anew */
        sql_end(request);
    }
    connection_unlatch(connection);
    if (connection->latch_is_shared) {
        connection_close_latch(connection); /* perhaps it may be written next time */
    }
    return error;
}

static bool
removes(const struct statement *statement)
{
    return statement->sql == SQL_DELETE || statement->sql == SQL_LEAVE ||
           statement->sql == SQL_DISSOLVE;
}

static int
run(struct request *request, struct row_place place, struct statement statement)
{
    struct connection *connection;
    int lost = 0;
    int error = pool_borrow(request->pool, place.database, &connection);
    if (error != 0) {
        return error == ECHILD ? DATABASE_FORKED : error;
    }
    statement.row = place.row;
    python_call_restore_error(request->python, NULL);
    request->locker = 0;
    request->latched_out = false;
    while ((error = ask_once(request, connection, place, &statement)) == STATEMENT_LOST &&
           lost < ATTEMPTS && !statement_lists(&statement)) {
        lost++;
        statement.asked_before = true;
    }
    pool_give_back(request, connection);
    if (error == ENOENT && lost > 0 && removes(&statement)) {
        return 0; /* what was lost was the answer */
    }
    return error == STATEMENT_LOST ? EBUSY : error;
}

int
database_recognise(struct request *request, struct row_place place)
{
    struct connection *connection;
    int error = pool_borrow(request->pool, place.database, &connection);
    if (error != 0) {
        return error == ECHILD ? DATABASE_FORKED : error;
    }
    python_call_restore_error(request->python, NULL);
    error = plain_error(whose_recognise(request, connection, place, true));
    pool_give_back(request, connection);
    return error;
}

int
database_select(struct request *request, struct row_place place, struct row *row)
{
    return run(request, place,
               (struct statement){.sql = SQL_SELECT, .content = row, .is_local = true});
}

int
database_insert(struct request *request, struct row_place place, const struct row *row,
                bool is_local)
{
    struct row content = *row;
    return run(request, place,
               (struct statement){.sql = SQL_INSERT, .content = &content, .is_local = is_local});
}

int
database_delete(struct request *request, struct row_place place, struct beacon beacon)
{
    struct row content = {.beacon = beacon};
    return run(request, place,
               (struct statement){.sql = SQL_DELETE, .content = &content, .is_local = true});
}

/* ---- Of those who share a lock ---- */

bool
database_is_shared(const struct row *row)
{
    return strcmp(row->owner, SQL_GROUP) == 0;
}

int
database_share(struct request *request, struct row_place place, const struct row *row,
               bool is_local)
{
    struct row content = *row;
    return run(request, place,
               (struct statement){.sql = SQL_SHARE, .content = &content, .is_local = is_local});
}

int
database_downgrade(struct request *request, struct row_place place, const struct row *row)
{
    struct row content = *row;
    return run(request, place,
               (struct statement){.sql = SQL_DOWNGRADE, .content = &content, .is_local = true});
}

int
database_leave(struct request *request, struct row_place place, struct beacon beacon)
{
    struct row content = {.beacon = beacon};
    return run(request, place,
               (struct statement){.sql = SQL_LEAVE, .content = &content, .is_local = true});
}

int
database_dissolve(struct request *request, struct row_place place, struct beacon beacon)
{
    struct row content = {.beacon = beacon};
    return run(request, place,
               (struct statement){.sql = SQL_DISSOLVE, .content = &content, .is_local = true});
}

int
database_select_member(struct request *request, struct row_place place, struct beacon beacon,
                       struct row *row)
{
    row->beacon = beacon;
    return run(
        request, place,
        (struct statement){.sql = SQL_SELECT, .is_member = true, .content = row, .is_local = true});
}

int
database_list_group(struct request *request, struct row_place place, const char *after,
                    struct listed listed[DATABASE_LISTED], int *count)
{
    struct row content = {.owner = ""};
    struct statement statement = {.sql = SQL_LIST_GROUP,
                                  .content = &content,
                                  .is_local = true,
                                  .after = after,
                                  .listed = listed,
                                  .count = count};
    *count = 0;
    return run(request, place, statement);
}

int
database_list(struct request *request, struct row_place place, uint64_t file,
              struct listed listed[DATABASE_LISTED], int *count)
{
    struct row content = {.beacon = {.file = file}};
    struct statement statement = {
        .sql = SQL_LIST, .content = &content, .is_local = true, .listed = listed, .count = count};
    *count = 0;
    return run(request, place, statement);
}
