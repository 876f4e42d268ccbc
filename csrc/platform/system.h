/* What a system has to offer beyond POSIX.1-2008: primitives on plain descriptors and names, which
 * stand on nothing of ours. The folder of the system has them, as linux/system.c; what watches
 * files stands on the register instead, and is apart from them: linux/watch.c. */
#ifndef LOCKFILE_SYSTEM_H
#define LOCKFILE_SYSTEM_H

/* Offsets and times have 64 bits on machines of 32, too, whoever compiles this: so it comes
 * before the headers of the C library. */
#if __SIZEOF_LONG__ < 8
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64
#endif

#include "platform/os.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

/* Where the system lists the descriptors that are open. */
#define SYSTEM_DESCRIPTORS "/dev/fd"

/* What tells an open file of ours from another one that got its number. */
int system_tag(int descriptor);
bool system_is_tagged(int descriptor);

/* A lock that a writer gets though there are always readers, where there is such a kind. In a
 * forked child, too, whoever held it in the parent. */
void system_make_fork_lock(pthread_rwlock_t *lock);

/* Pages of the kernel's, zeroed, which munmap() gives back. NULL: there are none. */
void *system_map_pages(size_t size);

/* As os_boot(), but a fork in between copies a descriptor. */
int system_boot(char *identity, size_t size);

/* Random enough to spread out names and pauses; false: not to be had. */
bool system_random(uint64_t *number);

/* The directory's device says whether the file system is on one of its own. */
int system_reach(int directory, uint64_t device, enum os_reach *reach);

/* The inode of that name, and when it was born or, where that is not kept, last modified. */
int system_identify(int directory, const char *name, struct os_identity *identity);

/* A regular file, which is made without being opened. */
int system_make_file(int directory, const char *name, unsigned mode);

/* Renames, but replaces nothing: EEXIST. Where it cannot promise that, EINVAL or ENOSYS. */
int system_rename(int directory, const char *from, const char *to);

/* Locks that go with the open file, not with the process, and never wait. Refused: EWOULDBLOCK.
 * system_find_lock() says so when another open file has one from one byte to another, and
 * where that begins. */
int system_flock(int descriptor, enum os_mode mode);
int system_lock_byte(int descriptor, uint64_t byte, enum os_mode mode);
int system_find_lock(int descriptor, uint64_t from, uint64_t to, uint64_t *found);

/* As os_find_locker(). */
int system_find_locker(int descriptor, uint64_t first, uint64_t count);

/* As os_wait(). The mask is the thread's while it sleeps, and from no earlier moment; NULL: the
 * one that it has. */
int system_wait(int descriptor, const struct timespec *limit, const sigset_t *mask);

#endif
