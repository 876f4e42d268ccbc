/* What paths, and the names of threads, are made of: nothing is asked of the system for it. */
#define _XOPEN_SOURCE 700
#include "platform/os.h"

#include <string.h>

/* A thread's identifier is an address, and not a low one. */
const uint64_t os_lowest_thread = 0x100000;

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
