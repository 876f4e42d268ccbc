#define PY_SSIZE_T_CLEAN
#include "mechanisms/sqlite/database.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "\"lockfile: locks\""

/* "lock" */
#define APPLICATION 1819239275
#define STRING_OF(text) #text
#define STRING(text) STRING_OF(text)

/* An answer that counts for nothing: ask again. */
enum { LOST = -10 };
#define ATTEMPTS 5

enum sql {
    SELECT,
    INSERT,
    DELETE,
    LIST,
    TOLERATE,
    FIND_APPLICATION,
    SURVEY,
    USE_JOURNAL,
    DO_NOT_SYNCHRONISE,
    DO_NOT_MAP,
    FORGET,
    BEGIN,
    SET_APPLICATION,
    CREATE,
    COMMIT,
    ROLLBACK,
    SQLS
};

static const char *const texts[SQLS] = {
    [SELECT] = "SELECT owner, beacon_file, beacon_byte FROM " TABLE " WHERE lock = ?",
    [INSERT] = "INSERT INTO " TABLE " (lock, owner, beacon_file, beacon_byte) VALUES (?, ?, ?, ?)"
               " ON CONFLICT (lock) DO NOTHING",
    [DELETE] = "DELETE FROM " TABLE " WHERE lock = ? AND beacon_file = ? AND beacon_byte = ?",
    [LIST] = "SELECT owner, beacon_file, beacon_byte, lock FROM " TABLE
             " WHERE lock > ? AND beacon_file = ? ORDER BY lock LIMIT " STRING(DATABASE_LISTED),
    /* A database whose maker was killed may be shorter than it says. */
    [TOLERATE] = "PRAGMA writable_schema = ON",
    [FIND_APPLICATION] = "PRAGMA application_id",
    [SURVEY] = "SELECT count(*), count(*) FILTER (WHERE name = 'lockfile: locks')"
               " FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'",
    /* No lock outlives a statement then, and no file comes or goes with one. */
    [USE_JOURNAL] = "PRAGMA journal_mode = PERSIST",
    /* Once the power is back, nobody owns anything. */
    [DO_NOT_SYNCHRONISE] = "PRAGMA synchronous = OFF",
    [DO_NOT_MAP] = "PRAGMA mmap_size = 0",
    [FORGET] = "PRAGMA shrink_memory",
    [BEGIN] = "BEGIN IMMEDIATE",
    [SET_APPLICATION] = "PRAGMA application_id = " STRING(APPLICATION),
    [CREATE] = "CREATE TABLE IF NOT EXISTS " TABLE " (lock BLOB NOT NULL PRIMARY KEY,"
               " owner BLOB NOT NULL CHECK (typeof(owner) = 'blob'),"
               " beacon_file INTEGER NOT NULL CHECK (typeof(beacon_file) = 'integer'),"
               " beacon_byte INTEGER NOT NULL CHECK (typeof(beacon_byte) = 'integer'))"
               " WITHOUT ROWID",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
};

PyObject *
database_pool(void)
{
    return pool_get(texts, SQLS);
}

/* What is only told apart in between. */
static int
plain_error(int error)
{
    return error == CONNECTION_CANNOT_OPEN || error == CONNECTION_NO_DATABASE ? EIO : error;
}

/* With the GIL, and without collections of garbage: on Python 3.11 they may run code of the
 * program inside a statement, which waits for a thread that waits for this statement. */
static void
begin_python(struct caller *caller)
{
    caller_return(caller);
    pool_hold_collections(caller->pool);
}

static void
end_python(struct caller *caller)
{
    pool_allow_collections(caller->pool);
    caller_leave(caller);
}

/* What a statement needs to run. */
struct statement {
    enum sql sql;
    const char *row;
    struct row *content;
    bool is_local;
    bool asked_before;     /* and the answer was lost */
    struct listed *listed; /* for LIST: where to, and how many */
    int *count;
};

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

/* The one row of numbers that a statement gives. */
static int
ask_numbers(struct caller *caller, const struct connection *connection, enum sql sql, long *first,
            long *second)
{
    PyObject *rows = NULL;
    int error = execute(caller, connection, sql, PyTuple_New(0), &rows, NULL);
    if (error != 0) {
        return error;
    }
    PyObject *row = PyList_GetItem(rows, 0);
    bool read = row != NULL && (second != NULL ? PyArg_ParseTuple(row, "ll", first, second)
                                               : PyArg_ParseTuple(row, "l", first));
    Py_DECREF(rows);
    return read ? 0 : connection_take_error(caller);
}

/* ---- Whose database is it? ---- */

/* Looks without disturbing anybody: 0, if it says that it is ours. Foreign, it stays open: if
 * the program uses it by another SQLite than Python's, that one would lose its locks by a
 * close. */
static int
look_whose(struct caller *caller, struct connection *connection, struct os_inode inode)
{
    long application = 0;
    int error = connection_open_to_look(caller, connection, inode);
    if (error == 0) {
        error = execute_simply(caller, connection, TOLERATE);
    }
    if (error == 0) {
        error = ask_numbers(caller, connection, FIND_APPLICATION, &application, NULL);
    }
    connection->foreign =
        error == CONNECTION_NO_DATABASE || (error == 0 && application != APPLICATION);
    if (connection->foreign) {
        return DATABASE_FOREIGN;
    }
    connection_close(connection);
    return error;
}

static int
find_status(struct row_place place, struct os_status *status)
{
    int error = os_status_at(&os_anywhere, place.database, status);
    if (error != 0) {
        return owner_is_absent(error) ? DATABASE_MOVED : error;
    }
    return os_same(status->inode, place.inode) ? 0 : DATABASE_MOVED;
}

/* Before any file is made beside it. Whoever makes one of ours just now has made its beacons
 * before: then it is looked at once more, when that one has ended. */
static int
recognise(struct caller *caller, struct connection *connection, struct row_place place,
          const struct statement *statement)
{
    struct os_status status, beacons;
    if (connection->object != NULL && !connection->foreign) {
        return 0;
    }
    int error = find_status(place, &status);
    if (error == 0 && status.size == 0 && statement->sql != INSERT) {
        return ENOENT;
    }
    if (error == 0 && connection->foreign && os_same(connection->inode, status.inode)) {
        return DATABASE_FOREIGN;
    }
    if (error == 0 && status.size > 0 &&
        os_status_at(&os_anywhere, connection->beacons, &beacons) != 0) {
        begin_python(caller);
        connection_close(connection);
        error = look_whose(caller, connection, place.inode);
        end_python(caller);
    }
    return plain_error(error);
}

/* ---- Opening, with the GIL ---- */

/* In one transaction, so that none is ever seen that is half made. */
static int
make_table(struct caller *caller, struct connection *connection)
{
    static const enum sql steps[] = {SET_APPLICATION, CREATE, COMMIT};
    int error = execute_simply(caller, connection, BEGIN);
    if (error != 0) {
        return error;
    }
    for (size_t i = 0; error == 0 && i < sizeof steps / sizeof *steps; i++) {
        error = execute_simply(caller, connection, steps[i]);
    }
    if (error != 0) {
        PyObject *first = caller->error;
        caller->error = NULL;
        execute_simply(caller, connection, ROLLBACK);
        Py_XDECREF(caller->error);
        caller->error = first;
    }
    return error;
}

/* ENOENT: nobody has ever locked anything here. */
static int
find_table(struct caller *caller, struct connection *connection, bool make)
{
    long application = 0, all = 0, ours = 0;
    int error = ask_numbers(caller, connection, FIND_APPLICATION, &application, NULL);
    if (error == 0) {
        error = ask_numbers(caller, connection, SURVEY, &all, &ours);
    }
    if (error == 0 && (all != ours || (all > 0 && application != APPLICATION))) {
        error = DATABASE_FOREIGN;
    }
    if (error == 0 && all == 0) {
        error = make ? make_table(caller, connection) : ENOENT;
    }
    connection->has_table = error == 0;
    return error;
}

/* The first of these may roll back what a process that was killed has left, and remove its
 * journal. */
static int
set_up(struct caller *caller, struct connection *connection)
{
    int error = execute_simply(caller, connection, USE_JOURNAL);
    if (error == 0) {
        error = connection_check_companions(connection);
    }
    if (error == 0) {
        error = execute_simply(caller, connection, DO_NOT_SYNCHRONISE);
    }
    if (error == 0) {
        error = execute_simply(caller, connection, DO_NOT_MAP);
    }
    return error;
}

static int
open_database(struct caller *caller, struct connection *connection, struct row_place place,
              const struct statement *statement)
{
    struct os_status status;
    int error = find_status(place, &status);
    if (error == 0 && status.size > 0) {
        error = look_whose(caller, connection, place.inode);
    } else if (error == 0 && statement->sql != INSERT) {
        error = ENOENT;
    }
    if (error == 0) {
        error = connection_check_companions(connection);
    }
    if (error == 0) {
        error = connection_open(caller, connection, place.inode);
    }
    if (error == 0 && (error = set_up(caller, connection)) != 0) {
        connection_close(connection);
    }
    return error;
}

/* ---- The statements of locks, with the GIL ---- */

static int
read_row(PyObject *found, struct row *row, char **name)
{
    const char *owner, *lock = "";
    Py_ssize_t size, lock_size = 0;
    unsigned long long file, byte;
    if (name == NULL
            ? !PyArg_ParseTuple(found, "y#KK", &owner, &size, &file, &byte)
            : !PyArg_ParseTuple(found, "y#KKy#", &owner, &size, &file, &byte, &lock, &lock_size)) {
        return EIO;
    }
    if (size >= OWNER_NAME_SIZE || strlen(owner) != (size_t)size) {
        owner = ""; /* no owner of ours */
    }
    strcpy(row->owner, owner);
    row->beacon = (struct beacon){file, byte};
    if (name != NULL && (*name = strdup(lock)) == NULL) {
        return ENOMEM;
    }
    return 0;
}

static int
read_rows(PyObject *rows, const struct statement *statement)
{
    Py_ssize_t size = PyList_Size(rows);
    int error = 0;
    if (statement->sql == SELECT) {
        return size > 0 ? read_row(PyList_GetItem(rows, 0), statement->content, NULL) : ENOENT;
    }
    for (Py_ssize_t i = 0; error == 0 && i < size; i++) {
        struct listed *listed = &statement->listed[*statement->count];
        error = read_row(PyList_GetItem(rows, i), &listed->row, &listed->name);
        *statement->count += error == 0;
    }
    return error;
}

static int
run_select(struct caller *caller, struct connection *connection, const struct statement *statement)
{
    PyObject *rows = NULL, *parameters;
    PyObject *name = connection_blob(connection, statement->row);
    if (statement->sql == SELECT) {
        parameters = Py_BuildValue("(N)", name);
    } else {
        parameters = Py_BuildValue("(NN)", name,
                                   connection_integer(connection, statement->content->beacon.file));
    }
    int error = execute(caller, connection, statement->sql, parameters, &rows, NULL);
    if (error == 0) {
        error = read_rows(rows, statement);
        Py_DECREF(rows);
    }
    return PyErr_Occurred() ? connection_take_error(caller) : error;
}

/* Is the row in the file, not just in what SQLite remembers? */
static int
read_back(struct caller *caller, struct connection *connection, const struct statement *statement)
{
    struct row row;
    struct statement select = {.sql = SELECT, .row = statement->row, .content = &row};
    const struct beacon *beacon = &statement->content->beacon;
    int error = execute_simply(caller, connection, FORGET);
    if (error == 0) {
        error = run_select(caller, connection, &select);
    }
    if (error == 0 && (row.beacon.file != beacon->file || row.beacon.byte != beacon->byte)) {
        error = EEXIST;
    }
    return error == ENOENT ? LOST : error;
}

/* What SQLite says that it has written, must be there. Where our latch keeps all others off,
 * the file's count of changes shows it: it is one more than before, unless somebody else has
 * taken the change back. Elsewhere the row is read back, and so it is where it is already
 * there after an answer was lost: it may be our own. */
static int
confirm_insert(struct caller *caller, struct connection *connection,
               const struct statement *statement, long inserted, uint32_t counted)
{
    uint32_t count;
    bool alone = statement->is_local && (connection->latched || connection->nested);
    if (inserted == 1 && alone) {
        return connection_read_count(connection, &count) && count == counted + 1 ? 0 : LOST;
    }
    return inserted == 1 || statement->asked_before ? read_back(caller, connection, statement)
                                                    : EEXIST;
}

static int
run_insert(struct caller *caller, struct connection *connection, const struct statement *statement,
           uint32_t counted)
{
    long inserted = 0;
    const struct row *row = statement->content;
    PyObject *parameters = Py_BuildValue("(NNNN)", connection_blob(connection, statement->row),
                                         connection_blob(connection, row->owner),
                                         connection_integer(connection, row->beacon.file),
                                         connection_integer(connection, row->beacon.byte));
    int error = execute(caller, connection, INSERT, parameters, NULL, &inserted);
    return error != 0 ? error : confirm_insert(caller, connection, statement, inserted, counted);
}

static int
run_delete(struct caller *caller, struct connection *connection, const struct statement *statement)
{
    long count = 0;
    const struct beacon *beacon = &statement->content->beacon;
    PyObject *parameters = Py_BuildValue("(NNN)", connection_blob(connection, statement->row),
                                         connection_integer(connection, beacon->file),
                                         connection_integer(connection, beacon->byte));
    int error = execute(caller, connection, DELETE, parameters, NULL, &count);
    return error == 0 && count != 1 ? ENOENT : error;
}

static int
run_once(struct caller *caller, struct connection *connection, const struct statement *statement)
{
    uint32_t counted;
    int error = 0;
    if (!connection->has_table) {
        error = find_table(caller, connection, statement->sql == INSERT);
    }
    if (error == 0 && !connection_read_count(connection, &counted)) {
        connection_close(connection); /* somebody has changed its mode: opened, it is ours again */
        error = LOST;
    }
    if (error != 0) {
        return error;
    }
    return statement->sql == INSERT   ? run_insert(caller, connection, statement, counted)
           : statement->sql == DELETE ? run_delete(caller, connection, statement)
                                      : run_select(caller, connection, statement);
}

/* It may be for want of a descriptor that SQLite cannot open its journal. */
static int
run_statement(struct caller *caller, struct connection *connection,
              const struct statement *statement)
{
    int error = run_once(caller, connection, statement);
    if (error == CONNECTION_CANNOT_OPEN && os_is_open(&connection->spare)) {
        os_close(&connection->spare);
        error = run_once(caller, connection, statement);
        connection_spare(connection);
    }
    return error;
}

/* ---- Asking, and whether the answer counts ---- */

/* Latched, and with the GIL. */
static int
ask(struct caller *caller, struct connection *connection, struct row_place place,
    const struct statement *statement)
{
    int error = 0;
    if (connection->object != NULL && (!os_same(connection->inode, place.inode) ||
                                       connection->foreign || connection->is_read_only)) {
        connection_close(connection);
    }
    if (connection->object == NULL) {
        error = open_database(caller, connection, place, statement);
    }
    if (error == 0) {
        error = run_statement(caller, connection, statement);
    }
    return plain_error(error);
}

/* Without the GIL, and latched still. SQLite opens the path by itself, perhaps another file
 * by now; and a row that is made in a database that is not there any more is no lock. */
static int
verify(struct caller *caller, struct connection *connection, struct row_place place,
       const struct statement *statement, int error)
{
    struct os_status status;
    if (connection->object != NULL && !connection->foreign && !connection_is_kept(connection)) {
        connection_abandon(connection);
        return LOST;
    }
    if ((statement->sql == INSERT || error == EIO) && find_status(place, &status) != 0) {
        return DATABASE_MOVED;
    }
    if (error == EBUSY && connection->number.descriptor >= 0) {
        /* https://www.sqlite.org/lockingv3.html: the pending byte and those behind it */
        caller->locker = os_find_locker(&connection->number, UINT64_C(0x40000000), 512);
    }
    return error;
}

/* Reads without a latch, where none may be made: who cannot write there, cannot do any
 * harm. */
static int
latch(struct connection *connection, unsigned mode, const struct statement *statement)
{
    int error = connection_latch(connection, mode);
    if ((error == EACCES || error == EROFS) && statement->sql == SELECT) {
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
ask_once(struct caller *caller, struct connection *connection, struct row_place place,
         const struct statement *statement)
{
    if (connection->object != NULL && !connection->foreign && !connection_is_kept(connection)) {
        connection_abandon(connection);
    }
    int error = recognise(caller, connection, place, statement);
    if (error == 0) {
        error = latch(connection, place.mode, statement);
        caller->latched_out = error == EBUSY;
    }
    if (error != 0) {
        return error;
    }
    begin_python(caller);
    error = ask(caller, connection, place, statement);
    end_python(caller);
    error = verify(caller, connection, place, statement, error);
    if (!is_of_use(connection, error)) {
        begin_python(caller);
        connection_close(connection); /* whatever is wrong with it: next time anew */
        end_python(caller);
    }
    connection_unlatch(connection);
    if (connection->latch_is_shared) {
        connection_close_latch(connection); /* perhaps it may be written next time */
    }
    return error;
}

static int
run(struct caller *caller, struct row_place place, struct statement statement)
{
    struct connection *connection;
    int lost = 0;
    int error = pool_borrow(caller->pool, place.database, &connection);
    if (error != 0) {
        return error == ECHILD ? DATABASE_FORKED : error;
    }
    statement.row = place.row;
    caller_restore(caller, NULL);
    caller->locker = 0;
    caller->latched_out = false;
    while ((error = ask_once(caller, connection, place, &statement)) == LOST && lost < ATTEMPTS &&
           statement.sql != LIST) {
        lost++;
        statement.asked_before = true;
    }
    pool_give_back(caller, connection);
    if (error == ENOENT && lost > 0 && statement.sql == DELETE) {
        return 0; /* what was lost was the answer */
    }
    return error == LOST ? EBUSY : error;
}

int
database_recognise(struct caller *caller, struct row_place place)
{
    struct connection *connection;
    struct statement insert = {.sql = INSERT};
    int error = pool_borrow(caller->pool, place.database, &connection);
    if (error != 0) {
        return error == ECHILD ? DATABASE_FORKED : error;
    }
    caller_restore(caller, NULL);
    error = recognise(caller, connection, place, &insert);
    pool_give_back(caller, connection);
    return error;
}

int
database_select(struct caller *caller, struct row_place place, struct row *row)
{
    return run(caller, place, (struct statement){.sql = SELECT, .content = row, .is_local = true});
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
    return run(caller, place,
               (struct statement){.sql = DELETE, .content = &content, .is_local = true});
}

int
database_list(struct caller *caller, struct row_place place, uint64_t file,
              struct listed listed[DATABASE_LISTED], int *count)
{
    struct row content = {.beacon = {.file = file}};
    struct statement statement = {
        .sql = LIST, .content = &content, .is_local = true, .listed = listed, .count = count};
    *count = 0;
    return run(caller, place, statement);
}
