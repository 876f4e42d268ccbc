/* What a directory's file system can do, tried out by the calls that locks are made by.
 *
 * Whoever asks gives a directory of its own, in which nothing is: nothing is left there, unless
 * the file system fails. */
#ifndef LOCKFILE_PROBE_H
#define LOCKFILE_PROBE_H

#include "platform/os.h"

/* What must have been refused was done: so nobody is excluded by it. */
#define PROBE_LIES (-1)

struct probe {
    const char *name;
    int (*run)(const struct os_file *directory); /* 0, PROBE_LIES, or an errno value */
};

/* The last one has no name. */
extern const struct probe probes[];

#endif
