#include "core/watches.h"

/* A user may have only 128 watches, so a process takes no more than these, and keeps one
 * when it waits no more: further waiters poll. Not none, since a watch is opened in no time,
 * but closing one blocks for 10 to 20 ms in the kernel. */
#define WATCHES 8

/* For so long those that are idle may be wanted again: threads that take turns wait most of
 * the time, but not all of it. */
#define IDLE_TIME (100 * OS_MILLISECOND)

/* Guarded by the mutex. */
static struct {
    struct os_file idle[WATCHES];
    int idle_count;
    int open_count; /* these, and those that are in use */
    bool closing;   /* a thread closes some */
    uint64_t generation;
} watches;

/* A child's copies were closed by the fork. */
static void
forget_parent_locked(void)
{
    if (os_has_forked(&watches.generation)) {
        watches.idle_count = 0;
        watches.open_count = 0;
        watches.closing = false;
    }
}

/* Those who wait now may soon give way to as many again. */
static bool
has_too_many_idle_locked(void)
{
    os_assert_locked();
    int in_use = watches.open_count - watches.idle_count;
    return watches.idle_count > 1 && watches.idle_count > in_use;
}

static void
close_idle(void)
{
    bool found;
    os_pause(IDLE_TIME);
    do {
        struct os_file watch;
        os_mutex_lock();
        forget_parent_locked();
        found = has_too_many_idle_locked();
        if (found) {
            watch = watches.idle[--watches.idle_count];
            watches.open_count--;
        }
        watches.closing = found;
        os_mutex_unlock();
        if (found) {
            os_close(&watch);
        }
    } while (found);
}

/* Takes an idle watch, or the right to open another; false: there are enough. */
static bool
take_idle(struct os_file *watch)
{
    bool taken = true;
    os_mutex_lock();
    forget_parent_locked();
    if (watches.idle_count > 0) {
        *watch = watches.idle[--watches.idle_count];
    } else if (watches.open_count < WATCHES) {
        watches.open_count++;
        *watch = OS_NO_FILE;
    } else {
        taken = false;
    }
    os_mutex_unlock();
    return taken;
}

/* Only processes with threads that wait have more than one watch: no others get a thread for
 * closing them. */
void
watches_give_back(struct os_file *watch)
{
    os_mutex_lock();
    forget_parent_locked();
    if (os_is_none(watch)) {
        watches.open_count -= watches.open_count > 0;
    } else if (watches.idle_count < WATCHES) {
        watches.idle[watches.idle_count++] = *watch;
    }
    bool begin = has_too_many_idle_locked() && !watches.closing;
    watches.closing = watches.closing || begin;
    os_mutex_unlock();
    *watch = OS_NO_FILE;
    if (begin && !os_do_aside(close_idle)) {
        os_mutex_lock();
        watches.closing = false; /* they are kept */
        os_mutex_unlock();
    }
}

bool
watches_take(struct os_file *watch)
{
    if (!take_idle(watch)) {
        return false;
    }
    /* Programs close descriptors behind our back. */
    if (!os_is_open(watch)) {
        os_close(watch);
        if (os_watch_open(watch) != 0) {
            watches_give_back(watch);
            return false;
        }
    }
    return true;
}
