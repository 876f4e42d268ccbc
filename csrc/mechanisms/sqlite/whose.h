/* Whose database is it, and how one of ours is made and opened. */
#ifndef LOCKFILE_WHOSE_H
#define LOCKFILE_WHOSE_H

#include <Python.h>

#include "mechanisms/sqlite/database.h"

/* Is it there, and the one that the place says? 0, DATABASE_MOVED, or an errno value. */
int whose_find_status(struct row_place place, struct os_status *status);

/* Before any file is made beside it: may it become or be ours? makes: an empty one is to become
 * ours. Without the GIL. 0, or what database.h says of a statement, or connection.h of an error. */
int whose_recognise(struct request *request, struct connection *connection, struct row_place place,
                    bool makes);

/* Opens it, and makes a table of locks, or finds that there is none: ENOENT, nobody has ever locked
 * anything here. With the GIL. */
int whose_open(struct request *request, struct connection *connection, struct row_place place,
               bool makes);
int whose_find_table(struct request *request, struct connection *connection, bool makes);

#endif
