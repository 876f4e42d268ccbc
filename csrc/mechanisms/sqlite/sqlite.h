/* The mechanism in a database: the lock is a row, whose owner's beacon is a byte of
 * the file beside the database. */
#ifndef LOCKFILE_SQLITE_H
#define LOCKFILE_SQLITE_H

#include <Python.h>

#include "core/mechanism.h"

extern const struct mechanism sqlite_mechanism;

#endif
