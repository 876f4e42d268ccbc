/* A lock file that is a symbolic link: the unique file that it leads to stands for it. */
#ifndef LOCKFILE_TARGET_H
#define LOCKFILE_TARGET_H

#include "core/proof.h"

/* The unique name that a lock file leads to. ELOOP: it is a symbolic link of another kind; ENOENT:
 * it is not there; EINVAL: it is no link. */
int target_read(const struct os_file *directory, const char *file, char unique_name[NAME_SIZE]);

/* Opens the unique file that a lock file leads to. ELOOP: it is none; ENOENT: it is not there. */
int target_open(const struct os_file *directory, const char *file, struct os_file *found,
                struct os_status *status, char unique_name[NAME_SIZE]);

/* Does it still lead to that unique name, and is that this inode? 0, ENOENT if not, or what kept us
 * from seeing. */
int target_check(const struct os_file *directory, const char *file, struct os_inode inode,
                 const char *unique_name, bool local);

#endif
