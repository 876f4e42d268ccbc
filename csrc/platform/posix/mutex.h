/* Within this folder: the process's one mutex. */
#ifndef LOCKFILE_POSIX_MUTEX_H
#define LOCKFILE_POSIX_MUTEX_H

/* Makes the mutex, and what waits for it; in a forked child anew, whoever held it. */
int posix_make_mutex(void);

/* Frees what os_free_later_locked() was given. */
void posix_free_now(void);

#endif
