/* What Linux tells of this kernel and of its file systems. */
#define _GNU_SOURCE
#include "platform/system.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

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
