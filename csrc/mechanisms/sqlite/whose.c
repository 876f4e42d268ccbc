#include "mechanisms/sqlite/whose.h"

#include "mechanisms/sqlite/sql.h"

#include <errno.h>

/* Looks without disturbing anybody: 0, if it says that it is ours. Foreign, it stays open: if
 * the program uses it by another SQLite than Python's, that one would lose its locks by a
 * close. */
static int
look_whose(struct request *request, struct connection *connection, struct os_inode inode)
{
    long application = 0;
    int error = connection_open_to_look(request, connection, inode);
    if (error == 0) {
        error = sql_execute_simply(request, connection, SQL_TOLERATE);
    }
    if (error == 0) {
        error = sql_ask_numbers(request, connection, SQL_FIND_APPLICATION, &application, NULL);
    }
    connection->foreign =
        error == CONNECTION_NO_DATABASE || (error == 0 && application != SQL_APPLICATION);
    if (connection->foreign) {
        return DATABASE_FOREIGN;
    }
    connection_close(connection);
    return error;
}

int
whose_find_status(struct row_place place, struct os_status *status)
{
    int error = os_status_at(&os_anywhere, place.database, status);
    if (error != 0) {
        return os_is_absent(error) ? DATABASE_MOVED : error;
    }
    return os_same(status->inode, place.inode) ? 0 : DATABASE_MOVED;
}

/* Whoever makes one of ours just now has made its beacons before: then it is looked at once more,
 * when that one has ended. */
int
whose_recognise(struct request *request, struct connection *connection, struct row_place place,
                bool makes)
{
    struct os_status status, beacons;
    if (connection->object != NULL && !connection->foreign) {
        return 0;
    }
    int error = whose_find_status(place, &status);
    if (error == 0 && status.size == 0 && !makes) {
        return ENOENT;
    }
    if (error == 0 && connection->foreign && os_same(connection->inode, status.inode)) {
        return DATABASE_FOREIGN;
    }
    if (error == 0 && status.size > 0 &&
        os_status_at(&os_anywhere, connection->beacons, &beacons) != 0) {
        sql_begin(request);
        connection_close(connection);
        error = look_whose(request, connection, place.inode);
        sql_end(request);
    }
    return error;
}

/* ---- Opening, with the GIL ---- */

/* In one transaction, so that none is ever seen that is half made. */
static int
make_table(struct request *request, struct connection *connection)
{
    static const enum sql steps[] = {SQL_SET_APPLICATION, SQL_CREATE, SQL_COMMIT};
    int error = sql_execute_simply(request, connection, SQL_BEGIN);
    if (error != 0) {
        return error;
    }
    for (size_t i = 0; error == 0 && i < sizeof steps / sizeof *steps; i++) {
        error = sql_execute_simply(request, connection, steps[i]);
    }
    if (error != 0) {
        PyObject *first = request->python->error;
        request->python->error = NULL;
        sql_execute_simply(request, connection, SQL_ROLLBACK);
        Py_XDECREF(request->python->error);
        request->python->error = first;
    }
    return error;
}

int
whose_find_table(struct request *request, struct connection *connection, bool make)
{
    long application = 0, all = 0, ours = 0;
    int error = sql_ask_numbers(request, connection, SQL_FIND_APPLICATION, &application, NULL);
    if (error == 0) {
        error = sql_ask_numbers(request, connection, SQL_SURVEY, &all, &ours);
    }
    if (error == 0 && (all != ours || (all > 0 && application != SQL_APPLICATION))) {
        error = DATABASE_FOREIGN;
    }
    if (error == 0 && all == 0) {
        error = make ? make_table(request, connection) : ENOENT;
    }
    connection->has_table = error == 0;
    return error;
}

/* The first of these may roll back what a process that was killed has left, and remove its
 * journal. */
static int
set_up(struct request *request, struct connection *connection)
{
    int error = sql_execute_simply(request, connection, SQL_USE_JOURNAL);
    if (error == 0) {
        error = connection_check_companions(connection);
    }
    if (error == 0) {
        error = sql_execute_simply(request, connection, SQL_DO_NOT_SYNCHRONISE);
    }
    if (error == 0) {
        error = sql_execute_simply(request, connection, SQL_DO_NOT_MAP);
    }
    return error;
}

int
whose_open(struct request *request, struct connection *connection, struct row_place place,
           bool makes)
{
    struct os_status status;
    int error = whose_find_status(place, &status);
    if (error == 0 && status.size > 0) {
        error = look_whose(request, connection, place.inode);
    } else if (error == 0 && !makes) {
        error = ENOENT;
    }
    if (error == 0) {
        error = connection_check_companions(connection);
    }
    if (error == 0) {
        error = connection_open(request, connection, place.inode);
    }
    if (error == 0 && (error = set_up(request, connection)) != 0) {
        connection_close(connection);
    }
    return error;
}
