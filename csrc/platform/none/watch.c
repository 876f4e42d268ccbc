/* No watches: who waits looks again and again. */
#include "platform/os.h"

#include <errno.h>

int
os_watch_open(struct os_file *watch)
{
    (void)watch;
    return ENOSYS;
}

int
os_watch_add(const struct os_file *watch, const char *path, enum os_kind kind, int *watched)
{
    (void)watch;
    (void)path;
    (void)kind;
    (void)watched;
    return ENOSYS;
}

void
os_watch_owner(const struct os_file *watch, int process)
{
    (void)watch;
    (void)process;
}

const bool os_watch_wants_owner = false;

void
os_watch_remove(const struct os_file *watch, int *watched)
{
    (void)watch;
    *watched = -1;
}

bool
os_watch_read(const struct os_file *watch, int *watched)
{
    (void)watch;
    (void)watched;
    return false;
}

const bool os_watch_serves_many = false;

size_t
os_watch_events(const struct os_file *watch, struct os_event events[OS_EVENTS])
{
    (void)watch;
    (void)events;
    return 0;
}

void
os_watch_end(const struct os_file *watch, int *watched)
{
    (void)watch;
    *watched = -1;
}
