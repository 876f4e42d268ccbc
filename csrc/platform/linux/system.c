/* What Linux offers beyond POSIX, with glibc or musl. */
#define _GNU_SOURCE
#include "platform/system.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h> /* where glibc has renameat2() */
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* ---- Calls of the kernel that musl has not, or not for long ---- */

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1

static int
renameat2(int from_directory, const char *from, int directory, const char *to, unsigned flags)
{
    return (int)syscall(SYS_renameat2, from_directory, from, directory, to, flags);
}
#endif

#ifndef STATX_BTIME
#define STATX_INO 0x100U
#define STATX_BTIME 0x800U

struct statx {
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

_Static_assert(offsetof(struct statx, stx_ino) == 32 && offsetof(struct statx, stx_btime) == 80 &&
                   sizeof(struct statx) == 256,
               "as the kernel fills it in");

static int
statx(int directory, const char *name, int flags, unsigned mask, struct statx *found)
{
    return (int)syscall(SYS_statx, directory, name, flags, mask, found);
}
#endif

/* ---- Tags ---- */

/* The signal that our open files would send, if they sent any. It stays with the
 * open file, so a number that was closed and opened again does not have it. */
#define TAG 63

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

/* ---- This kernel, and its file systems ---- */

int
system_boot(char *identity, size_t size)
{
    int descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor >= 0 ? read(descriptor, identity, size - 1) : -1;
    int error = length < 0 ? errno : length < 32 ? EINVAL : 0;
    if (descriptor >= 0) {
        close(descriptor);
    }
    if (error == 0) {
        identity[length] = '\0';
    }
    return error;
}

bool
system_random(uint64_t *number)
{
    return getrandom(number, sizeof *number, GRND_NONBLOCK) == (ssize_t)sizeof *number;
}

static bool
is_kernels_own(uint32_t type)
{
    switch (type) {
    case 0x0000EF53: /* ext2, ext3, ext4 */
    case 0x58465342: /* xfs */
    case 0x9123683E: /* btrfs */
    case 0x01021994: /* tmpfs */
    case 0x858458F6: /* ramfs */
    case 0x794C7630: /* overlayfs: containers live on it */
    case 0xF2F52010: /* f2fs */
    case 0x2FC12FC1: /* zfs */
    case 0xCA451A4E: /* bcachefs */
    case 0x3153464A: /* jfs */
    case 0x00003434: /* nilfs2 */
    case 0x52654973: /* reiserfs */
    case 0x24051905: /* ubifs */
    case 0x00004D44: /* vfat */
    case 0x2011BAB0: /* exfat */
    case 0x7366746E: /* ntfs3 */
    case 0x0000482B: /* hfsplus */
    case 0x15013346: /* udf */
        return true;
    }
    return false;
}

#define FUSE 0x65735546

int
system_reach(int directory, uint64_t device, enum os_reach *reach)
{
    struct statfs found;
    if (fstatfs(directory, &found) != 0) {
        return errno;
    }
    uint32_t type = (uint32_t)found.f_type;
    /* What FUSE serves from a block device, as ntfs-3g does, has that one's number; all else of
     * it, none. */
    bool has_device = major((dev_t)device) != 0;
    *reach = is_kernels_own(type)         ? OS_KERNEL
             : type == FUSE && has_device ? OS_MACHINE
                                          : OS_ANYBODY;
    return 0;
}

/* ---- Names ---- */

static void
replace_by_birth(int directory, const char *name, struct os_identity *identity)
{
    struct statx found;
    if (statx(directory, name, AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_INO, &found) == 0 &&
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
    return renameat2(directory, from, directory, to, RENAME_NOREPLACE) == 0 ? 0 : errno;
}

/* ---- Locks ---- */

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
system_lock_byte(int descriptor, uint64_t byte, enum os_mode mode)
{
    static const short types[] = {
        [OS_UNLOCK] = F_UNLCK, [OS_SHARED] = F_RDLCK, [OS_EXCLUSIVE] = F_WRLCK};
    struct flock range = range_of(types[mode], byte, byte + 1);
    return range_command(descriptor, F_OFD_SETLK, &range);
}

int
system_find_lock(int descriptor, uint64_t from, uint64_t to, uint64_t *found)
{
    struct flock range = range_of(F_WRLCK, from, to);
    int error = range_command(descriptor, F_OFD_GETLK, &range);
    *found = from;
    if (error == 0 && range.l_type != F_UNLCK) {
        *found = (uint64_t)range.l_start;
        error = EWOULDBLOCK;
    }
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
