/* Watches, by inotify. */
#define _GNU_SOURCE
#include "platform/system.h"

#include "platform/posix/forks.h"
#include "platform/posix/register.h"

#include <errno.h>
#include <limits.h>
#include <sys/inotify.h>
#include <unistd.h>

#define LARGEST_EVENT (sizeof(struct inotify_event) + NAME_MAX + 1)

/* A dying process is done with a watch only after 10 to 35 ms. */
int
os_watch_open(struct os_file *watch)
{
    posix_hold_off_forks();
    int descriptor = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    int error = descriptor < 0 ? errno : posix_enter_slow_to_close(descriptor, watch);
    if (error != 0 && descriptor >= 0) {
        close(descriptor);
    }
    posix_allow_forks();
    return error;
}

int
os_watch_add(const struct os_file *watch, const char *path, enum os_kind kind, int *watched)
{
    uint32_t events = IN_ATTRIB | IN_DELETE_SELF | IN_CLOSE_WRITE | IN_DONT_FOLLOW;
    /* Not the move that frees a lock directory: the kernel still holds the directory around
     * it then, in which all who wake up would queue. What is in it is removed next. */
    events |= kind == OS_DIRECTORY ? IN_DELETE : IN_MOVE_SELF;
    int number = inotify_add_watch(watch->descriptor, path, events);
    if (number < 0) {
        return errno;
    }
    *watched = number;
    return 0;
}

/* The kernel closes its files, which is an event. */
void
os_watch_owner(const struct os_file *watch, int process)
{
    (void)watch;
    (void)process;
}

const bool os_watch_wants_owner = false;

void
os_watch_end(const struct os_file *watch, int *watched)
{
    if (*watched >= 0 && os_is_open(watch)) {
        /* Fails when the inode is gone, and the watch with it. */
        inotify_rm_watch(watch->descriptor, *watched);
    }
    *watched = -1;
}

void
os_watch_remove(const struct os_file *watch, int *watched)
{
    int number = *watched;
    os_watch_end(watch, watched);
    if (number >= 0 && os_is_open(watch)) {
        os_watch_read(watch, &number);
    }
}

const bool os_watch_serves_many = true;

/* more: there may be; where one more event had room, there was none. */
static size_t
read_events(const struct os_file *watch, struct os_event events[OS_EVENTS], bool *more)
{
    _Alignas(struct inotify_event) char buffer[OS_EVENTS * sizeof(struct inotify_event)];
    ssize_t length = read(watch->descriptor, buffer, sizeof buffer);
    size_t count = 0;
    *more = length > (ssize_t)(sizeof buffer - LARGEST_EVENT);
    for (char *next = buffer; next < buffer + length; count++) {
        const struct inotify_event *event = (const struct inotify_event *)next;
        events[count] = (struct os_event){.watched = event->wd,
                                          .closed = (event->mask & IN_CLOSE_WRITE) != 0,
                                          .gone = (event->mask & IN_IGNORED) != 0};
        next += sizeof *event + event->len;
    }
    return count;
}

size_t
os_watch_events(const struct os_file *watch, struct os_event events[OS_EVENTS])
{
    bool more;
    return read_events(watch, events, &more);
}

bool
os_watch_read(const struct os_file *watch, int *watched)
{
    struct os_event events[OS_EVENTS];
    bool closed = false, more = true;
    while (more) {
        size_t count = read_events(watch, events, &more);
        for (size_t i = 0; i < count; i++) {
            /* Events of an earlier wait may still be queued: theirs is another number. */
            bool ours = events[i].watched == *watched;
            closed = closed || (ours && events[i].closed);
            *watched = ours && events[i].gone ? -1 : *watched;
        }
    }
    return closed;
}
