/* What FreeBSD and NetBSD offer beyond POSIX. */
#include "platform/system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/sysctl.h>
#include <unistd.h>

#ifdef __NetBSD__
#include <sys/statvfs.h>
#define status_of_mount statvfs
#define fstatus_of_mount fstatvfs
#define FLAGS f_flag
#define IS_LOCAL ST_LOCAL
#else
#include <sys/mount.h>
#define status_of_mount statfs
#define fstatus_of_mount fstatfs
#define FLAGS f_flags
#define IS_LOCAL MNT_LOCAL
#endif

/* ---- This kernel, and its file systems ---- */

/* FreeBSD has such a number since its version 14. Where there is none, no owner on a file system
 * of others' is ever proven dead. When the machine was started, is no such thing: that changes
 * with the clock. */
int
system_boot(char *identity, size_t size)
{
    unsigned char number[16];
    size_t length = sizeof number;
    if (size < 2 * sizeof number + 1) {
        return EINVAL;
    }
    if (sysctlbyname("kern.boot_id", number, &length, NULL, 0) != 0) {
        return errno;
    }
    for (size_t i = 0; i < length; i++) {
        snprintf(identity + 2 * i, 3, "%02x", number[i]);
    }
    return length == sizeof number ? 0 : EINVAL;
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
    static const char *const types[] = {"ufs", "ffs", "zfs", "tmpfs", "ext2fs", "msdosfs", "msdos"};
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
    struct status_of_mount found;
    (void)device;
    if (fstatus_of_mount(directory, &found) != 0) {
        return errno;
    }
    bool local = (found.FLAGS & IS_LOCAL) != 0 && is_kernels_own(found.f_fstypename);
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
    identity->born = (int64_t)found.st_birthtim.tv_sec * OS_SECOND + found.st_birthtim.tv_nsec;
    return 0;
}

/* There is no rename that replaces nothing. */
int
system_rename(int directory, const char *from, const char *to)
{
    (void)directory;
    (void)from;
    (void)to;
    return ENOSYS;
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
