/* The texts of all statements, and how they are executed. */
#ifndef LOCKFILE_SQL_H
#define LOCKFILE_SQL_H

#include <Python.h>

#include "mechanisms/sqlite/pool.h"

/* The application_id of databases of locks: "lock" */
#define SQL_APPLICATION 1819239275

/* What the row of a shared lock says instead of its owner: no unique name. */
#define SQL_GROUP "shared"

/* So many rows are listed at once. */
#define SQL_LISTED 64

enum sql {
    SQL_SELECT,
    SQL_INSERT,
    SQL_DELETE,
    SQL_SHARE,
    SQL_LEAVE,
    SQL_LIST_GROUP,
    SQL_DOWNGRADE,
    SQL_DISSOLVE,
    SQL_LIST,
    SQL_TOLERATE,
    SQL_FIND_APPLICATION,
    SQL_SURVEY,
    SQL_USE_JOURNAL,
    SQL_DO_NOT_SYNCHRONISE,
    SQL_DO_NOT_MAP,
    SQL_FORGET,
    SQL_BEGIN,
    SQL_SET_APPLICATION,
    SQL_CREATE,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQLS
};

/* The pool of connections of this interpreter, with the GIL. NULL with an exception. */
PyObject *sql_pool(void);

/* Around what is done with a connection: the GIL, and no collections of garbage. On Python 3.11
 * they may run code of the program inside a statement, which waits for a thread that waits for this
 * statement. */
void sql_begin(struct request *request);
void sql_end(struct request *request);

/* ---- With the GIL ---- */

/* As connection_execute(). */
int sql_execute(struct request *request, const struct connection *connection, enum sql sql,
                PyObject *parameters, PyObject **rows, long *count);
int sql_execute_simply(struct request *request, const struct connection *connection, enum sql sql);

/* The one row of numbers that a statement gives; second may be NULL. */
int sql_ask_numbers(struct request *request, const struct connection *connection, enum sql sql,
                    long *first, long *second);

#endif
