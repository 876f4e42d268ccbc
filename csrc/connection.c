#include "connection.h"
#include "owner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The GIL ---- */

void
caller_leave(struct caller *caller)
{
    caller->thread = PyEval_SaveThread();
}

void
caller_return(struct caller *caller)
{
    PyEval_RestoreThread(caller->thread);
}

void
caller_restore(struct caller *caller, PyObject *error)
{
    PyObject *dropped = caller->error;
    caller->error = error;
    if (dropped != NULL) {
        caller_return(caller);
        Py_DECREF(dropped);
        caller_leave(caller);
    }
}

/* ---- The sqlite3 module ---- */

bool
sqlite3_names_fill(struct sqlite3_names *names)
{
    PyObject *module = PyImport_ImportModule("sqlite3");
    if (module == NULL) {
        return false;
    }
    names->connect = PyObject_GetAttrString(module, "connect");
    names->execute = PyUnicode_InternFromString("execute");
    names->fetchall = PyUnicode_InternFromString("fetchall");
    names->rowcount = PyUnicode_InternFromString("rowcount");
    Py_DECREF(module);
    return names->connect != NULL && names->execute != NULL && names->fetchall != NULL &&
           names->rowcount != NULL;
}

void
sqlite3_names_clear(struct sqlite3_names *names)
{
    Py_CLEAR(names->connect);
    Py_CLEAR(names->execute);
    Py_CLEAR(names->fetchall);
    Py_CLEAR(names->rowcount);
}

/* ---- Statements ---- */

static bool
is_busy(PyObject *error)
{
    enum { BUSY = 5, LOCKED = 6, PROTOCOL = 15 };
    PyObject *code = PyObject_GetAttrString(error, "sqlite_errorcode");
    long primary = code != NULL ? PyLong_AsLong(code) & 0xFF : 0;
    Py_XDECREF(code);
    PyErr_Clear();
    return primary == BUSY || primary == LOCKED || primary == PROTOCOL;
}

/* Keeps the exception, with the traceback of nobody. */
int
connection_take_error(struct caller *caller)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    PyObject *former = caller->error;
    caller->error = value;
    Py_XDECREF(former);
    if (value == NULL || PyErr_GivenExceptionMatches(value, PyExc_MemoryError)) {
        return ENOMEM;
    }
    return is_busy(value) ? EBUSY : EIO;
}

int
connection_execute(struct caller *caller, const struct connection *connection, PyObject *sql,
                   PyObject *parameters, PyObject **rows, long *count)
{
    const struct sqlite3_names *names = connection->names;
    PyObject *cursor = NULL, *fetched = NULL, *changed = NULL;
    if (parameters != NULL) {
        cursor =
            PyObject_CallMethodObjArgs(connection->object, names->execute, sql, parameters, NULL);
    }
    if (cursor != NULL && rows != NULL) {
        fetched = PyObject_CallMethodObjArgs(cursor, names->fetchall, NULL);
    }
    if (cursor != NULL && count != NULL) {
        changed = PyObject_GetAttr(cursor, names->rowcount);
        *count = changed != NULL ? PyLong_AsLong(changed) : 0;
    }
    Py_XDECREF(changed);
    Py_XDECREF(cursor);
    Py_XDECREF(parameters);
    if (PyErr_Occurred()) {
        Py_XDECREF(fetched);
        return connection_take_error(caller);
    }
    if (rows != NULL) {
        *rows = fetched;
    }
    return 0;
}

int
connection_execute_simply(struct caller *caller, const struct connection *connection, PyObject *sql)
{
    PyObject *rows = NULL;
    int error = connection_execute(caller, connection, sql, PyTuple_New(0), &rows, NULL);
    if (error == 0) {
        Py_DECREF(rows);
    }
    return error;
}

/* ---- Opening ---- */

struct connection *
connection_new(const char *path, const struct sqlite3_names *names)
{
    size_t size = strlen(path) + 1;
    struct connection *connection = calloc(1, sizeof *connection + size + size + sizeof "-wal");
    if (connection != NULL) {
        connection->generation = os_generation();
        connection->names = names;
        memcpy(connection->path, path, size);
        connection->log_path = connection->path + size;
        strcat(strcpy(connection->log_path, path), "-wal");
    }
    return connection;
}

/* file:///PATH?mode=rw: no database is made, whatever is in the path. */
static PyObject *
make_uri(const char *path)
{
    static const char prefix[] = "file://", suffix[] = "?mode=rw", digits[] = "0123456789ABCDEF";
    char *uri = PyMem_Malloc(sizeof prefix + 3 * strlen(path) + sizeof suffix);
    if (uri == NULL) {
        return PyErr_NoMemory();
    }
    char *to = uri + strlen(strcpy(uri, prefix));
    for (const unsigned char *from = (const unsigned char *)path; *from != '\0'; from++) {
        if (*from == '/') {
            *to++ = '/';
        } else {
            *to++ = '%';
            *to++ = digits[*from >> 4];
            *to++ = digits[*from & 15];
        }
    }
    strcpy(to, suffix);
    PyObject *result = PyUnicode_FromString(uri);
    PyMem_Free(uri);
    return result;
}

static PyObject *
connect(const struct sqlite3_names *names, const char *path)
{
    PyObject *uri = make_uri(path);
    PyObject *arguments = uri != NULL ? Py_BuildValue("(O)", uri) : NULL;
    PyObject *keywords = Py_BuildValue("{s:i,s:O,s:O,s:O}", "timeout", 0, "isolation_level",
                                       Py_None, "check_same_thread", Py_False, "uri", Py_True);
    PyObject *object = arguments != NULL && keywords != NULL
                           ? PyObject_Call(names->connect, arguments, keywords)
                           : NULL;
    Py_XDECREF(uri);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    return object;
}

/* Which descriptors are open for the database. */
static void
find_numbers(const struct connection *connection, const struct os_numbers *others,
             struct os_numbers *numbers)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char path[OS_PATH_SIZE];
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (snprintf(path, sizeof path, "%s%s", connection->path, suffixes[i]) < OS_PATH_SIZE) {
            os_find_numbers(path, others, numbers);
        }
    }
}

/* The inode of its write-ahead log; number 0: there is none. */
static struct os_inode
find_log(const struct connection *connection)
{
    struct os_status status = {0};
    os_status_at(&os_anywhere, connection->log_path, &status);
    return status.inode;
}

int
connection_open(struct caller *caller, struct connection *connection, struct os_inode inode)
{
    connection->other.count = 0;
    find_numbers(connection, &(struct os_numbers){0}, &connection->other);
    connection->object = connect(connection->names, connection->path);
    if (connection->object == NULL) {
        return connection_take_error(caller);
    }
    connection->inode = inode;
    return 0;
}

void
connection_note_files(struct connection *connection)
{
    find_numbers(connection, &connection->other, &connection->own);
    connection->log = find_log(connection);
}

/* ---- Closing ---- */

void
connection_abandon(struct connection *connection)
{
    connection->object = NULL;
    connection->has_table = false;
    connection->own.count = 0;
    connection->log.number = 0;
}

/* Its numbers may be other files' by now: then it is left alone. */
void
connection_close(struct connection *connection)
{
    bool taken = !os_is_kept(&connection->own) && os_is_taken(&connection->own);
    PyObject *object = connection->object;
    connection_abandon(connection);
    if (object != NULL && !taken) {
        PyObject *closed = PyObject_CallMethod(object, "close", NULL);
        PyErr_Clear();
        Py_XDECREF(closed);
        Py_DECREF(object);
    }
}

/* ---- Trust ---- */

/* SQLite does not notice that its log was removed, and what it writes into it then,
 * nobody else sees. */
bool
connection_has_its_log(const struct connection *connection)
{
    return connection->log.number == 0 || os_same(find_log(connection), connection->log);
}

int
connection_check(struct connection *connection, struct os_inode inode, bool reads)
{
    if (connection->object == NULL) {
        return 0;
    }
    bool kept = os_is_kept(&connection->own);
    if (!kept && os_is_taken(&connection->own)) {
        return EBADF;
    }
    /* Who writes looks after the log afterwards. */
    if (!kept || !os_same(connection->inode, inode) ||
        (reads && !connection_has_its_log(connection))) {
        connection_close(connection);
    }
    return 0;
}

/* With a write-ahead log, SQLite keeps a lock on the database for as long as it is open.
 * If other connections of this process had it open before, it may only believe so, from
 * before a fork. */
bool
connection_is_unsafe(const struct connection *connection)
{
    bool has;
    return connection->other.count > 0 && connection->log.number != 0 &&
           (os_has_locked(connection->path, &has) != 0 || !has);
}

bool
connection_is_exposed(const struct connection *connection)
{
    return connection->object == NULL || connection->log.number == 0;
}

/* SQLite makes its other files anew each time that it opens a database that nobody has
 * open. It believes whoever has put them there before, writes into what they are links to,
 * and waits for ever on a pipe. So in a public directory we take their names first: empty,
 * these files are to SQLite as if they were not there. */
int
connection_check_companions(const struct connection *connection, bool take)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal"};
    char path[OS_PATH_SIZE];
    struct os_status status;
    int error = 0;
    take = take && owner_is_public(connection->path);
    for (size_t i = 0; error == 0 && i < sizeof suffixes / sizeof *suffixes; i++) {
        if (snprintf(path, sizeof path, "%s%s", connection->path, suffixes[i]) >= OS_PATH_SIZE) {
            continue;
        }
        if (take) {
            os_make_file(&os_anywhere, path); /* or it is there: whose, is the question */
        }
        if (os_status_at(&os_anywhere, path, &status) == 0) {
            error = status.kind == OS_REGULAR ? owner_check_trust(path, &status) : EPERM;
        }
    }
    return error;
}
