/* What tells a kqueue of ours from another: an event that only we have in it, and that never
 * comes. */
#include "platform/system.h"

#include <sys/types.h>

#include <sys/event.h>

#define TAG 0x6C6F636B

static bool
change(int descriptor, unsigned flags)
{
    struct kevent event;
    EV_SET(&event, TAG, EVFILT_USER, (uint16_t)flags, 0, 0, NULL);
    return kevent(descriptor, &event, 1, NULL, 0, NULL) == 0;
}

bool
system_tag_watch(int descriptor)
{
    return change(descriptor, EV_ADD);
}

/* Only what is there can be changed. */
bool
system_is_tagged_watch(int descriptor)
{
    return change(descriptor, EV_ENABLE);
}
