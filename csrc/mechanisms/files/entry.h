/* Entries of a directory: a name, and the inode that it should stand for.
 *
 * Whatever is removed is first compared, name against inode, with what is meant: directories are
 * renamed, locks are broken and claimed again, and names alone would then hit somebody else's lock.
 */
#ifndef LOCKFILE_ENTRY_H
#define LOCKFILE_ENTRY_H

#include "platform/os.h"

/* Does name still stand for inode? 0, ENOENT if not, or what kept us from seeing. */
int entry_check(const struct os_file *directory, const char *name, struct os_inode inode);

/* The same, where others than this machine may have changed it: by opening it, since a
 * network file system may answer a check from what it remembers, but not an open. What it
 * remembers may even have had our number: those of removed files are given out again. */
int entry_check_afresh(const struct os_file *directory, const char *name, struct os_inode inode,
                       bool local);

/* Removes it, if it is that inode; else ENOENT. */
typedef int entry_remover(const struct os_file *directory, const char *name, struct os_inode inode);
entry_remover entry_remove;

/* The same for a dead owner's. Its unique file may hold what it wrote into the lock
 * file, but nobody else could have written it: a file that others may write, they
 * may also have linked to where a lock file goes, for us to remove. */
entry_remover entry_remove_dead;

#endif
