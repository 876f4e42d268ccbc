#include "wait.h"

#include <errno.h>

/* A user may have only 128 watches, so a process takes no more than these, and keeps one
 * when it waits no more: further waiters poll. Not none, since a watch is opened in no time,
 * but closing one blocks for 10 to 20 ms in the kernel. */
#define WATCHES 8

/* For so long those that are idle may be wanted again: threads that take turns wait most of
 * the time, but not all of it. */
#define IDLE_TIME (10 * OS_MILLISECOND)

#define FIRST_PAUSE (2 * OS_MILLISECOND)
#define HURRIED_PAUSE (OS_MILLISECOND / 10)
#define LAST_HURRIED_PAUSE (100 * OS_MILLISECOND)
#define LONG_PAUSE OS_SECOND
#define FIRST_POLL OS_MILLISECOND
#define LONGEST_POLL (50 * OS_MILLISECOND)

/* The watches of this process that nobody waits on. Guarded by os_lock(). */
static struct {
    struct os_file idle[WATCHES];
    int idle_count;
    int open_count; /* these, and those that are in use */
    bool closing;   /* a thread closes some */
    uint64_t generation;
} pool;

/* A child's copies were closed by the fork. */
static void
discard_parent_pool(void)
{
    if (pool.generation != os_generation()) {
        pool.idle_count = 0;
        pool.open_count = 0;
        pool.closing = false;
        pool.generation = os_generation();
    }
}

/* Those who wait now may soon give way to as many again. */
static bool
has_too_many_idle(void)
{
    int in_use = pool.open_count - pool.idle_count;
    return pool.idle_count > 1 && pool.idle_count > in_use;
}

static void
close_idle(void)
{
    bool found;
    os_pause(IDLE_TIME);
    do {
        struct os_file watch;
        os_lock();
        discard_parent_pool();
        found = has_too_many_idle();
        if (found) {
            watch = pool.idle[--pool.idle_count];
            pool.open_count--;
        }
        pool.closing = found;
        os_unlock();
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
    os_lock();
    discard_parent_pool();
    if (pool.idle_count > 0) {
        *watch = pool.idle[--pool.idle_count];
    } else if (pool.open_count < WATCHES) {
        pool.open_count++;
        watch->descriptor = -1;
    } else {
        taken = false;
    }
    os_unlock();
    return taken;
}

/* A lost one gives back only the right to open another. Only processes with threads that
 * wait have more than one watch: no others get a thread for closing them. */
static void
give_watch(const struct os_file *watch)
{
    os_lock();
    discard_parent_pool();
    if (watch->descriptor < 0) {
        pool.open_count -= pool.open_count > 0;
    } else if (pool.idle_count < WATCHES) {
        pool.idle[pool.idle_count++] = *watch;
    }
    bool begin = has_too_many_idle() && !pool.closing;
    pool.closing = pool.closing || begin;
    os_unlock();
    if (begin && !os_do_aside(close_idle)) {
        os_lock();
        pool.closing = false; /* they are kept */
        os_unlock();
    }
}

static bool
take_watch(struct os_file *watch)
{
    if (!take_idle(watch)) {
        return false;
    }
    /* Programs close descriptors behind our back. */
    if (!os_is_open(watch)) {
        os_close(watch);
        if (os_watch_open(watch) != 0) {
            give_watch(watch);
            return false;
        }
    }
    return true;
}

void
wait_begin(struct wait *wait, int64_t deadline)
{
    *wait = (struct wait){.deadline = deadline, .watch = {.descriptor = -1}};
}

void
wait_end(struct wait *wait)
{
    wait_unwatch(wait);
    os_signals_release(&wait->signals);
}

void
wait_watch(struct wait *wait, const char *path, enum os_kind kind)
{
    struct os_file watch;
    wait_unwatch(wait);
    if (take_watch(&watch)) {
        if (os_watch_add(&watch, path, kind, &wait->watched) == 0) {
            wait->watch = watch;
        } else {
            give_watch(&watch);
        }
    }
}

void
wait_unwatch(struct wait *wait)
{
    if (wait->watch.descriptor >= 0) {
        os_watch_remove(&wait->watch, &wait->watched);
        give_watch(&wait->watch);
        wait->watch.descriptor = -1;
    }
}

void
wait_for_inode(struct wait *wait, struct os_inode inode)
{
    if (!os_same(wait->inode, inode)) {
        wait->inode = inode;
        wait->pause = 0;
        wait->hurried = false;
    }
}

void
wait_hurry(struct wait *wait)
{
    if (!wait->hurried) {
        wait->hurried = true;
        wait->pause = HURRIED_PAUSE;
    }
}

bool
wait_is_over(const struct wait *wait)
{
    return os_now() >= wait->deadline;
}

static int64_t
next_poll(int64_t pause)
{
    pause = pause == 0 ? FIRST_POLL : 2 * pause;
    if (pause > LONGEST_POLL) {
        pause = LONGEST_POLL;
    }
    /* Up to a quarter less: waiters that started together drift apart. */
    return pause - (int64_t)(os_random() % (uint64_t)(pause / 4));
}

static int64_t
next_pause(struct wait *wait)
{
    int64_t pause = wait->pause;
    if (wait->hurried && pause <= LAST_HURRIED_PAUSE) {
        wait->pause = 2 * pause;
        return pause;
    }
    wait->hurried = false;
    wait->pause = LONG_PAUSE;
    return pause == 0 ? FIRST_PAUSE : LONG_PAUSE;
}

int
wait_for_change(struct wait *wait)
{
    int64_t pause;
    bool watching = wait->watch.descriptor >= 0;
    if (watching) {
        pause = next_pause(wait);
    } else {
        pause = wait->pause = next_poll(wait->pause);
    }
    if (wait->deadline != OS_NEVER) {
        int64_t left = wait->deadline - os_now();
        pause = left < 0 ? 0 : left < pause ? left : pause;
    }
    int error = os_wait(wait->watch.descriptor, pause, &wait->signals);
    if (error == 0 && watching && os_watch_read(&wait->watch, &wait->watched)) {
        wait->hurried = false;
        wait_hurry(wait);
    }
    return error;
}
