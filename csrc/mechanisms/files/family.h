/* Those who keep a lock together: a process that owns it, and forked children. Whoever calls gives
 * the unique file a name of its own, one at a time. */
#ifndef LOCKFILE_FAMILY_H
#define LOCKFILE_FAMILY_H

#include "mechanisms/files/entry.h"
#include "mechanisms/files/place.h"

/* To be the only one that changes names and contents of a lock file that is a hard link. False:
 * another does just now, or the lock file is not the claim's any more. Where files cannot be
 * marked, there may be several. */
bool family_begin_naming(const struct files_claim *claim, struct os_file *turn);
void family_end_naming(struct os_file *turn);

/* Removes the names of our form that the inode has in its directory, beside the lock file's: all
 * but one. NULL: all. */
void family_remove_names(const struct os_file *directory, const char *file, struct os_inode inode,
                         const char *but, entry_remover *remove);

#endif
