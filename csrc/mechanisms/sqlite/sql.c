#include "mechanisms/sqlite/sql.h"

#define TABLE "\"lockfile: locks\""

#define STRING_OF(text) #text
#define STRING(text) STRING_OF(text)

static const char *const texts[SQLS] = {
    [SQL_SELECT] = "SELECT owner, beacon_file, beacon_byte FROM " TABLE " WHERE lock = ?",
    [SQL_INSERT] =
        "INSERT INTO " TABLE " (lock, owner, beacon_file, beacon_byte) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (lock) DO NOTHING",
    [SQL_DELETE] = "DELETE FROM " TABLE " WHERE lock = ? AND beacon_file = ? AND beacon_byte = ?",
    [SQL_LIST] = "SELECT owner, beacon_file, beacon_byte, lock FROM " TABLE
                 " WHERE lock > ? AND beacon_file = ? ORDER BY lock LIMIT " STRING(SQL_LISTED),
    /* A database whose maker was killed may be shorter than it says. */
    [SQL_TOLERATE] = "PRAGMA writable_schema = ON",
    [SQL_FIND_APPLICATION] = "PRAGMA application_id",
    [SQL_SURVEY] = "SELECT count(*), count(*) FILTER (WHERE name = 'lockfile: locks')"
                   " FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'",
    /* No lock outlives a statement then, and no file comes or goes with one. */
    [SQL_USE_JOURNAL] = "PRAGMA journal_mode = PERSIST",
    /* Once the power is back, nobody owns anything. */
    [SQL_DO_NOT_SYNCHRONISE] = "PRAGMA synchronous = OFF",
    [SQL_DO_NOT_MAP] = "PRAGMA mmap_size = 0",
    [SQL_FORGET] = "PRAGMA shrink_memory",
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_SET_APPLICATION] = "PRAGMA application_id = " STRING(SQL_APPLICATION),
    [SQL_CREATE] = "CREATE TABLE IF NOT EXISTS " TABLE " (lock BLOB NOT NULL PRIMARY KEY,"
                   " owner BLOB NOT NULL CHECK (typeof(owner) = 'blob'),"
                   " beacon_file INTEGER NOT NULL CHECK (typeof(beacon_file) = 'integer'),"
                   " beacon_byte INTEGER NOT NULL CHECK (typeof(beacon_byte) = 'integer'))"
                   " WITHOUT ROWID",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
};

PyObject *
sql_pool(void)
{
    return pool_get(texts, SQLS);
}

void
sql_begin(struct request *request)
{
    python_call_return(request->python);
    pool_hold_collections(request->pool);
}

void
sql_end(struct request *request)
{
    pool_allow_collections(request->pool);
    python_call_leave(request->python);
}

int
sql_execute(struct request *request, const struct connection *connection, enum sql sql,
            PyObject *parameters, PyObject **rows, long *count)
{
    PyObject *text = pool_text(request->pool, sql);
    return connection_execute(request, connection, text, parameters, rows, count);
}

int
sql_execute_simply(struct request *request, const struct connection *connection, enum sql sql)
{
    return connection_execute_simply(request, connection, pool_text(request->pool, sql));
}

int
sql_ask_numbers(struct request *request, const struct connection *connection, enum sql sql,
                long *first, long *second)
{
    PyObject *rows = NULL;
    int error = sql_execute(request, connection, sql, PyTuple_New(0), &rows, NULL);
    if (error != 0) {
        return error;
    }
    PyObject *row = PyList_GetItem(rows, 0);
    bool read = row != NULL && (second != NULL ? PyArg_ParseTuple(row, "ll", first, second)
                                               : PyArg_ParseTuple(row, "l", first));
    Py_DECREF(rows);
    return read ? 0 : connection_take_error(request);
}
