/* The statements of locks in a database.
 *
 * Each use makes sure that the database's path still leads to the file that is open. All
 * of this is called without the GIL, which is taken back around what Python does.
 */
#ifndef LOCKFILE_DATABASE_H
#define LOCKFILE_DATABASE_H

#include <Python.h>

#include "beacon.h"
#include "pool.h"

/* The pool of connections of an interpreter, with the GIL. NULL with an exception. */
PyObject *database_pool(void);

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
