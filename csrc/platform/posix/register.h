/* The register of descriptors, for whatever makes some of ours. */
#ifndef LOCKFILE_POSIX_REGISTER_H
#define LOCKFILE_POSIX_REGISTER_H

#include "platform/system.h"

/* Tags and enters a descriptor just made, while forks are held off; the inode is the caller's to
 * fill in. */
int posix_enter(int descriptor, struct os_file *file);

/* The same for one that a dying process takes long to close. */
int posix_enter_slow_to_close(int descriptor, struct os_file *file);

/* For what a dying process must close first: returns the descriptor, or in its place one above
 * all that are slow to close; for what stays open for long, above those to come, too. Before it
 * is entered. */
int posix_move_to_close_first(int descriptor, bool stays);

/* Takes it off the register. False: the number has another meaning by now. */
bool posix_forget(const struct os_file *file);

/* In a forked child: closes its copies, but for those that it keeps, and does no more, since what
 * they stand for is the parent's, too. That unlocks nothing. */
void posix_close_copies(void);

#endif
