#define PY_SSIZE_T_CLEAN
#include "database.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* So many connections are kept; those used least recently are closed. */
#define KEPT 8

/* Named so that it cannot clash with a table of the database's owner. */
#define TABLE "\"lockfile: locks\""

struct database {
    struct database *next;
    uint64_t user; /* the thread whose statement runs; 0: none */
    bool kept;     /* in the list */
    bool has_table;
    uint64_t generation;
    struct os_inode inode;
    struct os_inode log;  /* its write-ahead log's; number 0: it has none */
    PyObject *connection; /* NULL: it is closed */
    struct os_numbers numbers;
    char *log_path;
    char path[];
};

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

struct databases {
    /* Guarded by os_lock(). */
    struct database *list; /* most recently used first */
    uint64_t forker;       /* the thread that forks just now */
    bool is_ending;

    /* Made once. */
    PyObject *connect, *sql[SQLS], *execute, *fetchall, *rowcount;
};

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

/* ---- Statements, with the GIL ---- */

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
static int
take_error(struct caller *caller)
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

/* Takes the parameters, which may be NULL, over. The rows are fetched, and so the
 * statement is at its end; count: how many it changed. */
static int
execute(struct caller *caller, PyObject *connection, enum sql sql, PyObject *parameters,
        PyObject **rows, long *count)
{
    const struct databases *databases = caller->databases;
    PyObject *cursor = NULL, *fetched = NULL, *changed = NULL;
    if (parameters != NULL) {
        cursor = PyObject_CallMethodObjArgs(connection, databases->execute, databases->sql[sql],
                                            parameters, NULL);
    }
    if (cursor != NULL && rows != NULL) {
        fetched = PyObject_CallMethodObjArgs(cursor, databases->fetchall, NULL);
    }
    if (cursor != NULL && count != NULL) {
        changed = PyObject_GetAttr(cursor, databases->rowcount);
        *count = changed != NULL ? PyLong_AsLong(changed) : 0;
    }
    Py_XDECREF(changed);
    Py_XDECREF(cursor);
    Py_XDECREF(parameters);
    if (PyErr_Occurred()) {
        Py_XDECREF(fetched);
        return take_error(caller);
    }
    if (rows != NULL) {
        *rows = fetched;
    }
    return 0;
}

static int
execute_simply(struct caller *caller, PyObject *connection, enum sql sql)
{
    PyObject *rows = NULL;
    int error = execute(caller, connection, sql, PyTuple_New(0), &rows, NULL);
    if (error == 0) {
        Py_DECREF(rows);
    }
    return error;
}

/* ---- Connections, with the GIL ---- */

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
connect(const struct databases *databases, const char *path)
{
    PyObject *uri = make_uri(path);
    PyObject *arguments = uri != NULL ? Py_BuildValue("(O)", uri) : NULL;
    PyObject *keywords = Py_BuildValue("{s:i,s:O,s:O,s:O}", "timeout", 0, "isolation_level",
                                       Py_None, "check_same_thread", Py_False, "uri", Py_True);
    PyObject *connection = arguments != NULL && keywords != NULL
                               ? PyObject_Call(databases->connect, arguments, keywords)
                               : NULL;
    Py_XDECREF(uri);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    return connection;
}

/* Leaves the connection, which is returned, alone for good, unless it is closed. */
static PyObject *
abandon(struct database *database)
{
    PyObject *connection = database->connection;
    database->connection = NULL;
    database->has_table = false;
    database->numbers.count = 0;
    database->log.number = 0;
    return connection;
}

/* Its numbers may be other files' by now: then it is left alone. */
static void
disconnect(struct database *database)
{
    bool taken = !os_is_kept(&database->numbers) && os_is_taken(&database->numbers);
    PyObject *connection = abandon(database);
    if (connection != NULL && !taken) {
        PyObject *closed = PyObject_CallMethod(connection, "close", NULL);
        PyErr_Clear();
        Py_XDECREF(closed);
        Py_DECREF(connection);
    }
}

/* The inode of its write-ahead log; number 0: there is none. */
static struct os_inode
find_log(const struct database *database)
{
    struct os_status status = {0};
    os_status_at(&os_anywhere, database->log_path, &status);
    return status.inode;
}

/* SQLite does not notice that its log was removed, and what it writes into it then,
 * nobody else sees. */
static bool
has_its_log(const struct database *database)
{
    return database->log.number == 0 || os_same(find_log(database), database->log);
}

/* Which descriptors are open for the database: the program may have connections of its
 * own, whose are there before. */
static void
find_numbers(const struct database *database, const struct os_numbers *others,
             struct os_numbers *numbers)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char path[OS_PATH_SIZE];
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (snprintf(path, sizeof path, "%s%s", database->path, suffixes[i]) < OS_PATH_SIZE) {
            os_find_numbers(path, others, numbers);
        }
    }
}

/* What cannot be used any more, is closed. EBADF: it must not even be. */
static int
drop_if_lost(struct database *database, struct os_inode inode, bool reads)
{
    if (database->connection == NULL) {
        return 0;
    }
    bool kept = os_is_kept(&database->numbers);
    if (!kept && os_is_taken(&database->numbers)) {
        return EBADF;
    }
    /* Who writes looks after the log afterwards. */
    if (!kept || !os_same(database->inode, inode) || (reads && !has_its_log(database))) {
        disconnect(database);
    }
    return 0;
}

static int
open_connection(struct caller *caller, struct database *database, struct os_inode inode)
{
    database->connection = connect(caller->databases, database->path);
    if (database->connection == NULL) {
        return take_error(caller);
    }
    database->inode = inode;
    int error = execute_simply(caller, database->connection, SYNCHRONISE);
    if (error != 0) {
        disconnect(database);
    }
    return error;
}

/* SQLite makes its other files anew each time that it opens a database that nobody has
 * open. It believes whoever has put them there before, writes into what they are links to,
 * and waits for ever on a pipe. So in a public directory we take their names first: empty,
 * these files are to SQLite as if they were not there. */
static int
check_companions(const struct database *database, bool take)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal"};
    char path[OS_PATH_SIZE];
    struct os_status status;
    int error = 0;
    take = take && owner_is_public(database->path);
    for (size_t i = 0; error == 0 && i < sizeof suffixes / sizeof *suffixes; i++) {
        if (snprintf(path, sizeof path, "%s%s", database->path, suffixes[i]) >= OS_PATH_SIZE) {
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

/* ENOENT: nobody has ever locked anything here. */
static int
find_table(struct caller *caller, struct database *database)
{
    PyObject *rows = NULL;
    if (database->has_table) {
        return 0;
    }
    int error = execute(caller, database->connection, FIND_TABLE, PyTuple_New(0), &rows, NULL);
    if (error == 0) {
        database->has_table = PyList_Size(rows) > 0;
        Py_DECREF(rows);
    }
    return error != 0 ? error : database->has_table ? 0 : ENOENT;
}

static int
make_table(struct caller *caller, struct database *database, bool is_local)
{
    if (database->has_table) {
        return 0;
    }
    enum sql mode = is_local ? USE_WAL : USE_JOURNAL;
    int error = execute_simply(caller, database->connection, mode);
    /* Busy: others use it, and it stays in their mode. Each transaction may remove a journal. */
    if (error == 0 || error == EBUSY) {
        error = check_companions(database, true);
    }
    if (error == 0) {
        error = execute_simply(caller, database->connection, CREATE);
    }
    if (error == 0) {
        error = check_companions(database, true);
    }
    database->has_table = error == 0;
    return error;
}

/* ---- Who uses a connection ---- */

/* Guarded by os_lock(). What a forked child finds is its parent's: it is neither
 * used nor closed, but left alone for good. */
static struct database *
find(struct databases *databases, const char *path)
{
    struct database **link = &databases->list;
    while (*link != NULL) {
        struct database *database = *link;
        if (database->generation != os_generation()) {
            *link = database->next;
            free(database);
        } else if (strcmp(database->path, path) == 0) {
            *link = database->next;
            database->next = databases->list;
            databases->list = database;
            return database;
        } else {
            link = &database->next;
        }
    }
    return NULL;
}

static struct database *
make(const char *path)
{
    size_t size = strlen(path) + 1;
    struct database *database = calloc(1, sizeof *database + size + size + sizeof "-wal");
    if (database != NULL) {
        database->generation = os_generation();
        memcpy(database->path, path, size);
        database->log_path = database->path + size;
        strcat(strcpy(database->log_path, path), "-wal");
    }
    return database;
}

/* Waits until no other thread uses the connection, and no fork is under way. Python
 * code that runs inside a statement of this very thread (on Python 3.11, a garbage
 * collection may set off some) gets a connection for itself. NULL: out of memory. */
static struct database *
borrow(struct databases *databases, const char *path)
{
    uint64_t me = os_thread_token();
    struct database *fresh = NULL;
    os_lock();
    struct database *found;
    for (;;) {
        bool forking = databases->forker != 0 && databases->forker != me;
        /* While another forks, the list is left as it is: it goes through it. */
        found = forking && !databases->is_ending ? NULL : find(databases, path);
        bool used = found != NULL && found->user != 0 && found->user != me;
        if ((!forking && !used) || databases->is_ending) {
            break;
        }
        os_wait_unlocked();
    }
    bool keeping = databases->forker == 0 && !databases->is_ending;
    if (found != NULL && found->user == 0 && keeping) {
        found->user = me;
    } else if ((fresh = make(path)) != NULL) {
        fresh->user = me;
        fresh->kept = found == NULL && keeping;
        if (fresh->kept) {
            fresh->next = databases->list;
            databases->list = fresh;
        }
        found = fresh;
    } else {
        found = NULL;
    }
    os_unlock();
    return found;
}

/* Takes out the one used least recently, if there are too many. Guarded by os_lock(). */
static struct database *
take_oldest(struct databases *databases)
{
    struct database **oldest = NULL;
    unsigned count = 0;
    for (struct database **link = &databases->list; *link != NULL; link = &(*link)->next) {
        count++;
        if ((*link)->user == 0) {
            oldest = link;
        }
    }
    if (count <= KEPT || oldest == NULL) {
        return NULL;
    }
    struct database *taken = *oldest;
    *oldest = taken->next;
    return taken;
}

static void
give_back(struct caller *caller, struct database *database)
{
    struct databases *databases = caller->databases;
    struct database *ended = database->kept ? NULL : database;
    os_lock();
    database->user = 0;
    if (ended == NULL) {
        ended = take_oldest(databases);
    }
    os_wake_all();
    os_unlock();
    if (ended != NULL) {
        caller_return(caller);
        disconnect(ended);
        caller_leave(caller);
        free(ended);
    }
}

/* ---- The statements of locks ---- */

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
run_select(struct caller *caller, struct database *database, const struct statement *statement)
{
    PyObject *rows = NULL;
    int error = find_table(caller, database);
    if (error != 0) {
        return error;
    }
    error = execute(caller, database->connection, SELECT,
                    Py_BuildValue("(N)", PyBytes_FromString(statement->row)), &rows, NULL);
    if (error == 0) {
        error = read_row(rows, statement->content);
        Py_DECREF(rows);
    }
    return PyErr_Occurred() ? take_error(caller) : error;
}

static int
run_insert(struct caller *caller, struct database *database, const struct statement *statement)
{
    long count = 0;
    const struct row *row = statement->content;
    int error = make_table(caller, database, statement->is_local);
    if (error != 0) {
        return error;
    }
    error = execute(caller, database->connection, INSERT,
                    Py_BuildValue("(NNLL)", PyBytes_FromString(statement->row),
                                  PyBytes_FromString(row->owner), (long long)row->beacon.file,
                                  (long long)row->beacon.byte),
                    NULL, &count);
    return error == 0 && count != 1 ? EEXIST : error;
}

static int
run_delete(struct caller *caller, struct database *database, const struct statement *statement)
{
    long count = 0;
    const struct beacon *beacon = &statement->content->beacon;
    int error = find_table(caller, database);
    if (error != 0) {
        return error;
    }
    error = execute(caller, database->connection, DELETE,
                    Py_BuildValue("(NLL)", PyBytes_FromString(statement->row),
                                  (long long)beacon->file, (long long)beacon->byte),
                    NULL, &count);
    return error == 0 && count != 1 ? ENOENT : error;
}

/* Did the database answer, whatever it said? */
static bool
is_answer(int error)
{
    return error == 0 || error == ENOENT || error == EEXIST;
}

/* With a write-ahead log, SQLite keeps a lock on the database for as long as it is open.
 * If other connections of this process had it open before, it may only believe so, from
 * before a fork. */
static bool
is_locked_by_us(const struct database *database)
{
    bool has;
    return database->log.number == 0 || (os_has_locked(database->path, &has) == 0 && has);
}

/* Does the path still lead there? */
static bool
is_there(struct row_place place)
{
    struct os_status status;
    return os_status_at(&os_anywhere, place.database, &status) == 0 &&
           os_same(status.inode, place.inode);
}

static int
run(struct caller *caller, struct row_place place, struct statement statement)
{
    struct database *database = borrow(caller->databases, place.database);
    if (database == NULL) {
        return ENOMEM;
    }
    statement.row = place.row;
    caller_return(caller);
    int error = drop_if_lost(database, place.inode, statement.sql == SELECT);
    bool is_new = database->connection == NULL;
    struct os_numbers others = {.count = 0};
    /* While it is open, its log and that one's index are there, and nobody else's. */
    bool exposed = is_new || database->log.number == 0;
    if (error == 0 && exposed) {
        error = check_companions(database, true);
    }
    if (error == 0 && is_new) {
        find_numbers(database, &(struct os_numbers){0}, &others);
        error = open_connection(caller, database, place.inode);
    }
    if (error == 0) {
        error = statement.sql == SELECT   ? run_select(caller, database, &statement)
                : statement.sql == INSERT ? run_insert(caller, database, &statement)
                                          : run_delete(caller, database, &statement);
    }
    if (is_new && is_answer(error)) {
        find_numbers(database, &others, &database->numbers);
        database->log = find_log(database);
    }
    /* SQLite opens the path by itself, perhaps another file by now; and a row that is
     * made in a database or log that is not there any more is no lock. */
    bool asked = is_new || statement.sql == INSERT || error != 0;
    bool lost = asked && error != EBADF && !(is_there(place) && has_its_log(database));
    bool unsafe = is_new && is_answer(error) && others.count > 0 && !is_locked_by_us(database);
    if (exposed && database->connection != NULL && check_companions(database, false) != 0) {
        error = EPERM;     /* what was answered is worth nothing, and a close would put a log */
        abandon(database); /* of somebody else's into the database */
    }
    if (lost || unsafe || error == EIO || error == EPERM) {
        disconnect(database); /* whatever is wrong with it: next time anew */
    }
    caller_leave(caller);
    give_back(caller, database);
    return lost ? DATABASE_MOVED : unsafe ? DATABASE_UNSAFE : error;
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

/* ---- Forks ---- */

/* Waits until no other thread uses a connection, and lets none take one. */
static void
hold_all(struct databases *databases)
{
    uint64_t me = os_thread_token();
    os_lock();
    for (;;) {
        const struct database *used = databases->list;
        while (used != NULL && (used->user == 0 || used->user == me)) {
            used = used->next;
        }
        bool forking = databases->forker != 0 && databases->forker != me;
        if ((used == NULL && !forking) || databases->is_ending) {
            break;
        }
        os_wait_unlocked();
    }
    databases->forker = me;
    os_unlock();
}

/* Nobody else changes the list meanwhile. */
static void
disconnect_idle(struct databases *databases)
{
    for (struct database *each = databases->list; each != NULL; each = each->next) {
        if (each->user == 0 && each->generation == os_generation()) {
            disconnect(each);
        }
    }
}

static PyObject *
before_fork(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct databases *databases = databases_of(self);
    Py_BEGIN_ALLOW_THREADS
        hold_all(databases);
    Py_END_ALLOW_THREADS
    disconnect_idle(databases);
    return Py_NewRef(Py_None);
}

static PyObject *
after_fork(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct databases *databases = databases_of(self);
    os_lock();
    databases->forker = 0;
    os_wake_all();
    os_unlock();
    return Py_NewRef(Py_None);
}

static PyMethodDef before_method = {"before_fork", before_fork, METH_NOARGS, NULL};
static PyMethodDef after_method = {"after_fork", after_fork, METH_NOARGS, NULL};

static bool
arrange_forks(PyObject *object)
{
    PyObject *os = PyImport_ImportModule("os");
    PyObject *arrange = os != NULL ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
    PyObject *before = PyCFunction_NewEx(&before_method, object, NULL);
    PyObject *after = PyCFunction_NewEx(&after_method, object, NULL);
    PyObject *arguments = PyTuple_New(0);
    PyObject *keywords = before != NULL && after != NULL
                             ? Py_BuildValue("{s:O,s:O,s:O}", "before", before, "after_in_parent",
                                             after, "after_in_child", after)
                             : NULL;
    PyObject *arranged = arrange != NULL && arguments != NULL && keywords != NULL
                             ? PyObject_Call(arrange, arguments, keywords)
                             : NULL;
    Py_XDECREF(os);
    Py_XDECREF(arrange);
    Py_XDECREF(before);
    Py_XDECREF(after);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    Py_XDECREF(arranged);
    return arranged != NULL;
}

/* ---- An interpreter's connections ---- */

static const char capsule_name[] = "lockfile.databases";

struct databases *
databases_of(PyObject *object)
{
    return PyCapsule_GetPointer(object, capsule_name);
}

void
databases_end(struct databases *databases)
{
    os_lock();
    databases->is_ending = true;
    os_wake_all();
    os_unlock();
    disconnect_idle(databases);
}

static void
free_databases(struct databases *databases)
{
    while (databases->list != NULL) {
        struct database *next = databases->list->next;
        if (databases->list->user == 0 && databases->list->generation == os_generation()) {
            disconnect(databases->list);
        }
        free(databases->list);
        databases->list = next;
    }
    Py_XDECREF(databases->connect);
    Py_XDECREF(databases->execute);
    Py_XDECREF(databases->fetchall);
    Py_XDECREF(databases->rowcount);
    for (int i = 0; i < SQLS; i++) {
        Py_XDECREF(databases->sql[i]);
    }
    PyMem_Free(databases);
}

static void
destroy(PyObject *object)
{
    free_databases(databases_of(object));
}

static bool
fill(struct databases *databases)
{
    PyObject *module = PyImport_ImportModule("sqlite3");
    if (module == NULL) {
        return false;
    }
    databases->connect = PyObject_GetAttrString(module, "connect");
    databases->execute = PyUnicode_InternFromString("execute");
    databases->fetchall = PyUnicode_InternFromString("fetchall");
    databases->rowcount = PyUnicode_InternFromString("rowcount");
    Py_DECREF(module);
    for (int i = 0; i < SQLS; i++) {
        databases->sql[i] = PyUnicode_InternFromString(texts[i]);
        if (databases->sql[i] == NULL) {
            return false;
        }
    }
    return databases->connect != NULL && databases->execute != NULL &&
           databases->fetchall != NULL && databases->rowcount != NULL;
}

PyObject *
databases_new(void)
{
    struct databases *databases = PyMem_Calloc(1, sizeof *databases);
    if (databases == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *object = fill(databases) ? PyCapsule_New(databases, capsule_name, destroy) : NULL;
    if (object == NULL) {
        free_databases(databases);
        return NULL;
    }
    if (!arrange_forks(object)) {
        Py_DECREF(object);
        return NULL;
    }
    return object;
}
