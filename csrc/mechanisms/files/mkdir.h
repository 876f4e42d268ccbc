/* What the making of a lock directory needs of its removal. */
#ifndef LOCKFILE_MKDIR_H
#define LOCKFILE_MKDIR_H

#include "platform/os.h"

/* Removes a lock directory with nothing of ours in it, if the name still stands for it. A network
 * client keeps what is open under another name, in the directory: for as long as others on this
 * machine look at it, that is, which is not long: EAGAIN. ENOENT: it is another's, or gone. */
int mkdir_remove_emptied(const struct os_file *directory, const char *file,
                         const struct os_file *inside);

#endif
