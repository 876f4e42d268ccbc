/* Where the row of a lock is: the database, the file of beacons beside it, and what the row is
 * called. Found anew by each step. */
#ifndef LOCKFILE_SPOT_H
#define LOCKFILE_SPOT_H

#include <Python.h>

#include "core/attempt.h"
#include "mechanisms/sqlite/database.h"

struct spot {
    struct row_place place;
    char database[OS_PATH_SIZE];
    char row[OS_PATH_SIZE];
    char beacons[OS_PATH_SIZE];
};

/* ENOENT: there is no database. */
int spot_find(struct spot *spot, const struct lock *lock);

/* The same, and makes an empty one if there is none. */
int spot_find_or_make(struct spot *spot, const struct lock *lock);

#endif
