/* The statements of locks in a database of locks alone.
 *
 * Such a database is made by us, and known by its application_id; one that holds tables of
 * anybody else is never touched. Each use makes sure that the database's path still leads to
 * the file that is open. All of this is called without the GIL, which is taken back around
 * what Python does.
 */
#ifndef LOCKFILE_DATABASE_H
#define LOCKFILE_DATABASE_H

#include <Python.h>

#include "mechanisms/sqlite/beacon.h"
#include "mechanisms/sqlite/sql.h"

/* Where a lock's row is. */
struct row_place {
    const char *database; /* absolute, and no symbolic link */
    struct os_inode inode;
    unsigned mode; /* the database's, for the files beside it */
    const char *row;
};

/* What it says. */
struct row {
    char owner[NAME_SIZE];
    struct beacon beacon;
};

/* One statement, at once. 0, or
 *     ENOENT   there is no such row (or table)
 *     EBUSY    others use the database just now
 *     EPERM    somebody else has put a file there that belongs to the database, see
 *              trust_check()
 *     DATABASE_MOVED    the path leads to another database than the place says
 *     DATABASE_FOREIGN  it holds tables of somebody else's
 *     DATABASE_FORKED   this process was forked in the middle of a statement
 *     ENOMEM
 *     EIO      and request->python->error says why; or another number of the system's
 * Insert adds the row unless there is one: then it is EEXIST. Delete removes that very row. */
enum { DATABASE_MOVED = -1, DATABASE_FOREIGN = -2, DATABASE_FORKED = -3 };

/* Whether it may become or be ours, before the first file is made beside it. */
int database_recognise(struct request *request, struct row_place place);

int database_select(struct request *request, struct row_place place, struct row *row);
int database_insert(struct request *request, struct row_place place, const struct row *row,
                    bool is_local);
int database_delete(struct request *request, struct row_place place, struct beacon beacon);

/* Some rows whose beacons are in one file, in the order of their names: those after the
 * place's row, which moves on to the last of them. */
#define DATABASE_LISTED SQL_LISTED
struct listed {
    char *name; /* to be freed */
    struct row row;
};
int database_list(struct request *request, struct row_place place, uint64_t file,
                  struct listed listed[DATABASE_LISTED], int *count);

#endif
