/* The mechanisms on the file system. */
#ifndef LOCKFILE_FILES_H
#define LOCKFILE_FILES_H

#include "core/mechanism.h"

extern const struct mechanism link_mechanism;    /* the lock file is a hard link to a file */
extern const struct mechanism mkdir_mechanism;   /* it is a directory with a file in it */
extern const struct mechanism symlink_mechanism; /* it is a symbolic link to a file */
extern const struct mechanism pid_mechanism; /* it is a hard link, and says which process owns it */

#endif
