/* What macOS offers beyond POSIX. */
#include "platform/system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/param.h>
#include <sys/sysctl.h>
#include <unistd.h>

/* ---- This kernel, and its file systems ---- */

int
system_boot(char *identity, size_t size)
{
    size_t length = size;
    return sysctlbyname("kern.bootsessionuuid", identity, &length, NULL, 0) == 0 ? 0 : errno;
}

bool
system_random(uint64_t *number)
{
    arc4random_buf(number, sizeof *number);
    return true;
}

/* What is local, and not served by a program. */
static bool
is_kernels_own(const char *type)
{
    static const char *const types[] = {"apfs", "hfs", "exfat", "msdos", "tmpfs"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(type, types[i]) == 0) {
            return true;
        }
    }
    return false;
}

int
system_reach(int directory, uint64_t device, enum os_reach *reach)
{
    struct statfs found;
    (void)device;
    if (fstatfs(directory, &found) != 0) {
        return errno;
    }
    bool local = (found.f_flags & MNT_LOCAL) != 0 && is_kernels_own(found.f_fstypename);
    *reach = local ? OS_KERNEL : OS_ANYBODY;
    return 0;
}

/* ---- Names ---- */

int
system_identify(int directory, const char *name, struct os_identity *identity)
{
    struct stat found;
    if (fstatat(directory, name, &found, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    identity->inode = (struct os_inode){(uint64_t)found.st_dev, (uint64_t)found.st_ino};
    identity->is_link = S_ISLNK(found.st_mode);
    identity->born =
        (int64_t)found.st_birthtimespec.tv_sec * OS_SECOND + found.st_birthtimespec.tv_nsec;
    return 0;
}

/* ENOTSUP: the file system cannot. */
int
system_rename(int directory, const char *from, const char *to)
{
    return renameatx_np(directory, from, directory, to, RENAME_EXCL) == 0 ? 0 : errno;
}

/* The sticky bit is not for files here. This flag is: backups by dump leave such a file out. */
const mode_t system_stamp_of_files = 0;

void
system_stamp(int descriptor)
{
    fchflags(descriptor, UF_NODUMP); /* refused, it is left for good when its owner is killed */
}

bool
system_is_stamped(const struct stat *found)
{
    return S_ISREG(found->st_mode) && (found->st_flags & UF_NODUMP) != 0;
}

/* ---- Locks of bytes ---- */

const bool os_locks_bytes = true;
const bool system_locks_are_apart = false;

static int
range_command(int descriptor, int command, struct flock *range)
{
    int result;
    do {
        result = fcntl(descriptor, command, range);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno == EACCES ? EWOULDBLOCK : errno;
}

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

int
system_find_locker(int descriptor, uint64_t first, uint64_t count)
{
    struct flock range = range_of(F_WRLCK, first, first + count);
    if (fcntl(descriptor, F_OFD_GETLK, &range) != 0 || range.l_type == F_UNLCK) {
        return 0;
    }
    return range.l_pid > 0 ? (int)range.l_pid : 0;
}
