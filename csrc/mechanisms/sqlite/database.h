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

/* A shared lock has a row that says so, and one more for each reader, whose name is longer by what
 * stands behind DATABASE_MEMBER: no lock's name has that. The first row comes with the first
 * reader, whose beacon it names, and goes with the last one. */
#define DATABASE_MEMBER "//"
#define DATABASE_NAME_SIZE (OS_PATH_SIZE + 32)
bool database_is_shared(const struct row *row);

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
 * Insert adds the row unless there is one: then it is EEXIST. Delete removes that very row. Of who
 * shares the lock: share adds what there has to be, unless somebody has it alone: then it is
 * EEXIST; downgrade makes that of the row; leave removes it; dissolve removes what all have. */
enum { DATABASE_MOVED = -1, DATABASE_FOREIGN = -2, DATABASE_FORKED = -3 };

/* Whether it may become or be ours, before the first file is made beside it. */
int database_recognise(struct request *request, struct row_place place);

int database_select(struct request *request, struct row_place place, struct row *row);
int database_insert(struct request *request, struct row_place place, const struct row *row,
                    bool is_local);
int database_delete(struct request *request, struct row_place place, struct beacon beacon);

int database_share(struct request *request, struct row_place place, const struct row *row,
                   bool is_local);
int database_downgrade(struct request *request, struct row_place place, const struct row *row);
int database_leave(struct request *request, struct row_place place, struct beacon beacon);
int database_dissolve(struct request *request, struct row_place place, struct beacon beacon);
int database_select_member(struct request *request, struct row_place place, struct beacon beacon,
                           struct row *row);

/* Some rows whose beacons are in one file, in the order of their names: those after the
 * place's row, which moves on to the last of them. */
#define DATABASE_LISTED SQL_LISTED
struct listed {
    char *name; /* to be freed */
    struct row row;
};
int database_list(struct request *request, struct row_place place, uint64_t file,
                  struct listed listed[DATABASE_LISTED], int *count);

/* Some of those who share the lock, after that name; "": the first. */
int database_list_group(struct request *request, struct row_place place, const char *after,
                        struct listed listed[DATABASE_LISTED], int *count);

#endif
