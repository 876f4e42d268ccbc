/* Marks of readers, where there are none. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include <errno.h>

const bool os_can_share = false;
const bool os_can_share_directories = false;
const bool os_unshares_in_two_steps = false;

int
system_lock_range(int descriptor, uint64_t from, uint64_t to, enum os_mode mode)
{
    (void)descriptor;
    (void)from;
    (void)to;
    (void)mode;
    return ENOLCK;
}

int
system_find_range(int descriptor, uint64_t from, uint64_t to, struct system_range *found)
{
    (void)descriptor;
    *found = (struct system_range){.from = from, .to = to};
    return ENOLCK;
}
