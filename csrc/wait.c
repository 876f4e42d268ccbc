#include "wait.h"

#include <errno.h>

/* Closing a watch blocks for 10 to 20 ms in the kernel, so they are kept; a
 * user may have only 128 of them, so a process takes no more than these. Further
 * waiters poll. */
#define WATCHES 32

#define FIRST_PAUSE (2 * OS_MILLISECOND)
#define HURRIED_PAUSE (OS_MILLISECOND / 10)
#define LAST_HURRIED_PAUSE (100 * OS_MILLISECOND)
#define LONG_PAUSE OS_SECOND
#define FIRST_POLL OS_MILLISECOND
#define LONGEST_POLL (50 * OS_MILLISECOND)

/* The watches of this process that nobody waits on. Guarded by os_lock(). */
static struct {
    int idle[WATCHES];
    int idle_count;
    int open_count;
    int process;
} pool;

/* A child's copies were closed by the fork. */
static void
discard_parent_pool(void)
{
    if (pool.process != os_process()) {
        pool.idle_count = 0;
        pool.open_count = 0;
        pool.process = os_process();
    }
}

/* Returns an idle watch, or -1 and whether there may be another. */
static int
take_idle(bool *may_open)
{
    int descriptor = -1;
    os_lock();
    discard_parent_pool();
    if (pool.idle_count > 0) {
        descriptor = pool.idle[--pool.idle_count];
    } else if ((*may_open = pool.open_count < WATCHES)) {
        pool.open_count++;
    }
    os_unlock();
    return descriptor;
}

static void
forget_one(void)
{
    os_lock();
    discard_parent_pool();
    if (pool.open_count > 0) {
        pool.open_count--;
    }
    os_unlock();
}

static int
take_watch(void)
{
    bool may_open = false;
    int descriptor;
    /* Programs close descriptors behind our back: a number is ours if it has our tag. */
    while ((descriptor = take_idle(&may_open)) >= 0) {
        if (os_watch_is_open(descriptor)) {
            return descriptor;
        }
        os_watch_close(descriptor);
        forget_one();
    }
    if (may_open && os_watch_open(&descriptor) != 0) {
        forget_one();
        descriptor = -1;
    }
    return descriptor;
}

static void
give_watch(int descriptor)
{
    os_lock();
    discard_parent_pool();
    if (pool.idle_count < WATCHES) {
        pool.idle[pool.idle_count++] = descriptor;
    }
    os_unlock();
}

void
wait_begin(struct wait *wait, int64_t deadline)
{
    *wait = (struct wait){.deadline = deadline, .descriptor = -1};
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
    wait_unwatch(wait);
    int descriptor = take_watch();
    if (descriptor < 0) {
        return;
    }
    if (os_watch_add(descriptor, path, kind, &wait->watch) != 0) {
        give_watch(descriptor);
        return;
    }
    wait->descriptor = descriptor;
}

void
wait_unwatch(struct wait *wait)
{
    if (wait->descriptor >= 0) {
        os_watch_remove(wait->descriptor, wait->watch);
        give_watch(wait->descriptor);
        wait->descriptor = -1;
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
    if (wait->descriptor >= 0) {
        pause = next_pause(wait);
    } else {
        pause = wait->pause = next_poll(wait->pause);
    }
    if (wait->deadline != OS_NEVER) {
        int64_t left = wait->deadline - os_now();
        pause = left < 0 ? 0 : left < pause ? left : pause;
    }
    int error = os_wait(wait->descriptor, pause, &wait->signals);
    if (error == 0 && wait->descriptor >= 0 &&
        os_watch_read(wait->descriptor, wait->watch).closed) {
        wait_hurry(wait);
    }
    return error;
}
