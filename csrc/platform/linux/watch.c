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

void
os_watch_remove(const struct os_file *watch, int *watched)
{
    if (*watched >= 0 && os_is_open(watch)) {
        /* Fails when the inode is gone, and the watch with it. */
        inotify_rm_watch(watch->descriptor, *watched);
        os_watch_read(watch, watched);
    }
    *watched = -1;
}

bool
os_watch_read(const struct os_file *watch, int *watched)
{
    _Alignas(struct inotify_event) char buffer[4096];
    bool closed = false;
    ssize_t length = sizeof buffer;
    /* Where one more event had room, there was none. */
    while (length > (ssize_t)(sizeof buffer - LARGEST_EVENT)) {
        length = read(watch->descriptor, buffer, sizeof buffer);
        for (char *next = buffer; next < buffer + length;) {
            const struct inotify_event *event = (const struct inotify_event *)next;
            /* Events of an earlier wait may still be queued: theirs is another number. */
            bool ours = event->wd == *watched;
            closed = closed || (ours && (event->mask & IN_CLOSE_WRITE) != 0);
            *watched = ours && (event->mask & IN_IGNORED) != 0 ? -1 : *watched;
            next += sizeof *event + event->len;
        }
    }
    return closed;
}
