/* What a system has to offer beyond POSIX.1-2008: primitives on plain descriptors and names, which
 * stand on nothing of ours. The folder of the system has them, as linux/system.c; portable/ has
 * some that are made of what all systems have. What watches files stands on the register instead,
 * and is apart from them: linux/watch.c. */
#ifndef LOCKFILE_SYSTEM_H
#define LOCKFILE_SYSTEM_H

/* Offsets and times have 64 bits on machines of 32, too, whoever compiles this: so it comes
 * before the headers of the C library. */
#if __SIZEOF_LONG__ < 8
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64
#endif

/* Asked for POSIX alone, macOS withholds some of it. */
#ifdef __APPLE__
#define _DARWIN_C_SOURCE 1
#endif

#include "platform/os.h"

#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

/* Where the system lists the descriptors that are open, if it does: if what reads the list is in
 * it. */
#define SYSTEM_DESCRIPTORS "/dev/fd"

/* What tells an open file of ours from another one that got its number. */
int system_tag(int descriptor);
bool system_is_tagged(int descriptor);

/* The same for the descriptor of a watch, where that is no file. False: it is none. */
bool system_tag_watch(int descriptor);
bool system_is_tagged_watch(int descriptor);

/* A lock that a writer gets though there are always readers, where there is such a kind. In a
 * forked child, too, whoever held it in the parent. */
void system_make_fork_lock(pthread_rwlock_t *lock);

/* A condition, whose waits go by the clock of os_now(). It allocates nothing that a forked child
 * could not. */
int system_make_condition(pthread_cond_t *condition);
void system_await(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until);

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

/* The stamp on a file of ours: bits of its mode that it is made with, or what is set right after.
 */
extern const mode_t system_stamp_of_files;
void system_stamp(int descriptor);
bool system_is_stamped(const struct stat *found);

/* A regular file, which is made without being opened. */
int system_make_file(int directory, const char *name, unsigned mode);

/* Renames, but replaces nothing: EEXIST. Where it cannot promise that, EINVAL or ENOSYS. */
int system_rename(int directory, const char *from, const char *to);

/* Locks that go with the open file, not with the process, and never wait. Refused: EWOULDBLOCK.
 * system_find_lock() says so when another open file has one from one byte to another, and
 * where that begins; system_find_range() tells more of it. */
struct system_range {
    uint64_t from, to;
    bool is_mark; /* it is shared, and goes with an open file, as those of ours */
};
extern const bool system_locks_are_apart; /* do flock and locks of bytes not see each other? */
int system_flock(int descriptor, enum os_mode mode);
int system_lock_range(int descriptor, uint64_t from, uint64_t to, enum os_mode mode);
int system_find_range(int descriptor, uint64_t from, uint64_t to, struct system_range *found);
int system_lock_byte(int descriptor, uint64_t byte, enum os_mode mode);
int system_find_lock(int descriptor, uint64_t from, uint64_t to, uint64_t *found);

/* As os_find_locker(). */
int system_find_locker(int descriptor, uint64_t first, uint64_t count);

/* As os_wait(). The mask is the thread's while it sleeps, and from no earlier moment; NULL: the
 * one that it has. */
int system_wait(int descriptor, const struct timespec *limit, const sigset_t *mask);

#endif
