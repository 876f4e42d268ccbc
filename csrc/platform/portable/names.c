/* Names, by POSIX alone. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include <errno.h>
#include <fcntl.h>

/* When a file was born, POSIX does not tell. */
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
    return 0;
}

/* POSIX has no rename that replaces nothing. */
int
system_rename(int directory, const char *from, const char *to)
{
    (void)directory;
    (void)from;
    (void)to;
    return ENOSYS;
}

/* The sticky bit, in the mode. */
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
