#include "core/wait.h"

#include <errno.h>

/* A user may have only 128 watches, so a process takes no more than these, and keeps one
 * when it waits no more: further waiters poll. Not none, since a watch is opened in no time,
 * but closing one blocks for 10 to 20 ms in the kernel. */
#define WATCHES 8

/* For so long those that are idle may be wanted again: threads that take turns wait most of
 * the time, but not all of it. */
#define IDLE_TIME (100 * OS_MILLISECOND)

#define FIRST_PAUSE (2 * OS_MILLISECOND)
#define HURRIED_PAUSE (OS_MILLISECOND / 10)
#define LAST_HURRIED_PAUSE (100 * OS_MILLISECOND)
#define LONG_PAUSE OS_SECOND
#define FIRST_POLL OS_MILLISECOND
#define LONGEST_POLL (50 * OS_MILLISECOND)

/* So many watch; and so long the others nap, while the lock changes hands. The longer it stays,
 * the longer they nap; where that is no use, they watch, too. */
#define ELDEST 3
/* Of those who watch, each lets the elder ones start so much earlier, where what is waited for has
 * stayed for so long that this is next to nothing. */
#define ELDERS_START (OS_MILLISECOND / 8)
#define LONG_STAY (10 * OS_MILLISECOND)

#define FIRST_NAP (5 * OS_MILLISECOND)
#define USUAL_NAP (40 * OS_MILLISECOND)
#define LONGEST_NAP (160 * OS_MILLISECOND)

/* While we look, signals are held off; the kernel then gives those for the process to another
 * thread of it, and none wakes us. So Python looks after them before each sleep that would last
 * until later than this; and once more in the first long one, since the other thread may
 * not have come to take note of what it was given. */
#define CHECK_TIME (100 * OS_MILLISECOND)
#define FIRST_CHECK (60 * OS_MILLISECOND)

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
    *wait = (struct wait){.deadline = deadline, .watch = {.descriptor = -1}, .watched = -1};
}

void
wait_end(struct wait *wait)
{
    wait_unwatch(wait);
    os_signals_release(&wait->signals);
}

void
wait_watch(struct wait *wait, const char *path, enum os_kind kind, struct os_inode inode)
{
    if (wait->watched >= 0 && os_same(wait->watched_inode, inode)) {
        return;
    }
    if (wait->watch.descriptor < 0 && !take_watch(&wait->watch)) {
        wait->watch.descriptor = -1;
        return;
    }
    os_watch_remove(&wait->watch, &wait->watched);
    if (os_watch_add(&wait->watch, path, kind, &wait->watched) == 0) {
        wait->watched_inode = inode;
    } else {
        wait_unwatch(wait);
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

/* The program has closed it. */
static void
lose_watch(struct wait *wait)
{
    os_close(&wait->watch);
    give_watch(&wait->watch);
    wait->watched = -1;
}

/* ---- What is waited for, and by whom ---- */

void
wait_begin_look(struct wait *wait)
{
    wait->queued = false;
    wait->napping = false;
    wait->look_at = 0;
    wait->ahead = 0;
}

void
wait_end_look(struct wait *wait)
{
    if (!wait->queued) {
        wait_unwatch(wait); /* that was something else, before */
    }
}

void
wait_for_inode(struct wait *wait, struct os_inode inode)
{
    int64_t now = os_now();
    wait->since = wait->since != 0 ? wait->since : os_date();
    if (os_same(wait->inode, inode)) {
        wait->stayed = now - wait->found_at;
        wait->stays = wait->stayed > wait->stays ? wait->stayed : wait->stays;
        return;
    }
    wait->lost = wait->found_at != 0;
    wait->inode = inode;
    wait->found_at = now;
    wait->stays = wait->stayed > wait->stays / 2 ? wait->stayed : wait->stays / 2;
    wait->stayed = 0;
    wait->pause = 0;
    wait->hurried = false;
    wait->checked = false;
}

static unsigned
count_elders(const struct wait *wait, const struct os_file *file)
{
    return os_count_elders(file, wait->queue, wait->since, ELDEST);
}

/* The nap grows, the more so the longer locks stay, as far as was seen. */
static int64_t
next_nap(const struct wait *wait)
{
    int64_t nap = wait->nap == 0 ? FIRST_NAP : 2 * wait->nap;
    int64_t limit = 4 * wait->stays > USUAL_NAP ? 4 * wait->stays : USUAL_NAP;
    nap = nap < limit ? nap : limit;
    return nap < LONGEST_NAP ? nap : LONGEST_NAP;
}

/* Who has not lost to another yet does not ask: mostly there are not so many. */
bool
wait_in_queue(struct wait *wait, const struct os_file *file, uint64_t queue)
{
    bool in_vain = wait->nap == LONGEST_NAP && wait->stayed != 0;
    wait->queue = queue;
    wait->queued = true;
    os_queue_up(file, queue, wait->since);
    wait->elders = wait->lost ? count_elders(wait, file) : 0;
    wait->behind = wait->elders == ELDEST;
    wait->nap = wait->behind ? next_nap(wait) : 0;
    wait->napping = wait->behind && !in_vain;
    if (wait->napping) {
        wait_unwatch(wait);
    }
    return !wait->napping;
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

bool
wait_polls(const struct wait *wait)
{
    return wait->watch.descriptor < 0 && !wait->napping;
}

/* ---- Sleep ---- */

/* Up to so much less: waiters that started together drift apart. */
static int64_t
shortened(int64_t pause, int64_t most)
{
    return pause - (int64_t)(os_random() % (uint64_t)most);
}

static int64_t
next_poll(struct wait *wait)
{
    int64_t pause = wait->pause == 0 ? FIRST_POLL : 2 * wait->pause;
    pause = pause < LONGEST_POLL ? pause : LONGEST_POLL;
    wait->pause = shortened(pause, pause / 4);
    return wait->pause;
}

static int64_t
next_watch(struct wait *wait)
{
    int64_t pause = wait->pause;
    if (wait->hurried && pause <= LAST_HURRIED_PAUSE) {
        wait->pause = 2 * pause;
        return pause;
    }
    wait->hurried = false;
    wait->pause = LONG_PAUSE;
    return wait->behind ? 2 * LONG_PAUSE : pause == 0 ? FIRST_PAUSE : LONG_PAUSE;
}

static int64_t
next_pause(struct wait *wait)
{
    return wait->napping      ? shortened(wait->nap, wait->nap / 2)
           : wait_polls(wait) ? next_poll(wait)
                              : next_watch(wait);
}

/* How long it is going to sleep. True: it should see to signals before. */
static bool
plan(struct wait *wait, int64_t now)
{
    wait->ahead = next_pause(wait);
    wait->checked_at = wait->checked_at != 0 ? wait->checked_at : now;
    wait->check_at = OS_NEVER;
    if (wait->ahead >= LONG_PAUSE && !wait->checked) {
        wait->check_at = now + FIRST_CHECK;
        wait->checked = true;
        return false;
    }
    return now + wait->ahead - wait->checked_at > CHECK_TIME;
}

/* Something has happened: is it worth a look? */
static bool
is_worth_a_look(struct wait *wait, const struct os_file *file)
{
    if (os_watch_read(&wait->watch, &wait->watched)) {
        wait->hurried = false;
        wait_hurry(wait);
    }
    /* The marks on what was in the way tell who else wakes up. */
    if (wait->behind && !wait_is_over(wait) && count_elders(wait, file) == ELDEST) {
        wait->napping = true;
        wait_unwatch(wait);
        wait->look_at = os_now() + shortened(USUAL_NAP, USUAL_NAP / 2);
        return false;
    }
    /* The kernel wakes the few always in one order, whoever has waited for longest. */
    if (!wait->behind && wait->elders > 0 && os_now() - wait->found_at > LONG_STAY) {
        os_pause(wait->elders * ELDERS_START);
    }
    return true;
}

static int64_t
earliest(const struct wait *wait)
{
    int64_t time = wait->look_at < wait->check_at ? wait->look_at : wait->check_at;
    return time < wait->deadline ? time : wait->deadline;
}

static int
see_to_signals(struct wait *wait, int64_t now)
{
    wait->check_at = OS_NEVER;
    wait->checked_at = now;
    return EINTR;
}

int
wait_for_change(struct wait *wait, const struct os_file *file)
{
    int64_t now = os_now();
    if (wait->look_at == 0 && wait->ahead == 0 && plan(wait, now)) {
        return see_to_signals(wait, now);
    }
    wait->look_at = wait->look_at != 0 ? wait->look_at : now + wait->ahead;
    wait->ahead = 0;
    bool worth = false;
    while (!worth) {
        int64_t until = earliest(wait);
        int64_t pause = until > now ? until - now : 0;
        int error = os_wait(wait->watch.descriptor, pause, &wait->signals);
        if (error == EINTR || (error == ETIMEDOUT && until == wait->check_at)) {
            return see_to_signals(wait, os_now());
        }
        worth = error == ETIMEDOUT;
        if (wait->watch.descriptor >= 0 && !os_is_open(&wait->watch)) {
            lose_watch(wait);
            worth = true;
        }
        worth = worth || is_worth_a_look(wait, file);
        now = os_now();
    }
    wait->look_at = 0;
    return 0;
}

bool
wait_stands(const struct wait *wait)
{
    return (wait->look_at != 0 || wait->ahead != 0) &&
           (wait->watch.descriptor < 0 || os_is_open(&wait->watch));
}
