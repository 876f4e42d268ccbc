/* What Linux offers beyond POSIX, with glibc or musl. */
#define _GNU_SOURCE
#include "platform/system.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h> /* where glibc has renameat2() */
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Calls of the kernel that musl has not, or not for long: there they are made by number, so
 * that what is compiled with a new one runs with an old one ---- */

#if defined(__GLIBC__) && defined(RENAME_NOREPLACE)
#define rename_by_flags renameat2
#else
#undef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1

static int
rename_by_flags(int from_directory, const char *from, int directory, const char *to, unsigned flags)
{
    return (int)syscall(SYS_renameat2, from_directory, from, directory, to, flags);
}
#endif

#if defined(__GLIBC__) && defined(STATX_BTIME)
#define extended_status statx
#else
#undef STATX_INO
#undef STATX_BTIME
#define STATX_INO 0x100U
#define STATX_BTIME 0x800U

struct extended_status {
    uint32_t stx_mask;
    uint32_t before_inode[7];
    uint64_t stx_ino;
    uint64_t before_birth[5];
    struct {
        int64_t tv_sec;
        uint32_t tv_nsec;
        int32_t spare;
    } stx_btime;
    uint64_t behind_birth[20];
};

_Static_assert(offsetof(struct extended_status, stx_ino) == 32 &&
                   offsetof(struct extended_status, stx_btime) == 80 &&
                   sizeof(struct extended_status) == 256,
               "as the kernel fills it in");

static int
extended_status(int directory, const char *name, int flags, unsigned mask,
                struct extended_status *found)
{
    return (int)syscall(SYS_statx, directory, name, flags, mask, found);
}
#endif

/* ---- Tags ---- */

/* The signal that our open files would send, if they sent any. It stays with the
 * open file, so a number that was closed and opened again does not have it. Not one of the
 * highest: what emulates another processor has those for itself. */
#define TAG 40

int
system_tag(int descriptor)
{
    return fcntl(descriptor, F_SETSIG, TAG) == 0 ? 0 : errno;
}

bool
system_is_tagged(int descriptor)
{
    return fcntl(descriptor, F_GETSIG) == TAG;
}

/* ---- Forks ---- */

void
system_make_fork_lock(pthread_rwlock_t *lock)
{
#ifdef PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
    *lock = (pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
#else
    *lock = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER; /* musl's only kind */
#endif
}

void *
system_map_pages(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages != MAP_FAILED ? pages : NULL;
}

/* ---- Names ---- */

static void
replace_by_birth(int directory, const char *name, struct os_identity *identity)
{
    struct extended_status found;
    if (extended_status(directory, name, AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_INO, &found) ==
            0 &&
        (found.stx_mask & STATX_BTIME) != 0 && found.stx_ino == identity->inode.number) {
        identity->born = found.stx_btime.tv_sec * OS_SECOND + found.stx_btime.tv_nsec;
    }
}

int
system_identify(int directory, const char *name, struct os_identity *identity)
{
    struct stat found;
    if (fstatat(directory, name, &found, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    identity->inode = (struct os_inode){(uint64_t)found.st_dev, (uint64_t)found.st_ino};
    identity->is_link = S_ISLNK(found.st_mode);
    identity->born = (int64_t)found.st_mtim.tv_sec * OS_SECOND + found.st_mtim.tv_nsec;
    replace_by_birth(directory, name, identity);
    return 0;
}

int
system_make_file(int directory, const char *name, unsigned mode)
{
    return mknodat(directory, name, S_IFREG | (mode_t)mode, 0) == 0 ? 0 : errno;
}

int
system_rename(int directory, const char *from, const char *to)
{
    return rename_by_flags(directory, from, directory, to, RENAME_NOREPLACE) == 0 ? 0 : errno;
}

/* It is in the mode. */
const mode_t system_stamp_of_files = S_ISVTX;

void
system_stamp(int descriptor)
{
    (void)descriptor;
}

bool
system_is_stamped(const struct stat *found)
{
    (void)found;
    return false;
}

/* ---- Locks ---- */

/* The kernel takes the former lock away and gives the new one, or refuses it, at one go. */
const bool os_can_share = true;
const bool os_can_share_directories = true;
const bool os_unshares_in_two_steps = false;
const bool os_locks_bytes = true;
const bool system_locks_are_apart = true;

int
system_flock(int descriptor, enum os_mode mode)
{
    static const int operations[] = {
        [OS_UNLOCK] = LOCK_UN, [OS_SHARED] = LOCK_SH | LOCK_NB, [OS_EXCLUSIVE] = LOCK_EX | LOCK_NB};
    int result;
    do {
        result = flock(descriptor, operations[mode]);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

/* The bytes of a mark would be cut down to some of the user's. */
_Static_assert(sizeof(off_t) == 8, "offsets of 64 bits, on machines of 32, too");

static struct flock
range_of(short type, uint64_t from, uint64_t to)
{
    return (struct flock){
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)from,
        .l_len = (off_t)(to - from),
    };
}

/* Open-file-description locks: they go with the open file, not with the process. */
static int
range_command(int descriptor, int command, struct flock *range)
{
    int result;
    do {
        result = fcntl(descriptor, command, range);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno == EACCES ? EWOULDBLOCK : errno;
}

int
system_lock_range(int descriptor, uint64_t from, uint64_t to, enum os_mode mode)
{
    static const short types[] = {
        [OS_UNLOCK] = F_UNLCK, [OS_SHARED] = F_RDLCK, [OS_EXCLUSIVE] = F_WRLCK};
    struct flock range = range_of(types[mode], from, to);
    return range_command(descriptor, F_OFD_SETLK, &range);
}

int
system_lock_byte(int descriptor, uint64_t byte, enum os_mode mode)
{
    return system_lock_range(descriptor, byte, byte + 1, mode);
}

int
system_find_range(int descriptor, uint64_t from, uint64_t to, struct system_range *found)
{
    struct flock range = range_of(F_WRLCK, from, to);
    int error = range_command(descriptor, F_OFD_GETLK, &range);
    *found = (struct system_range){.from = from, .to = to};
    if (error == 0 && range.l_type != F_UNLCK) {
        found->from = (uint64_t)range.l_start;
        found->to = range.l_len != 0 ? found->from + (uint64_t)range.l_len : INT64_MAX;
        found->is_mark = range.l_type == F_RDLCK && range.l_pid < 0; /* of no process */
        error = EWOULDBLOCK;
    }
    return error;
}

int
system_find_lock(int descriptor, uint64_t from, uint64_t to, uint64_t *found)
{
    struct system_range range;
    int error = system_find_range(descriptor, from, to, &range);
    *found = range.from;
    return error;
}

/* Asked as by another open file, so that this process's own are seen, too. */
int
system_find_locker(int descriptor, uint64_t first, uint64_t count)
{
    struct flock range = range_of(F_WRLCK, first, first + count);
    if (fcntl(descriptor, F_OFD_GETLK, &range) != 0 || range.l_type == F_UNLCK) {
        return 0;
    }
    return range.l_pid > 0 ? (int)range.l_pid : 0;
}

/* ---- Sleep ---- */

int
system_wait(int descriptor, const struct timespec *limit, const sigset_t *mask)
{
    struct pollfd polled = {.fd = descriptor, .events = POLLIN};
    int ready = ppoll(&polled, 1, limit, mask);
    return ready < 0 ? errno : ready == 0 ? ETIMEDOUT : 0;
}
