#include "mechanisms/sqlite/connection.h"
#include "mechanisms/sqlite/beacon.h"
#include "mechanisms/sqlite/trust.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The sqlite3 module ---- */

static PyObject *
adapt(PyObject *Py_UNUSED(self), PyObject *value)
{
    return Py_NewRef(value);
}

static PyMethodDef adapt_method = {"adapt", adapt, METH_O, NULL};

/* A type of ours: adapters are registered for exact types. One of ours, which changes nothing,
 * only saves sqlite3 some search. */
static PyObject *
make_type(PyObject *module, PyTypeObject *base, const char *name)
{
    PyObject *type = PyObject_CallFunction((PyObject *)&PyType_Type, "s(O)N", name,
                                           (PyObject *)base, Py_BuildValue("{s:()}", "__slots__"));
    PyObject *adapter = PyCFunction_NewEx(&adapt_method, NULL, NULL);
    PyObject *registered =
        type != NULL && adapter != NULL
            ? PyObject_CallMethod(module, "register_adapter", "OO", type, adapter)
            : NULL;
    if (registered == NULL) {
        Py_CLEAR(type);
    }
    Py_XDECREF(adapter);
    Py_XDECREF(registered);
    return type;
}

bool
sqlite3_names_fill(struct sqlite3_names *names)
{
    PyObject *module = PyImport_ImportModule("_sqlite3");
    if (module == NULL) {
        return false;
    }
    names->connection = PyObject_GetAttrString(module, "Connection");
    names->cursor = PyUnicode_InternFromString("cursor");
    names->close = PyUnicode_InternFromString("close");
    names->execute = PyUnicode_InternFromString("execute");
    names->fetchall = PyUnicode_InternFromString("fetchall");
    names->rowcount = PyUnicode_InternFromString("rowcount");
    names->blob = make_type(module, &PyBytes_Type, "lockfile.blob");
    names->integer = make_type(module, &PyLong_Type, "lockfile.integer");
    Py_DECREF(module);
    return names->connection != NULL && names->cursor != NULL && names->close != NULL &&
           names->execute != NULL && names->fetchall != NULL && names->rowcount != NULL &&
           names->blob != NULL && names->integer != NULL;
}

void
sqlite3_names_clear(struct sqlite3_names *names)
{
    Py_CLEAR(names->connection);
    Py_CLEAR(names->cursor);
    Py_CLEAR(names->close);
    Py_CLEAR(names->execute);
    Py_CLEAR(names->fetchall);
    Py_CLEAR(names->rowcount);
    Py_CLEAR(names->blob);
    Py_CLEAR(names->integer);
}

/* ---- Statements ---- */

/* Takes over the plain value, which may be NULL with an exception. */
static PyObject *
convert(PyObject *type, PyObject *plain)
{
    PyObject *value = plain != NULL ? PyObject_CallFunctionObjArgs(type, plain, NULL) : NULL;
    Py_XDECREF(plain);
    return value;
}

PyObject *
connection_blob(const struct connection *connection, const char *text)
{
    return convert(connection->names->blob, PyBytes_FromString(text));
}

PyObject *
connection_integer(const struct connection *connection, uint64_t number)
{
    return convert(connection->names->integer, PyLong_FromLongLong((long long)number));
}

/* What SQLite calls the error. */
static int
classify(PyObject *error)
{
    enum { BUSY = 5, LOCKED = 6, CANTOPEN = 14, PROTOCOL = 15, NOTADB = 26 };
    PyObject *code = PyObject_GetAttrString(error, "sqlite_errorcode");
    long primary = code != NULL ? PyLong_AsLong(code) & 0xFF : 0;
    Py_XDECREF(code);
    PyErr_Clear();
    switch (primary) {
    case BUSY:
    case LOCKED:
    case PROTOCOL:
        return EBUSY;
    case CANTOPEN:
        return CONNECTION_CANNOT_OPEN;
    case NOTADB:
        return CONNECTION_NO_DATABASE;
    default:
        return EIO;
    }
}

int
connection_take_error(struct request *request)
{
    PyObject *error = python_call_take_error(request->python);
    if (error == NULL || PyErr_GivenExceptionMatches(error, PyExc_MemoryError)) {
        return ENOMEM;
    }
    return classify(error);
}

int
connection_execute(struct request *request, const struct connection *connection, PyObject *sql,
                   PyObject *parameters, PyObject **rows, long *count)
{
    const struct sqlite3_names *names = connection->names;
    PyObject *cursor = NULL, *fetched = NULL, *changed = NULL;
    if (parameters != NULL) {
        cursor =
            PyObject_CallMethodObjArgs(connection->cursor, names->execute, sql, parameters, NULL);
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
        return connection_take_error(request);
    }
    if (rows != NULL) {
        *rows = fetched;
    }
    return 0;
}

int
connection_execute_simply(struct request *request, const struct connection *connection,
                          PyObject *sql)
{
    PyObject *rows = NULL;
    int error = connection_execute(request, connection, sql, PyTuple_New(0), &rows, NULL);
    if (error == 0) {
        Py_DECREF(rows);
    }
    return error;
}

/* ---- The latch ---- */

struct connection *
connection_new(const char *path, const struct sqlite3_names *names)
{
    size_t size = strlen(path) + 1;
    struct connection *connection = calloc(1, sizeof *connection + size + size + sizeof "-beacons");
    if (connection != NULL) {
        char *beacons = connection->path + size;
        connection->generation = os_generation();
        connection->names = names;
        connection->number = OS_NO_FILE;
        connection->spare = OS_NO_FILE;
        connection->latch = OS_NO_FILE;
        memcpy(connection->path, path, size);
        connection->beacons = strcat(strcpy(beacons, path), "-beacons");
    }
    return connection;
}

/* Does the path still lead to the file that was latched? Another would keep nobody off. */
static bool
is_true_latch(const struct connection *connection)
{
    struct os_status status;
    return os_status_at(&os_anywhere, connection->beacons, &status) == 0 &&
           os_same(status.inode, connection->latch.inode);
}

static int
try_latch(struct connection *connection, unsigned mode)
{
    if (!os_is_open(&connection->latch)) {
        os_close(&connection->latch);
        int error = beacon_open_latch(connection->beacons, mode, &connection->latch,
                                      &connection->latch_is_shared);
        if (error != 0) {
            return error;
        }
    }
    int error = beacon_latch(&connection->latch, connection->latch_is_shared);
    connection->latched = error == 0;
    if (os_is_refused(error)) {
        return EBUSY;
    }
    return os_flock_is_unsupported(error) ? 0 : error;
}

int
connection_latch(struct connection *connection, unsigned mode)
{
    int error;
    if (connection->nested) {
        return 0;
    }
    for (int i = 0;; i++) {
        error = try_latch(connection, mode);
        if (error != 0 && error != EBUSY) {
            return error;
        }
        /* Opened anew twice, it is true: a network file system may say what once was. */
        if (i == 2 || is_true_latch(connection)) {
            return error;
        }
        connection_close_latch(connection);
    }
}

void
connection_unlatch(struct connection *connection)
{
    if (connection->latched) {
        connection->latched = false;
        beacon_unlatch(&connection->latch);
    }
}

void
connection_close_latch(struct connection *connection)
{
    connection->latched = false;
    os_close(&connection->latch);
}

/* ---- Opening ---- */

/* file:///PATH?..., or file:PATH?... for one that begins with a drive: no database is made,
 * whatever is in the path. */
static PyObject *
make_uri(const char *path, const char *query)
{
    static const char prefix[] = "file://", digits[] = "0123456789ABCDEF";
    char *uri = PyMem_Malloc(sizeof prefix + 3 * strlen(path) + strlen(query));
    if (uri == NULL) {
        return PyErr_NoMemory();
    }
    char *to = uri + strlen(strcpy(uri, path[0] == '/' ? prefix : "file:"));
    for (const unsigned char *from = (const unsigned char *)path; *from != '\0'; from++) {
        if (*from == '/') {
            *to++ = '/';
        } else {
            *to++ = '%';
            *to++ = digits[*from >> 4];
            *to++ = digits[*from & 15];
        }
    }
    strcpy(to, query);
    PyObject *result = PyUnicode_FromString(uri);
    PyMem_Free(uri);
    return result;
}

/* Without a GIL, what one thread has made and another drops goes away when the first one runs
 * Python code again: https://peps.python.org/pep-0703/#biased-reference-counting. A statement that
 * is remembered would keep a closed database open until then, and go away while the process forks.
 */
static int
count_remembered(void)
{
    bool is_free_threaded = strstr(Py_GetVersion(), "free-threading build") != NULL;
    return is_free_threaded ? 0 : 128; /* as many as it usually is */
}

static PyObject *
connect(const struct sqlite3_names *names, const char *path, const char *query)
{
    PyObject *uri = make_uri(path, query);
    PyObject *arguments = uri != NULL ? Py_BuildValue("(O)", uri) : NULL;
    PyObject *keywords = Py_BuildValue("{s:i,s:i,s:O,s:O,s:O}", "timeout", 0, "cached_statements",
                                       count_remembered(), "isolation_level", Py_None,
                                       "check_same_thread", Py_False, "uri", Py_True);
    PyObject *object = arguments != NULL && keywords != NULL
                           ? PyObject_Call(names->connection, arguments, keywords)
                           : NULL;
    Py_XDECREF(uri);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    return object;
}

static int
open_object(struct request *request, struct connection *connection, const char *query)
{
    const struct sqlite3_names *names = connection->names;
    connection->object = connect(names, connection->path, query);
    if (connection->object != NULL) {
        connection->cursor = PyObject_CallMethodObjArgs(connection->object, names->cursor, NULL);
    }
    if (connection->cursor == NULL) {
        int error = connection_take_error(request);
        connection_close(connection);
        return error;
    }
    return 0;
}

int
connection_open_to_look(struct request *request, struct connection *connection,
                        struct os_inode inode)
{
    connection->inode = inode;
    return open_object(request, connection, "?mode=ro&immutable=1&cache=private");
}

static bool
has_number(const struct os_numbers *numbers, int descriptor)
{
    int i = 0;
    while (i < numbers->count && numbers->each[i] != descriptor) {
        i++;
    }
    return i < numbers->count;
}

static int
find_numbers(const struct connection *connection, struct os_numbers *numbers)
{
    enum os_access access = connection->is_read_only ? OS_READ : OS_WRITE;
    return os_find_numbers(connection->inode, access, numbers);
}

/* Adopts the one descriptor of the database that was not there before. EAGAIN: the program
 * has opened or closed others meanwhile, or there is another database by now. */
static int
adopt_number(struct connection *connection, const struct os_numbers *before)
{
    struct os_numbers after;
    int found = -1, count = 0;
    int error = find_numbers(connection, &after);
    for (int i = 0; error == 0 && i < after.count; i++) {
        if (!has_number(before, after.each[i])) {
            found = after.each[i];
            count++;
        }
    }
    if (error == 0) {
        error = count == 1 ? os_adopt(found, &connection->number) : EAGAIN;
    }
    if (error == 0 && !os_same(connection->number.inode, connection->inode)) {
        error = EAGAIN;
    }
    return error;
}

/* Where the library's are not told, one of our own. EAGAIN: it is of another file by now. */
static int
open_number(struct connection *connection)
{
    struct os_status status;
    int error = os_open(&os_anywhere, connection->path, OS_READ, &connection->number, &status);
    if (error == 0 && !os_same(status.inode, connection->inode)) {
        os_close(&connection->number);
        error = EAGAIN;
    }
    return error;
}

/* Refused, there is none. */
void
connection_spare(struct connection *connection)
{
    struct os_status status;
    os_open(&os_anywhere, connection->beacons, OS_READ, &connection->spare, &status);
}

int
connection_open(struct request *request, struct connection *connection, struct os_inode inode)
{
    struct os_numbers before;
    int error = EAGAIN;
    connection->is_read_only = connection->latch_is_shared;
    for (int i = 0; error == EAGAIN && i < 10; i++) {
        connection->inode = inode;
        error = find_numbers(connection, &before);
        bool untold = error == ENOSYS;
        if (error == 0 || untold) {
            error = open_object(request, connection,
                                connection->is_read_only ? "?mode=ro&cache=private"
                                                         : "?mode=rw&cache=private");
        }
        if (error == 0) {
            error = untold ? open_number(connection) : adopt_number(connection, &before);
            if (error != 0) {
                connection_close(connection);
            }
        }
    }
    if (error == 0 && !connection->is_read_only) {
        connection_spare(connection);
    }
    return error == EAGAIN ? EBUSY : error;
}

/* ---- Closing ---- */

void
connection_abandon(struct connection *connection)
{
    os_disown(&connection->number);
    os_close(&connection->spare);
    connection->object = NULL;
    connection->cursor = NULL;
    connection->has_table = false;
    connection->foreign = false;
    connection->inode.number = 0;
}

bool
connection_is_kept(const struct connection *connection)
{
    return os_is_open(&connection->number);
}

static void
close_object(PyObject *object, PyObject *close)
{
    PyObject *closed = object != NULL ? PyObject_CallMethodObjArgs(object, close, NULL) : NULL;
    PyErr_Clear();
    Py_XDECREF(closed);
    Py_XDECREF(object);
}

/* Its number may be another file's by now: then it is left alone. */
void
connection_close(struct connection *connection)
{
    bool lost = !os_is_none(&connection->number) && !connection_is_kept(connection);
    PyObject *object = connection->object, *cursor = connection->cursor;
    connection_abandon(connection);
    if (!lost) {
        close_object(cursor, connection->names->close);
        close_object(object, connection->names->close);
    }
}

/* ---- Trust ---- */

static uint32_t
read_big_endian(const unsigned char *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* https://www.sqlite.org/fileformat.html#the_database_header */
bool
connection_read_count(const struct connection *connection, uint32_t *count)
{
    enum { WRITE_VERSION = 18, CHANGE_COUNTER = 24, END = 28, WITH_LOG = 2 };
    unsigned char header[END];
    *count = 0;
    if (os_read_at(&connection->number, 0, header, sizeof header) != 0) {
        return true; /* an empty one; SQLite will say what else is wrong */
    }
    *count = read_big_endian(header + CHANGE_COUNTER);
    return header[WRITE_VERSION] != WITH_LOG;
}

/* SQLite believes whoever has put its other files there before, writes into what they are
 * links to, and waits for ever on a pipe. So in a public directory we take their names first:
 * empty, these files are to SQLite as if they were not there, and nobody else can remove them. */
int
connection_check_companions(const struct connection *connection)
{
    static const char *const suffixes[] = {"-journal", "-wal", "-shm"};
    char path[OS_PATH_SIZE];
    struct os_status status;
    int error = 0;
    if (!trust_is_public(connection->path)) {
        return 0;
    }
    for (size_t i = 0; error == 0 && i < sizeof suffixes / sizeof *suffixes; i++) {
        if (snprintf(path, sizeof path, "%s%s", connection->path, suffixes[i]) >= OS_PATH_SIZE) {
            continue;
        }
        os_make_file(&os_anywhere, path); /* or it is there: whose, is the question */
        if (os_status_at(&os_anywhere, path, &status) == 0) {
            error = status.kind == OS_REGULAR ? trust_check(path, &status) : EPERM;
        }
    }
    return error;
}
