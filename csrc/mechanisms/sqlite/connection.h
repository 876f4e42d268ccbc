/* One connection to a database, by Python's own sqlite3 module, and whether it can be
 * trusted still.
 *
 * Python's own module, since a second SQLite in the process would not know the first
 * one's locks, and closing a file would drop them.
 *
 * Between statements SQLite has one descriptor open, the database's, and no lock. That
 * descriptor is tagged: if the program has closed it, its number may be anything by now,
 * and the connection is abandoned: not even closed, since SQLite would close that number.
 * The connection's latch keeps all other connections off while a statement runs, those of
 * other processes, too (beacon.h). SQLite's own locks would do so, but a process loses
 * them when any of its threads closes the database as a plain file.
 *
 * All of this is called with the GIL, but for what says otherwise.
 */
#ifndef LOCKFILE_CONNECTION_H
#define LOCKFILE_CONNECTION_H

#include <Python.h>

#include "mechanisms/python_call.h"
#include "platform/os.h"

struct pool;

/* Who asks the database, and why there was no answer. */
struct request {
    struct python_call *python; /* NULL: Python is gone */
    struct pool *pool;
    int locker;       /* the process that has locked the busy database; 0: not known */
    bool latched_out; /* it is busy with another connection's statement */
};

/* What is asked of the sqlite3 module: looked up once. The module's connections and values
 * of types of our own, so that nothing that the program has replaced, registered or adapted
 * comes in between. */
struct sqlite3_names {
    PyObject *connection, *cursor, *close, *execute, *fetchall, *rowcount;
    PyObject *blob, *integer; /* types */
};
bool sqlite3_names_fill(struct sqlite3_names *names); /* false with an exception */
void sqlite3_names_clear(struct sqlite3_names *names);

struct connection {
    struct connection *next;
    uint64_t user; /* the thread whose statement runs; 0: none */
    bool kept;     /* in the pool */
    bool nested;   /* inside a statement of the same thread, which has latched the database */
    uint64_t generation;
    const struct sqlite3_names *names;
    PyObject *object, *cursor; /* NULL: it is closed */
    struct os_inode inode;     /* the database's */
    bool foreign;              /* which holds somebody else's tables: never used, only kept */
    bool has_table;
    bool is_read_only;
    struct os_file number; /* the descriptor that SQLite has opened */
    struct os_file spare;  /* given up when SQLite finds no number for its journal */
    struct os_file latch;
    bool latched;
    bool latch_is_shared; /* since the beacons can only be read */
    const char *beacons;
    char path[];
};

/* Closed at first. NULL: out of memory. Without the GIL. */
struct connection *connection_new(const char *path, const struct sqlite3_names *names);

/* Keeps the others off, or finds out that they are at work: EBUSY. Where there are no locks
 * of this kind, SQLite's own have to do. mode: of beacons that are to be made. Without the
 * GIL. */
int connection_latch(struct connection *connection, unsigned mode);
void connection_unlatch(struct connection *connection);
void connection_close_latch(struct connection *connection);

/* 0; or what database.h says of a statement. */
int connection_open(struct request *request, struct connection *connection, struct os_inode inode);

/* Opens it without a lock, a log or a journal: nothing of what others do with it is
 * disturbed, and what they are just writing may be read. */
int connection_open_to_look(struct request *request, struct connection *connection,
                            struct os_inode inode);
void connection_spare(struct connection *connection); /* takes a number in advance */
void connection_close(struct connection *connection);

/* Leaves it alone for good: it cannot even be closed. Without the GIL, too. */
void connection_abandon(struct connection *connection);

/* Whether SQLite's descriptor is what it was. Without the GIL, too. */
bool connection_is_kept(const struct connection *connection);

/* How often it was written to, as its file says now. False: it has a write-ahead log, which
 * none of ours ever has. */
bool connection_read_count(const struct connection *connection, uint32_t *count);

/* Makes sure, in a directory where others may put files, that the files beside the database
 * are ours, and makes those that are not there. */
int connection_check_companions(const struct connection *connection);

/* Values to bind; NULL with an exception. */
PyObject *connection_blob(const struct connection *connection, const char *text);
PyObject *connection_integer(const struct connection *connection, uint64_t number);

/* Runs a statement to its end. Takes over the parameters, which may be NULL with an exception.
 * rows: fetches them; count: how many rows it has changed. */
int connection_execute(struct request *request, const struct connection *connection, PyObject *sql,
                       PyObject *parameters, PyObject **rows, long *count);
int connection_execute_simply(struct request *request, const struct connection *connection,
                              PyObject *sql);

/* Takes over the exception that is set, if any: ENOMEM, EBUSY, EIO; and two that tell that
 * SQLite could not open a file, or that it is none of SQLite's. */
enum { CONNECTION_CANNOT_OPEN = -20, CONNECTION_NO_DATABASE = -21 };
int connection_take_error(struct request *request);

#endif
