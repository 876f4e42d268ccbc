/* Locks of bytes, where there are none that go with the open file. Those that go with the process
 * are no stand-in: it loses them when any part of the program closes the file. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include <errno.h>

const bool os_locks_bytes = false;
const bool system_locks_are_apart = false;

int
system_lock_byte(int descriptor, uint64_t byte, enum os_mode mode)
{
    (void)descriptor;
    (void)byte;
    (void)mode;
    return ENOLCK;
}

int
system_find_lock(int descriptor, uint64_t from, uint64_t to, uint64_t *found)
{
    (void)descriptor;
    (void)to;
    *found = from;
    return ENOLCK;
}

int
system_find_locker(int descriptor, uint64_t first, uint64_t count)
{
    (void)descriptor;
    (void)first;
    (void)count;
    return 0;
}
