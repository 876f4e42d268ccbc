/* What an error means. */
#undef _GNU_SOURCE /* strerror_r() is to be that of POSIX */
#define _XOPEN_SOURCE 700
#include "platform/os.h"

#include <errno.h>
#include <string.h>

/* Of an error that it does not know, the C library says that, too. */
const char *
os_message(int error, char *buffer, size_t size)
{
    buffer[0] = '\0';
    int unknown = strerror_r(error, buffer, size);
    return unknown == 0 || buffer[0] != '\0' ? buffer : "unknown error";
}

bool
os_is_refused(int error)
{
    return error == EWOULDBLOCK || error == EAGAIN;
}

bool
os_is_absent(int error)
{
    return error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG;
}

bool
os_is_forbidden(int error)
{
    return error == EACCES || error == EPERM;
}

bool
os_is_read_only(int error)
{
    return os_is_forbidden(error) || error == EROFS;
}

/* Also for a new name in a directory, which may have to grow. */
bool
os_is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

bool
os_is_exhausted(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO;
}

/* EMLINK: what some systems say for ELOOP here. */
bool
os_is_link(int error)
{
    return error == ELOOP || error == EMLINK;
}

bool
os_is_special(int error)
{
    return error == ENXIO || error == ENODEV;
}

/* EACCES: a policy of the system, since in this directory a file could be made. */
bool
os_link_is_unsupported(int error)
{
    return error == EPERM || error == EOPNOTSUPP || error == EMLINK || error == EXDEV ||
           error == ENOSYS || error == EACCES;
}

/* EXDEV: overlayfs does not rename a directory that lies in a lower layer, as one does that was
 * there when an image was made of it. */
bool
os_rename_is_unsupported(int error)
{
    return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == EXDEV;
}

bool
os_flock_is_unsupported(int error)
{
    return error == EOPNOTSUPP || error == ENOLCK || error == ENOSYS || error == EINVAL ||
           error == EBADF;
}
