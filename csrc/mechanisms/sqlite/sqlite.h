/* The mechanism in a database: the lock is a row, whose owner's beacon is a byte of
 * the file beside the database. attempt->caller is a struct caller. */
#ifndef LOCKFILE_SQLITE_H
#define LOCKFILE_SQLITE_H

#include <Python.h>

#include "core/lock.h"
#include "mechanisms/sqlite/database.h"

extern const struct mechanism sqlite_mechanism;

/* At the interpreter's end, with the GIL: releases all rows that this process owns. */
void sqlite_release_all(struct pool *pool);

#endif
