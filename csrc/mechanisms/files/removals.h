/* Removals and break_lock() keep off each other.
 *
 * Each checks what it removes, and then removes it by its name. Such a check and the removal
 * behind it are two system calls. Between them
 *   - the owner's own release and a stale break are kept off by the beacon, which
 *     only one of them can hold;
 *   - break_lock(), which removes live locks, excludes all others; for a moment, so who is refused
 *     may be patient.
 *
 * EWOULDBLOCK: refused; what has not begun is not ended. local: whether the file system is. */
#ifndef LOCKFILE_REMOVALS_H
#define LOCKFILE_REMOVALS_H

#include "platform/os.h"

int removals_begin(const struct os_file *directory, bool local);
void removals_end(const struct os_file *directory, bool local);

/* Keeps off new ones; marked: those that have begun can be seen, and are to be waited for, */
int removals_exclude(const struct os_file *directory, bool local, bool *marked);
void removals_admit(const struct os_file *directory, bool local);
int removals_find(const struct os_file *directory); /* EWOULDBLOCK: there is one */

/* but no longer than this: the process that is at it may be stopped, and the others must not wait
 * for that. */
#define REMOVALS_TIME (20 * OS_MILLISECOND)

#endif
