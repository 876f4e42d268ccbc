/* Connections to databases, by Python's own sqlite3 module: one for each interpreter
 * and database, kept for the next call.
 *
 * Python's own, since a second SQLite in the process would not know the first one's
 * locks, and closing a file would drop them. A connection is lent to one statement at
 * a time, whose row count is then that statement's own. Each use makes sure that the
 * database's path still leads to the file that is open.
 *
 * Forks. SQLite remembers for the whole process what it has locked, and a child has a
 * copy of that memory but not the locks: even a connection that the child makes for
 * itself would believe in them, and its database could be pulled away. So before a
 * fork the connections are closed, while no statement runs, and none is made
 * until it has happened.
 *
 * All of this is called without the GIL, which is taken back around what Python does.
 */
#ifndef LOCKFILE_DATABASE_H
#define LOCKFILE_DATABASE_H

#include <Python.h>

#include "beacon.h"

struct databases;

/* Who calls: for as long as one call of a method lasts. */
struct caller {
    PyThreadState *thread; /* while the GIL is released */
    struct databases *databases;
    PyObject *error; /* what sqlite3 raised last */
};

/* An interpreter's connections, as an object that closes them when it goes away. Arranges
 * for forks. NULL with an exception. */
PyObject *databases_new(void);
struct databases *databases_of(PyObject *object);

/* The interpreter is at its end: statements wait for nobody any more, since threads
 * that use a connection may have been stopped, and connections are not kept. */
void databases_end(struct databases *databases);

/* Gives up the GIL and takes it back. */
void caller_leave(struct caller *caller);
void caller_return(struct caller *caller);

/* Drops the last error, and takes over one that was set aside. Without the GIL. */
void caller_restore(struct caller *caller, PyObject *error);

/* Where a lock's row is. */
struct row_place {
    const char *database; /* absolute, and no symbolic link */
    struct os_inode inode;
    const char *row;
};

/* What it says. */
struct row {
    char owner[OWNER_NAME_SIZE];
    struct beacon beacon;
};

/* One statement, at once. 0, or
 *     ENOENT   there is no such row (or table)
 *     EBUSY    another program uses the database just now
 *     EBADF    the program has closed the descriptors of the connection, and uses their
 *              numbers for other files: SQLite would read and close those
 *     DATABASE_MOVED  the path leads to another database than the place says
 *     DATABASE_UNSAFE SQLite believes in locks that this process does not have: a
 *              connection was open when the process was forked
 *     EPERM    somebody else has put a file there that belongs to the database, see
 *              owner_check_trust()
 *     ENOMEM
 *     EIO      and caller->error says why
 * Insert adds the row unless there is one: then it is EEXIST. Delete removes that very row. */
enum { DATABASE_MOVED = -1, DATABASE_UNSAFE = -2 };

int database_select(struct caller *caller, struct row_place place, struct row *row);
int database_insert(struct caller *caller, struct row_place place, const struct row *row,
                    bool is_local);
int database_delete(struct caller *caller, struct row_place place, struct beacon beacon);

#endif
