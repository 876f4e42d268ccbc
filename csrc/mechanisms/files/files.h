/* The mechanisms on the file system. */
#ifndef LOCKFILE_FILES_H
#define LOCKFILE_FILES_H

#include "core/mechanism.h"

extern const struct mechanism link_mechanism;  /* the lock file is a hard link to a file */
extern const struct mechanism mkdir_mechanism; /* it is a directory with a file in it */

#endif
