/* What paths, and the names of threads, are made of: nothing is asked of the system for it. */
#define _XOPEN_SOURCE 700
#include "platform/os.h"

#include <string.h>

/* A thread's identifier is an address, and not a low one. */
const uint64_t os_lowest_thread = 0x100000;

const char os_separator = '/';

bool
os_is_separator(char character)
{
    return character == '/';
}

const char *
os_last_name(const char *path)
{
    const char *separator = strrchr(path, '/');
    return separator != NULL ? separator + 1 : path;
}

bool
os_is_absolute(const char *path)
{
    return path[0] == '/';
}

bool
os_same_name(const char *one, const char *other)
{
    return strcmp(one, other) == 0;
}

void
os_fold_name(char *name, size_t size)
{
    (void)name;
    (void)size;
}

bool
os_is_in(const char *path, const char *around)
{
    size_t length = strlen(around);
    char behind = strncmp(path, around, length) == 0 ? path[length] : 'x';
    return behind == '\0' || behind == '/';
}
