#include "mechanisms/sqlite/sql.h"

#define TABLE "\"lockfile: locks\""

/* SQL_GROUP, as a blob. */
#define GROUP "X'736861726564'"

#define ROW "lock, owner, beacon_file, beacon_byte"

#define STRING_OF(text) #text
#define STRING(text) STRING_OF(text)

static const char *const texts[SQLS] = {
    [SQL_SELECT] = "SELECT owner, beacon_file, beacon_byte FROM " TABLE " WHERE lock = ?",
    [SQL_INSERT] =
        "INSERT INTO " TABLE " (lock, owner, beacon_file, beacon_byte) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (lock) DO NOTHING",
    [SQL_DELETE] = "DELETE FROM " TABLE " WHERE lock = ? AND beacon_file = ? AND beacon_byte = ?",
    /* (Python counts what a statement changes only if INSERT is its first word.)
     * What is made of these two rows: the lock's, which keeps all others off, and the reader's own.
     */
    [SQL_SHARE] = "INSERT INTO " TABLE " (" ROW ")"
                  " WITH made (lock, owner) AS (VALUES (?1, " GROUP
                  "), (?2, ?3)) SELECT lock, owner, ?4, ?5 FROM made"
                  " WHERE NOT EXISTS (SELECT 1 FROM " TABLE " WHERE lock = ?1 AND owner <> " GROUP
                  ") ON CONFLICT (lock) DO NOTHING",
    /* The reader's own, and the lock's, if no other reader is left. */
    [SQL_LEAVE] =
        "DELETE FROM " TABLE " WHERE lock IN (SELECT lock FROM " TABLE
        " WHERE lock = ?2 AND beacon_file = ?3 AND beacon_byte = ?4"
        " UNION ALL SELECT lock FROM " TABLE " WHERE lock = ?1 AND owner = " GROUP
        " AND EXISTS (SELECT 1 FROM " TABLE
        " WHERE lock = ?2 AND beacon_file = ?3 AND beacon_byte = ?4)"
        " AND NOT EXISTS (SELECT 1 FROM " TABLE " WHERE lock > ?5 AND lock < ?6 AND lock <> ?2))",
    [SQL_LIST_GROUP] = "SELECT owner, beacon_file, beacon_byte, lock FROM " TABLE
                       " WHERE lock > ? AND lock < ? ORDER BY lock LIMIT " STRING(SQL_LISTED),
    [SQL_DOWNGRADE] = "INSERT INTO " TABLE " (" ROW ")"
                      " WITH made (lock, owner) AS (VALUES (?1, " GROUP
                      "), (?2, ?3)) SELECT lock, owner, ?4, ?5 FROM made"
                      " WHERE EXISTS (SELECT 1 FROM " TABLE
                      " WHERE lock = ?1 AND beacon_file = ?4 AND beacon_byte = ?5)"
                      " ON CONFLICT (lock) DO UPDATE SET owner = excluded.owner",
    [SQL_DISSOLVE] = "DELETE FROM " TABLE " WHERE lock IN (SELECT lock FROM " TABLE
                     " WHERE (lock = ?1 OR (lock > ?2 AND lock < ?3))"
                     " AND EXISTS (SELECT 1 FROM " TABLE " WHERE lock = ?1 AND owner = " GROUP
                     " AND beacon_file = ?4 AND beacon_byte = ?5))",
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
