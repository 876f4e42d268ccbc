#define PY_SSIZE_T_CLEAN
#include "mechanisms/sqlite/statement.h"

#include "mechanisms/sqlite/whose.h"

#include <errno.h>
#include <string.h>

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
    if (size >= NAME_SIZE || strlen(owner) != (size_t)size) {
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
    if (statement->sql == SQL_SELECT) {
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
run_select(struct request *request, struct connection *connection,
           const struct statement *statement)
{
    PyObject *rows = NULL, *parameters;
    PyObject *name = connection_blob(connection, statement->row);
    if (statement->sql == SQL_SELECT) {
        parameters = Py_BuildValue("(N)", name);
    } else {
        parameters = Py_BuildValue("(NN)", name,
                                   connection_integer(connection, statement->content->beacon.file));
    }
    int error = sql_execute(request, connection, statement->sql, parameters, &rows, NULL);
    if (error == 0) {
        error = read_rows(rows, statement);
        Py_DECREF(rows);
    }
    return PyErr_Occurred() ? connection_take_error(request) : error;
}

/* Is the row in the file, not just in what SQLite remembers? */
static int
read_back(struct request *request, struct connection *connection, const struct statement *statement)
{
    struct row row;
    struct statement select = {.sql = SQL_SELECT, .row = statement->row, .content = &row};
    const struct beacon *beacon = &statement->content->beacon;
    int error = sql_execute_simply(request, connection, SQL_FORGET);
    if (error == 0) {
        error = run_select(request, connection, &select);
    }
    if (error == 0 && (row.beacon.file != beacon->file || row.beacon.byte != beacon->byte)) {
        error = EEXIST;
    }
    return error == ENOENT ? STATEMENT_LOST : error;
}

/* What SQLite says that it has written, must be there. Where our latch keeps all others off,
 * the file's count of changes shows it: it is one more than before, unless somebody else has
 * taken the change back. Elsewhere the row is read back, and so it is where it is already
 * there after an answer was lost: it may be our own. */
static int
confirm_insert(struct request *request, struct connection *connection,
               const struct statement *statement, long inserted, uint32_t counted)
{
    uint32_t count;
    bool alone = statement->is_local && (connection->latched || connection->nested);
    if (inserted == 1 && alone) {
        return connection_read_count(connection, &count) && count == counted + 1 ? 0
                                                                                 : STATEMENT_LOST;
    }
    return inserted == 1 || statement->asked_before ? read_back(request, connection, statement)
                                                    : EEXIST;
}

static int
run_insert(struct request *request, struct connection *connection,
           const struct statement *statement, uint32_t counted)
{
    long inserted = 0;
    const struct row *row = statement->content;
    PyObject *parameters = Py_BuildValue("(NNNN)", connection_blob(connection, statement->row),
                                         connection_blob(connection, row->owner),
                                         connection_integer(connection, row->beacon.file),
                                         connection_integer(connection, row->beacon.byte));
    int error = sql_execute(request, connection, SQL_INSERT, parameters, NULL, &inserted);
    return error != 0 ? error : confirm_insert(request, connection, statement, inserted, counted);
}

static int
run_delete(struct request *request, struct connection *connection,
           const struct statement *statement)
{
    long count = 0;
    const struct beacon *beacon = &statement->content->beacon;
    PyObject *parameters = Py_BuildValue("(NNN)", connection_blob(connection, statement->row),
                                         connection_integer(connection, beacon->file),
                                         connection_integer(connection, beacon->byte));
    int error = sql_execute(request, connection, SQL_DELETE, parameters, NULL, &count);
    return error == 0 && count != 1 ? ENOENT : error;
}

static int
run_once(struct request *request, struct connection *connection, const struct statement *statement)
{
    uint32_t counted;
    int error = 0;
    if (!connection->has_table) {
        error = whose_find_table(request, connection, statement->sql == SQL_INSERT);
    }
    if (error == 0 && !connection_read_count(connection, &counted)) {
        connection_close(connection); /* somebody has changed its mode: opened, it is ours again */
        error = STATEMENT_LOST;
    }
    if (error != 0) {
        return error;
    }
    return statement->sql == SQL_INSERT   ? run_insert(request, connection, statement, counted)
           : statement->sql == SQL_DELETE ? run_delete(request, connection, statement)
                                          : run_select(request, connection, statement);
}

/* It may be for want of a descriptor that SQLite cannot open its journal. */
int
statement_run(struct request *request, struct connection *connection,
              const struct statement *statement)
{
    int error = run_once(request, connection, statement);
    if (error == CONNECTION_CANNOT_OPEN && os_is_open(&connection->spare)) {
        os_close(&connection->spare);
        error = run_once(request, connection, statement);
        connection_spare(connection);
    }
    return error;
}
