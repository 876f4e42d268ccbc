/* Within this folder: what the process has one of. */
#ifndef LOCKFILE_POSIX_PROCESS_H
#define LOCKFILE_POSIX_PROCESS_H

#include "platform/system.h"

static inline struct timespec
posix_timespec(int64_t nanoseconds)
{
    return (struct timespec){nanoseconds / OS_SECOND, nanoseconds % OS_SECOND};
}

/* Makes the mutex, and what waits for it; in a forked child anew, whoever held it. */
int posix_make_mutex(void);

/* Frees what os_free_later_locked() was given. */
void posix_free_now(void);

/* Notes the number of this process. */
void posix_begin_process(void);
void posix_begin_child(void);

#endif
