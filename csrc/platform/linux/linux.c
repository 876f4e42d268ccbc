/* os.h, as far as Linux is different. */
#define _GNU_SOURCE
#include "platform/posix/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
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

/* ---- This kernel, and its file systems ---- */

int
os_boot(char *identity, size_t size)
{
    posix_hold_off_forks();
    int descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor >= 0 ? read(descriptor, identity, size - 1) : -1;
    int error = length < 0 ? errno : length < 32 ? EINVAL : 0;
    if (descriptor >= 0) {
        close(descriptor);
    }
    posix_allow_forks();
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
os_reach(const struct os_file *directory, enum os_reach *reach)
{
    struct statfs found;
    if (fstatfs(directory->descriptor, &found) != 0) {
        return errno;
    }
    uint32_t type = (uint32_t)found.f_type;
    /* What FUSE serves from a block device (ntfs-3g) has that one's number; all else of it, none.
     */
    bool has_device = major((dev_t)directory->inode.device) != 0;
    *reach = is_kernels_own(type)         ? OS_KERNEL
             : type == FUSE && has_device ? OS_MACHINE
                                          : OS_ANYBODY;
    return 0;
}

int
system_rename(int directory, const char *from, const char *to)
{
    return renameat2(directory, from, directory, to, RENAME_NOREPLACE) == 0 ? 0 : errno;
}

void
system_find_birth(int directory, const char *name, struct os_identity *identity)
{
    struct statx found;
    if (statx(directory, name, AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_INO, &found) == 0 &&
        (found.stx_mask & STATX_BTIME) != 0 && found.stx_ino == identity->inode.number) {
        identity->born = found.stx_btime.tv_sec * OS_SECOND + found.stx_btime.tv_nsec;
    }
}

/* ---- Byte locks, and marks ---- */

/* A mark's byte would be cut down to one of the user's. */
_Static_assert(sizeof(off_t) == 8, "offsets of 64 bits, on machines of 32, too");

/* Open-file-description locks: they go with the open file, not with the process. */
static int
range_command(const struct os_file *file, int command, struct flock *range)
{
    int result;
    do {
        result = fcntl(file->descriptor, command, range);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
        return errno == EACCES ? EWOULDBLOCK : errno;
    }
    return command == F_OFD_GETLK && range->l_type != F_UNLCK ? EWOULDBLOCK : 0;
}

static struct flock
bytes(short type, uint64_t from, uint64_t to)
{
    return (struct flock){
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)from,
        .l_len = (off_t)(to - from),
    };
}

static int
byte_command(const struct os_file *file, int command, short type, uint64_t byte)
{
    struct flock range = bytes(type, byte, byte + 1);
    return range_command(file, command, &range);
}

int
os_lock_byte(const struct os_file *file, uint64_t byte, enum os_mode mode)
{
    static const short types[] = {
        [OS_UNLOCK] = F_UNLCK, [OS_SHARED] = F_RDLCK, [OS_EXCLUSIVE] = F_WRLCK};
    return byte_command(file, F_OFD_SETLK, types[mode], byte);
}

int
os_find_lock(const struct os_file *file, uint64_t byte)
{
    return byte_command(file, F_OFD_GETLK, F_WRLCK, byte);
}

/* Asked as by another open file, so that this process's own are seen, too. */
int
os_find_locker(const struct os_file *file, uint64_t first, uint64_t count)
{
    struct flock range = {
        .l_type = F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = (off_t)first,
        .l_len = (off_t)count,
    };
    if (fcntl(file->descriptor, F_OFD_GETLK, &range) != 0 || range.l_type == F_UNLCK) {
        return 0;
    }
    return range.l_pid > 0 ? (int)range.l_pid : 0;
}

/* Far behind anything that a user writes into a lock file. Shared locks, since
 * exclusive ones need a file open for writing. */
static uint64_t
mark_byte(enum os_mark mark)
{
    return (UINT64_C(1) << 61) + (uint64_t)mark;
}

int
os_mark(const struct os_file *file, enum os_mark mark)
{
    return os_lock_byte(file, mark_byte(mark), OS_SHARED);
}

void
os_unmark(const struct os_file *file, enum os_mark mark)
{
    os_lock_byte(file, mark_byte(mark), OS_UNLOCK);
}

int
os_find_mark(const struct os_file *file, enum os_mark mark)
{
    return os_find_lock(file, mark_byte(mark));
}

/* ---- Queues ---- */

#define QUEUE_UNIT 1000 /* nanoseconds: a queue is as long as a year */

static uint64_t
place_in(uint64_t queue, int64_t since)
{
    return queue + (uint64_t)since / QUEUE_UNIT % OS_QUEUE_SIZE;
}

void
os_queue_up(const struct os_file *file, uint64_t queue, int64_t since)
{
    os_lock_byte(file, place_in(queue, since),
                 OS_SHARED); /* refused, it costs time, not the lock */
}

/* Any one of those between. */
static bool
find_between(const struct os_file *file, uint64_t from, uint64_t to, uint64_t *found)
{
    struct flock range = bytes(F_WRLCK, from, to);
    if (from >= to || range_command(file, F_OFD_GETLK, &range) != EWOULDBLOCK) {
        return false;
    }
    *found = (uint64_t)range.l_start;
    return true;
}

/* At most as deep as there are to be counted. */
static unsigned
count_between(const struct os_file *file, uint64_t from, uint64_t to, unsigned most)
{
    uint64_t found;
    if (most == 0 || !find_between(file, from, to, &found)) {
        return 0;
    }
    unsigned count = 1 + count_between(file, from, found, most - 1);
    return count + count_between(file, found + 1, to, most - count);
}

unsigned
os_count_elders(const struct os_file *file, uint64_t queue, int64_t since, unsigned most)
{
    return count_between(file, queue, place_in(queue, since), most);
}

bool
os_has_waiters(const struct os_file *file, uint64_t queue)
{
    uint64_t found;
    return find_between(file, queue, queue + OS_QUEUE_SIZE, &found);
}

/* ---- Watches ---- */

#define LARGEST_EVENT (sizeof(struct inotify_event) + NAME_MAX + 1)

static int highest_watch = -1; /* guarded by os_lock() */

int
system_highest_watch(void)
{
    os_lock();
    int highest = highest_watch;
    os_unlock();
    return highest;
}

int
os_watch_open(struct os_file *watch)
{
    int error = 0;
    posix_hold_off_forks();
    int descriptor = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (descriptor < 0) {
        error = errno;
    } else if ((error = posix_enter(descriptor, watch)) != 0) {
        close(descriptor);
    } else {
        os_lock();
        highest_watch = descriptor > highest_watch ? descriptor : highest_watch;
        os_unlock();
    }
    posix_allow_forks();
    return error;
}

int
os_watch_add(const struct os_file *watch, const char *path, enum os_kind kind, int *watched)
{
    uint32_t events = IN_ATTRIB | IN_DELETE_SELF | IN_CLOSE_WRITE | IN_DONT_FOLLOW;
    /* Not the move that frees a lock directory: the kernel still holds the directory around
     * it then, in which all who wake up would queue. What is in it is removed next. */
    events |= kind == OS_DIRECTORY ? IN_DELETE : IN_MOVE_SELF;
    int number = inotify_add_watch(watch->descriptor, path, events);
    if (number < 0) {
        return errno;
    }
    *watched = number;
    return 0;
}

void
os_watch_remove(const struct os_file *watch, int *watched)
{
    if (*watched >= 0 && os_is_open(watch)) {
        /* Fails when the inode is gone, and the watch with it. */
        inotify_rm_watch(watch->descriptor, *watched);
        os_watch_read(watch, watched);
    }
    *watched = -1;
}

bool
os_watch_read(const struct os_file *watch, int *watched)
{
    _Alignas(struct inotify_event) char buffer[4096];
    bool closed = false;
    ssize_t length = sizeof buffer;
    /* Where one more event had room, there was none. */
    while (length > (ssize_t)(sizeof buffer - LARGEST_EVENT)) {
        length = read(watch->descriptor, buffer, sizeof buffer);
        for (char *next = buffer; next < buffer + length;) {
            const struct inotify_event *event = (const struct inotify_event *)next;
            /* Events of an earlier wait may still be queued: theirs is another number. */
            bool ours = event->wd == *watched;
            closed = closed || (ours && (event->mask & IN_CLOSE_WRITE) != 0);
            *watched = ours && (event->mask & IN_IGNORED) != 0 ? -1 : *watched;
            next += sizeof *event + event->len;
        }
    }
    return closed;
}
