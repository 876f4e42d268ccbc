/* Within this folder: times as POSIX takes them. */
#ifndef LOCKFILE_POSIX_TIMESPEC_H
#define LOCKFILE_POSIX_TIMESPEC_H

#include "platform/system.h"

#include <time.h>

static inline struct timespec
posix_timespec(int64_t nanoseconds)
{
    return (struct timespec){nanoseconds / OS_SECOND, nanoseconds % OS_SECOND};
}

#endif
