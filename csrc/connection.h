/* One connection to a database, by Python's own sqlite3 module, and whether it can be
 * trusted still: SQLite believes in the descriptors that it has opened, in the files that
 * it finds beside the database, and in a log that somebody has removed.
 *
 * Python's own module, since a second SQLite in the process would not know the first
 * one's locks, and closing a file would drop them.
 *
 * All of this is called with the GIL, but for what says otherwise.
 */
#ifndef LOCKFILE_CONNECTION_H
#define LOCKFILE_CONNECTION_H

#include <Python.h>

#include "os.h"

struct pool;

/* Who calls: for as long as one call of a method lasts. */
struct caller {
    PyThreadState *thread; /* while the GIL is released */
    struct pool *pool;
    PyObject *error; /* what sqlite3 raised last */
};

/* Gives up the GIL and takes it back. */
void caller_leave(struct caller *caller);
void caller_return(struct caller *caller);

/* Drops the last error, and takes over one that was set aside. Without the GIL. */
void caller_restore(struct caller *caller, PyObject *error);

/* What is asked of the sqlite3 module: looked up once. */
struct sqlite3_names {
    PyObject *connect, *execute, *fetchall, *rowcount;
};
bool sqlite3_names_fill(struct sqlite3_names *names); /* false with an exception */
void sqlite3_names_clear(struct sqlite3_names *names);

struct connection {
    struct connection *next;
    uint64_t user; /* the thread whose statement runs; 0: none */
    bool kept;     /* in the pool */
    bool has_table;
    uint64_t generation;
    const struct sqlite3_names *names;
    PyObject *object;        /* NULL: it is closed */
    struct os_inode inode;   /* the database's */
    struct os_inode log;     /* its write-ahead log's; number 0: it has none */
    struct os_numbers own;   /* the descriptors that it has opened, ... */
    struct os_numbers other; /* ... and those that the program had open before */
    char *log_path;
    char path[];
};

/* Closed at first. NULL: out of memory. Without the GIL. */
struct connection *connection_new(const char *path, const struct sqlite3_names *names);

/* 0; or what database.h says of a statement. */
int connection_open(struct caller *caller, struct connection *connection, struct os_inode inode);

/* Once it has answered for the first time: which files it has open. */
void connection_note_files(struct connection *connection);
void connection_close(struct connection *connection);

/* Leaves it alone for good: it cannot even be closed. */
void connection_abandon(struct connection *connection);

/* Closes it if it is not what it was any more, or not the database of that inode. EBADF: it
 * must not even be closed. */
int connection_check(struct connection *connection, struct os_inode inode, bool reads);
bool connection_has_its_log(const struct connection *connection);

/* Whether SQLite could believe in locks that this process does not have. */
bool connection_is_unsafe(const struct connection *connection);

/* Whether the files beside the database can be others' than its log and that one's index. */
bool connection_is_exposed(const struct connection *connection);

/* Whether they are ours. take: makes those that are not there, where others could. */
int connection_check_companions(const struct connection *connection, bool take);

/* Runs a statement to its end. Takes over the parameters, which may be NULL with an exception.
 * rows: fetches them; count: how many rows it has changed. */
int connection_execute(struct caller *caller, const struct connection *connection, PyObject *sql,
                       PyObject *parameters, PyObject **rows, long *count);
int connection_execute_simply(struct caller *caller, const struct connection *connection,
                              PyObject *sql);

/* Takes over the exception that is set, if any: ENOMEM, EBUSY, EIO. */
int connection_take_error(struct caller *caller);

#endif
