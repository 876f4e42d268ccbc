/* A mount on which flock() is granted to everybody, as those of some virtual machines: to be
 * preloaded. LIAR_DEVICE: it is on a device, which no other machine has. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define FUSE 0x65735546

int
flock(int descriptor, int operation)
{
    (void)descriptor;
    (void)operation;
    return 0;
}

int
fstatfs(int descriptor, struct statfs *status)
{
    int (*real)(int, struct statfs *) = (int (*)(int, struct statfs *))dlsym(RTLD_NEXT, "fstatfs");
    int result = real(descriptor, status);
    status->f_type = FUSE;
    return result;
}

/* Of no device: its major number is 0. */
static int
seen(int result, struct stat *status)
{
    if (getenv("LIAR_DEVICE") == NULL) {
        status->st_dev &= 0xFF;
    }
    return result;
}

int
fstat(int descriptor, struct stat *status)
{
    int (*real)(int, struct stat *) = (int (*)(int, struct stat *))dlsym(RTLD_NEXT, "fstat");
    return seen(real(descriptor, status), status);
}

int
stat(const char *path, struct stat *status)
{
    int (*real)(const char *, struct stat *) =
        (int (*)(const char *, struct stat *))dlsym(RTLD_NEXT, "stat");
    return seen(real(path, status), status);
}

int
fstatat(int directory, const char *name, struct stat *status, int flags)
{
    int (*real)(int, const char *, struct stat *, int) =
        (int (*)(int, const char *, struct stat *, int))dlsym(RTLD_NEXT, "fstatat");
    return seen(real(directory, name, status, flags), status);
}
