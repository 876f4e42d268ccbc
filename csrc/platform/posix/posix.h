/* Between os_posix.c, which holds what all POSIX systems have, and the one file
 * that knows this system: os_linux.c. */
#ifndef LOCKFILE_OS_POSIX_H
#define LOCKFILE_OS_POSIX_H

/* Offsets and times have 64 bits on machines of 32, too, whoever compiles this: so it comes
 * before the headers of the C library. */
#if __SIZEOF_LONG__ < 8
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64
#endif

#include "platform/os.h"

/* Where the system lists the descriptors that are open. */
#define SYSTEM_DESCRIPTORS "/dev/fd"

/* Forks are held off between making a descriptor and its entry in the register. */
void posix_hold_off_forks(void);
void posix_allow_forks(void);

/* Tags and enters a descriptor just made, while forks are held off; the inode is
 * the caller's to fill in. */
int posix_enter(int descriptor, struct os_file *file);

/* What tells an open file of ours from another one that got its number. */
int system_tag(int descriptor);
bool system_is_tagged(int descriptor);

/* The highest number that a watch ever had; -1: none. */
int system_highest_watch(void);

/* Replaces the time in identity, which is that of the last modification, by the
 * time of birth where that is kept. */
void system_find_birth(int directory, const char *name, struct os_identity *identity);

/* Renames, but replaces nothing: EEXIST. Where it cannot promise that, EINVAL or ENOSYS. */
int system_rename(int directory, const char *from, const char *to);

/* Random enough to spread out names and pauses; false: not to be had. */
bool system_random(uint64_t *number);

#endif
