/* What an error means. */
#include "platform/os.h"

#include <errno.h>
#include <string.h>

/* Those for which the C library has a stranger name, or none. */
static const char *
own_message(int error)
{
    return error == EWOULDBLOCK  ? "another program has it open, or it is about to be removed"
           : error == EOPNOTSUPP ? "operation not supported"
                                 : NULL;
}

const char *
os_message(int error, char *buffer, size_t size)
{
    const char *own = own_message(error);
    if (own != NULL) {
        strncpy(buffer, own, size - 1);
        buffer[size - 1] = '\0';
    } else if (strerror_s(buffer, size, error) != 0) {
        buffer[0] = '\0';
    }
    return buffer[0] != '\0' ? buffer : "unknown error";
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

bool
os_is_full(int error)
{
    return error == ENOSPC;
}

bool
os_is_exhausted(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO;
}

bool
os_is_link(int error)
{
    return error == ELOOP;
}

bool
os_is_special(int error)
{
    return error == ENXIO || error == ENODEV;
}

bool
os_link_is_unsupported(int error)
{
    return error == EPERM || error == EMLINK || error == EXDEV || error == ENOSYS ||
           error == EINVAL || error == EACCES;
}

/* A rename that replaces nothing is what every file system has here. */
bool
os_rename_is_unsupported(int error)
{
    (void)error;
    return false;
}

bool
os_flock_is_unsupported(int error)
{
    return error == ENOLCK || error == ENOSYS || error == EINVAL || error == EBADF;
}
