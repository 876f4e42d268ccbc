#define PY_SSIZE_T_CLEAN
#include "mechanisms/sqlite/statement.h"

#include "mechanisms/sqlite/whose.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- The names of those who share a lock ---- */

static PyObject *
member(const struct connection *connection, const struct statement *statement)
{
    char name[DATABASE_NAME_SIZE];
    snprintf(name, sizeof name, "%s" DATABASE_MEMBER "%016" PRIx64, statement->row,
             statement->content->beacon.byte);
    return connection_blob(connection, name);
}

/* What all of their names are above, */
static PyObject *
floor_of(const struct connection *connection, const struct statement *statement)
{
    char name[DATABASE_NAME_SIZE];
    snprintf(name, sizeof name, "%s" DATABASE_MEMBER, statement->row);
    return connection_blob(connection, name);
}

/* and what they are below. */
static PyObject *
ceiling_of(const struct connection *connection, const struct statement *statement)
{
    char name[DATABASE_NAME_SIZE];
    snprintf(name, sizeof name, "%s" DATABASE_MEMBER, statement->row);
    name[strlen(name) - 1]++;
    return connection_blob(connection, name);
}

/* ---- Reading ---- */

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

static PyObject *
parameters_to_select(const struct connection *connection, const struct statement *statement)
{
    bool begins = statement->after == NULL || statement->after[0] == '\0';
    switch (statement->sql) {
    case SQL_SELECT:
        return Py_BuildValue("(N)", statement->is_member
                                        ? member(connection, statement)
                                        : connection_blob(connection, statement->row));
    case SQL_LIST_GROUP:
        return Py_BuildValue("(NN)",
                             begins ? floor_of(connection, statement)
                                    : connection_blob(connection, statement->after),
                             ceiling_of(connection, statement));
    default:
        return Py_BuildValue("(NN)", connection_blob(connection, statement->row),
                             connection_integer(connection, statement->content->beacon.file));
    }
}

static int
run_select(struct request *request, struct connection *connection,
           const struct statement *statement)
{
    PyObject *rows = NULL;
    PyObject *parameters = parameters_to_select(connection, statement);
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
    struct row row = *statement->content;
    struct statement select = {.sql = SQL_SELECT,
                               .is_member = statement->sql == SQL_SHARE,
                               .row = statement->row,
                               .content = &row};
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
    bool may_be_there = inserted > 0 || statement->asked_before;
    if (inserted > 0 && alone) {
        return connection_read_count(connection, &count) && count == counted + 1 ? 0
                                                                                 : STATEMENT_LOST;
    }
    int error = may_be_there ? read_back(request, connection, statement) : EEXIST;
    bool was_refused = statement->sql == SQL_SHARE && inserted == 0 && error == STATEMENT_LOST;
    return was_refused ? EEXIST : error;
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

static PyObject *
parameters_to_share(const struct connection *connection, const struct statement *statement)
{
    const struct row *row = statement->content;
    return Py_BuildValue("(NNNNN)", connection_blob(connection, statement->row),
                         member(connection, statement), connection_blob(connection, row->owner),
                         connection_integer(connection, row->beacon.file),
                         connection_integer(connection, row->beacon.byte));
}

static int
run_share(struct request *request, struct connection *connection, const struct statement *statement,
          uint32_t counted)
{
    long inserted = 0;
    PyObject *parameters = parameters_to_share(connection, statement);
    int error = sql_execute(request, connection, SQL_SHARE, parameters, NULL, &inserted);
    return error != 0 ? error : confirm_insert(request, connection, statement, inserted, counted);
}

static int
run_downgrade(struct request *request, struct connection *connection,
              const struct statement *statement)
{
    long count = 0;
    PyObject *parameters = parameters_to_share(connection, statement);
    int error = sql_execute(request, connection, SQL_DOWNGRADE, parameters, NULL, &count);
    return error == 0 && count == 0 ? ENOENT : error;
}

static int
run_leave(struct request *request, struct connection *connection, const struct statement *statement)
{
    long count = 0;
    const struct beacon *beacon = &statement->content->beacon;
    PyObject *parameters = Py_BuildValue(
        "(NNNNNN)", connection_blob(connection, statement->row), member(connection, statement),
        connection_integer(connection, beacon->file), connection_integer(connection, beacon->byte),
        floor_of(connection, statement), ceiling_of(connection, statement));
    int error = sql_execute(request, connection, SQL_LEAVE, parameters, NULL, &count);
    return error == 0 && count == 0 ? ENOENT : error;
}

static int
run_dissolve(struct request *request, struct connection *connection,
             const struct statement *statement)
{
    long count = 0;
    const struct beacon *beacon = &statement->content->beacon;
    PyObject *parameters = Py_BuildValue(
        "(NNNNN)", connection_blob(connection, statement->row), floor_of(connection, statement),
        ceiling_of(connection, statement), connection_integer(connection, beacon->file),
        connection_integer(connection, beacon->byte));
    int error = sql_execute(request, connection, SQL_DISSOLVE, parameters, NULL, &count);
    return error == 0 && count == 0 ? ENOENT : error;
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
        error = whose_find_table(request, connection, statement_makes(statement));
    }
    if (error == 0 && !connection_read_count(connection, &counted)) {
        connection_close(connection); /* somebody has changed its mode: opened, it is ours again */
        error = STATEMENT_LOST;
    }
    if (error != 0) {
        return error;
    }
    switch (statement->sql) {
    case SQL_INSERT:
        return run_insert(request, connection, statement, counted);
    case SQL_SHARE:
        return run_share(request, connection, statement, counted);
    case SQL_DELETE:
        return run_delete(request, connection, statement);
    case SQL_LEAVE:
        return run_leave(request, connection, statement);
    case SQL_DOWNGRADE:
        return run_downgrade(request, connection, statement);
    case SQL_DISSOLVE:
        return run_dissolve(request, connection, statement);
    default:
        return run_select(request, connection, statement);
    }
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
