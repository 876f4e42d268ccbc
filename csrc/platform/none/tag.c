/* Where there are no watches, no descriptor is one. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

bool
system_tag_watch(int descriptor)
{
    (void)descriptor;
    return false;
}

bool
system_is_tagged_watch(int descriptor)
{
    (void)descriptor;
    return false;
}
