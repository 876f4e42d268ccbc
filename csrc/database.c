#define PY_SSIZE_T_CLEAN
#include "database.h"

#include <errno.h>
#include <string.h>

/* Named so that it cannot clash with a table of the database's owner. */
#define TABLE "\"lockfile: locks\""

enum sql { SELECT, INSERT, DELETE, CREATE, FIND_TABLE, USE_WAL, USE_JOURNAL, SYNCHRONISE, SQLS };

static const char *const texts[SQLS] = {
    [SELECT] = "SELECT owner, beacon_file, beacon_byte FROM " TABLE " WHERE lock = ?",
    [INSERT] = "INSERT INTO " TABLE " (lock, owner, beacon_file, beacon_byte) VALUES (?, ?, ?, ?)"
               " ON CONFLICT (lock) DO NOTHING",
    [DELETE] = "DELETE FROM " TABLE " WHERE lock = ? AND beacon_file = ? AND beacon_byte = ?",
    [CREATE] = "CREATE TABLE IF NOT EXISTS " TABLE " (lock BLOB NOT NULL PRIMARY KEY,"
               " owner BLOB NOT NULL CHECK (typeof(owner) = 'blob'),"
               " beacon_file INTEGER NOT NULL CHECK (typeof(beacon_file) = 'integer'),"
               " beacon_byte INTEGER NOT NULL CHECK (typeof(beacon_byte) = 'integer'))"
               " WITHOUT ROWID",
    [FIND_TABLE] = "SELECT 1 FROM sqlite_master WHERE name = 'lockfile: locks'",
    [USE_WAL] = "PRAGMA journal_mode = WAL",
    [USE_JOURNAL] = "PRAGMA journal_mode = DELETE",
    [SYNCHRONISE] = "PRAGMA synchronous = NORMAL",
};

PyObject *
database_pool(void)
{
    return pool_new(texts, SQLS);
}

/* ---- Executing, with the GIL ---- */

static int
execute(struct caller *caller, const struct connection *connection, enum sql sql,
        PyObject *parameters, PyObject **rows, long *count)
{
    PyObject *text = pool_text(caller->pool, sql);
    return connection_execute(caller, connection, text, parameters, rows, count);
}

static int
execute_simply(struct caller *caller, const struct connection *connection, enum sql sql)
{
    return connection_execute_simply(caller, connection, pool_text(caller->pool, sql));
}

static int
open_connection(struct caller *caller, struct connection *connection, struct os_inode inode)
{
    int error = connection_open(caller, connection, inode);
    if (error != 0) {
        return error;
    }
    error = execute_simply(caller, connection, SYNCHRONISE);
    if (error != 0) {
        connection_close(connection);
    }
    return error;
}

/* ---- The table ---- */

/* ENOENT: nobody has ever locked anything here. */
static int
find_table(struct caller *caller, struct connection *connection)
{
    PyObject *rows = NULL;
    if (connection->has_table) {
        return 0;
    }
    int error = execute(caller, connection, FIND_TABLE, PyTuple_New(0), &rows, NULL);
    if (error == 0) {
        connection->has_table = PyList_Size(rows) > 0;
        Py_DECREF(rows);
    }
    return error != 0 ? error : connection->has_table ? 0 : ENOENT;
}

static int
make_table(struct caller *caller, struct connection *connection, bool is_local)
{
    if (connection->has_table) {
        return 0;
    }
    int error = execute_simply(caller, connection, is_local ? USE_WAL : USE_JOURNAL);
    /* Busy: others use it, and it stays in their mode. Each transaction may remove a journal. */
    if (error == 0 || error == EBUSY) {
        error = connection_check_companions(connection, true);
    }
    if (error == 0) {
        error = execute_simply(caller, connection, CREATE);
    }
    if (error == 0) {
        error = connection_check_companions(connection, true);
    }
    connection->has_table = error == 0;
    return error;
}

/* ---- The statements of locks, with the GIL ---- */

static int
read_row(PyObject *rows, struct row *row)
{
    const char *owner;
    Py_ssize_t size;
    unsigned long long file, byte;
    PyObject *first = PyList_Size(rows) > 0 ? PyList_GetItem(rows, 0) : NULL;
    if (first == NULL) {
        return ENOENT;
    }
    if (!PyArg_ParseTuple(first, "y#KK", &owner, &size, &file, &byte)) {
        return EIO;
    }
    if (size >= OWNER_NAME_SIZE || strlen(owner) != (size_t)size) {
        owner = ""; /* no owner of ours */
    }
    strcpy(row->owner, owner);
    row->beacon = (struct beacon){file, byte};
    return 0;
}

/* What a statement needs to run. */
struct statement {
    enum sql sql;
    const char *row;
    struct row *content;
    bool is_local;
};

static int
run_select(struct caller *caller, struct connection *connection, const struct statement *statement)
{
    PyObject *rows = NULL;
    int error = find_table(caller, connection);
    if (error != 0) {
        return error;
    }
    error = execute(caller, connection, SELECT,
                    Py_BuildValue("(N)", PyBytes_FromString(statement->row)), &rows, NULL);
    if (error == 0) {
        error = read_row(rows, statement->content);
        Py_DECREF(rows);
    }
    return PyErr_Occurred() ? connection_take_error(caller) : error;
}

static int
run_insert(struct caller *caller, struct connection *connection, const struct statement *statement)
{
    long count = 0;
    const struct row *row = statement->content;
    int error = make_table(caller, connection, statement->is_local);
    if (error != 0) {
        return error;
    }
    error = execute(caller, connection, INSERT,
                    Py_BuildValue("(NNLL)", PyBytes_FromString(statement->row),
                                  PyBytes_FromString(row->owner), (long long)row->beacon.file,
                                  (long long)row->beacon.byte),
                    NULL, &count);
    return error == 0 && count != 1 ? EEXIST : error;
}

static int
run_delete(struct caller *caller, struct connection *connection, const struct statement *statement)
{
    long count = 0;
    const struct beacon *beacon = &statement->content->beacon;
    int error = find_table(caller, connection);
    if (error != 0) {
        return error;
    }
    error = execute(caller, connection, DELETE,
                    Py_BuildValue("(NLL)", PyBytes_FromString(statement->row),
                                  (long long)beacon->file, (long long)beacon->byte),
                    NULL, &count);
    return error == 0 && count != 1 ? ENOENT : error;
}

/* ---- Asking, and whether the answer counts ---- */

static int
ask(struct caller *caller, struct connection *connection, struct row_place place,
    const struct statement *statement)
{
    int error = 0;
    if (connection_is_exposed(connection)) {
        error = connection_check_companions(connection, true);
    }
    if (error == 0 && connection->object == NULL) {
        error = open_connection(caller, connection, place.inode);
    }
    if (error != 0) {
        return error;
    }
    return statement->sql == SELECT   ? run_select(caller, connection, statement)
           : statement->sql == INSERT ? run_insert(caller, connection, statement)
                                      : run_delete(caller, connection, statement);
}

/* Did the database answer, whatever it said? */
static bool
is_answer(int error)
{
    return error == 0 || error == ENOENT || error == EEXIST;
}

/* Does the path still lead there? */
static bool
is_there(struct row_place place)
{
    struct os_status status;
    return os_status_at(&os_anywhere, place.database, &status) == 0 &&
           os_same(status.inode, place.inode);
}

/* SQLite opens the path by itself, perhaps another file by now; and a row that is
 * made in a database or log that is not there any more is no lock. */
static int
verify(const struct connection *connection, struct row_place place, bool is_asked, bool is_new,
       int error)
{
    if (is_asked && error != EBADF && !(is_there(place) && connection_has_its_log(connection))) {
        return DATABASE_MOVED;
    }
    if (is_new && is_answer(error) && connection_is_unsafe(connection)) {
        return DATABASE_UNSAFE;
    }
    return error;
}

static int
ask_and_verify(struct caller *caller, struct connection *connection, struct row_place place,
               const struct statement *statement)
{
    int error = connection_check(connection, place.inode, statement->sql == SELECT);
    bool is_new = connection->object == NULL;
    bool is_exposed = connection_is_exposed(connection);
    if (error == 0) {
        error = ask(caller, connection, place, statement);
    }
    if (is_new && is_answer(error)) {
        connection_note_files(connection);
    }
    bool is_asked = is_new || statement->sql == INSERT || error != 0;
    error = verify(connection, place, is_asked, is_new, error);
    if (is_exposed && connection->object != NULL &&
        connection_check_companions(connection, false) != 0) {
        /* What was answered is worth nothing, and a close would put a log of somebody
         * else's into the database. */
        connection_abandon(connection);
        error = error < 0 ? error : EPERM;
    }
    if (error < 0 || error == EIO || error == EPERM) {
        connection_close(connection); /* whatever is wrong with it: next time anew */
    }
    return error;
}

/* ---- Without the GIL ---- */

static int
run(struct caller *caller, struct row_place place, struct statement statement)
{
    struct connection *connection = pool_borrow(caller->pool, place.database);
    if (connection == NULL) {
        return ENOMEM;
    }
    statement.row = place.row;
    caller_return(caller);
    int error = ask_and_verify(caller, connection, place, &statement);
    caller_leave(caller);
    pool_give_back(caller, connection);
    return error;
}

int
database_select(struct caller *caller, struct row_place place, struct row *row)
{
    return run(caller, place, (struct statement){.sql = SELECT, .content = row});
}

int
database_insert(struct caller *caller, struct row_place place, const struct row *row, bool is_local)
{
    struct row content = *row;
    return run(caller, place,
               (struct statement){.sql = INSERT, .content = &content, .is_local = is_local});
}

int
database_delete(struct caller *caller, struct row_place place, struct beacon beacon)
{
    struct row content = {.beacon = beacon};
    return run(caller, place, (struct statement){.sql = DELETE, .content = &content});
}
