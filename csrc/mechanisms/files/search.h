/* What the names in a directory say. */
#ifndef LOCKFILE_SEARCH_H
#define LOCKFILE_SEARCH_H

#include "core/proof.h"

/* The unique name of a lock file's inode; ENOENT: it has none of our form. The lock file's own name
 * says nothing, though its user may have given it that form. Of several the one of that process,
 * if there is one. */
int search_unique_name(const struct os_file *directory, const char *lock_file,
                       struct os_inode inode, int64_t process, char name[NAME_SIZE]);
#define SEARCH_ANY_PROCESS (-1)

/* Any other name of its inode in the directory, for one that was chosen; ENOENT: none. */
int search_other_name(const struct os_file *directory, const char *lock_file, struct os_inode inode,
                      char name[NAME_SIZE]);

/* The one name in a lock directory; ENOENT: it is empty; ENOTEMPTY: there are more. */
int search_inside(const struct os_file *directory, char name[NAME_SIZE]);

#endif
