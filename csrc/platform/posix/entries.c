/* Names in directories: nothing is opened for them. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int
os_resolve(const char *path, char resolved[OS_PATH_SIZE])
{
    return realpath(path, resolved) != NULL ? 0 : errno;
}

int
os_identify(const struct os_file *directory, const char *name, struct os_identity *identity)
{
    return system_identify(directory->descriptor, name, identity);
}

int
os_link(const struct os_file *directory, const char *existing, const char *name)
{
    int at = directory->descriptor;
    return linkat(at, existing, at, name, 0) == 0 ? 0 : errno;
}

int
os_rename(const struct os_file *directory, const char *from, const char *to)
{
    return system_rename(directory->descriptor, from, to);
}

int
os_move(const struct os_file *directory, const char *from, const char *to)
{
    return renameat(directory->descriptor, from, directory->descriptor, to) == 0 ? 0 : errno;
}

int
os_link_text(const struct os_file *directory, const char *text, const char *name)
{
    return symlinkat(text, directory->descriptor, name) == 0 ? 0 : errno;
}

int
os_read_link(const struct os_file *directory, const char *name, char *text, size_t size)
{
    ssize_t length = readlinkat(directory->descriptor, name, text, size);
    if (length < 0) {
        return errno;
    }
    if ((size_t)length == size) {
        return ENAMETOOLONG;
    }
    text[length] = '\0';
    return 0;
}

/* Users and modes tell, and the caller knows them. */
bool
os_may_unlink(const struct os_file *directory, const char *name)
{
    (void)directory;
    (void)name;
    return true;
}

int
os_unlink(const struct os_file *directory, const char *name)
{
    return unlinkat(directory->descriptor, name, 0) == 0 ? 0 : errno;
}

int
os_remove_directory(const struct os_file *directory, const char *name)
{
    return unlinkat(directory->descriptor, name, AT_REMOVEDIR) == 0 ? 0 : errno;
}
