/* os.h, as far as Linux is different. */
#define _GNU_SOURCE
#include "os_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

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
is_local_type(uint32_t type)
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
        return true;
    }
    return false;
}

int
os_is_local(const struct os_file *directory, bool *local)
{
    struct statfs found;
    if (fstatfs(directory->descriptor, &found) != 0) {
        return errno;
    }
    *local = is_local_type((uint32_t)found.f_type);
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

/* Open-file-description locks: they go with the open file, not with the process. */
static int
byte_command(const struct os_file *file, int command, short type, uint64_t byte)
{
    struct flock range = {
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)byte,
        .l_len = 1,
    };
    int result;
    do {
        result = fcntl(file->descriptor, command, &range);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
        return errno == EACCES ? EWOULDBLOCK : errno;
    }
    return command == F_OFD_GETLK && range.l_type != F_UNLCK ? EWOULDBLOCK : 0;
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
}

bool
os_watch_read(const struct os_file *watch, int *watched)
{
    _Alignas(struct inotify_event) char buffer[4096];
    bool closed = false;
    ssize_t length = sizeof buffer;
    /* Where one more event had room, there was none. Closed behind our back: what the
     * number may stand for now is not ours to read. */
    while (length > (ssize_t)(sizeof buffer - LARGEST_EVENT) && os_is_open(watch)) {
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
