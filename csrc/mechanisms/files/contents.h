/* What a unique file holds, where it is not empty: a PID file's owner, or the lock file that is a
 * symbolic link to it. */
#ifndef LOCKFILE_CONTENTS_H
#define LOCKFILE_CONTENTS_H

#include "core/proof.h"

#define CONTENTS_SIZE 320

/* Who may do what with a PID file. */
#define CONTENTS_PROCESS_MODE 0644

/* What a PID file says. ENOENT: nothing. */
int contents_read_process(const struct os_file *file, int64_t *process);

/* This process. Written over another, at no moment it says anything but one of the two. */
int contents_write_process(const struct os_file *file);
int contents_replace_process(const struct os_file *file);

/* Does it hold nothing but what the process of that unique name has written, as its owner? */
bool contents_are_process(const struct os_file *file, const char *unique_name);

/* For which lock file a unique file was made. False: it does not say so. */
bool contents_read_lock_file(const struct os_file *file, char name[CONTENTS_SIZE]);
int contents_write_lock_file(const struct os_file *file, const char *name);

#endif
