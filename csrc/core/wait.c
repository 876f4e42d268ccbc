#include "core/wait.h"

#include "core/watches.h"

#include <errno.h>

#define FIRST_PAUSE (2 * OS_MILLISECOND)
#define HURRIED_PAUSE (OS_MILLISECOND / 10)
#define LAST_HURRIED_PAUSE (100 * OS_MILLISECOND)
#define LONG_PAUSE OS_SECOND
#define FIRST_POLL OS_MILLISECOND
#define LONGEST_POLL (50 * OS_MILLISECOND)

/* So many watch; and so long the others nap, while the lock changes hands. The longer it stays,
 * the longer they nap; where that is no use, they watch, too. */
#define ELDEST 3
#define FIRST_NAP (5 * OS_MILLISECOND)
#define USUAL_NAP (40 * OS_MILLISECOND)
#define LONGEST_NAP (160 * OS_MILLISECOND)

/* Of those who watch, each lets the elder ones start so much earlier, where what is waited for has
 * stayed for so long that this is next to nothing. */
#define ELDERS_START (OS_MILLISECOND / 8)
#define LONG_STAY (10 * OS_MILLISECOND)

/* While we look, signals are held off; the kernel then gives those for the process to another
 * thread of it, and none wakes us. So they are seen to before each sleep that would last
 * until later than this; and once more in the first long one, since the other thread may
 * not have come to take note of what it was given. */
#define CHECK_TIME (100 * OS_MILLISECOND)
#define FIRST_CHECK (60 * OS_MILLISECOND)

void
wait_begin(struct waiter *wait, int64_t deadline)
{
    *wait = (struct waiter){
        .deadline = deadline, .call_back_at = OS_NEVER, .watch = OS_NO_FILE, .watch_number = -1};
}

void
wait_end(struct waiter *wait)
{
    wait_unwatch(wait);
    wait_admit_signals(wait);
}

void
wait_admit_signals(struct waiter *wait)
{
    os_signals_release(&wait->signals);
    wait->prepared = false;
}

void
wait_share(struct waiter *wait, const struct os_file *watch)
{
    wait_unwatch(wait);
    wait->shared = watch;
    wait->kind = WAIT_FOR_NOTHING; /* by a look, something is watched */
}

void
wait_tell(struct waiter *wait, const struct os_event *event)
{
    if (event->watched == wait->watch_number) {
        wait->was_closed = wait->was_closed || event->closed;
        wait->watch_number = event->gone ? -1 : wait->watch_number;
    }
}

bool
wait_is_wanted(const struct waiter *wait)
{
    return wait->deadline > 0;
}

bool
wait_is_over(const struct waiter *wait)
{
    return os_now() >= wait->deadline;
}

bool
wait_polls(const struct waiter *wait)
{
    return os_is_none(&wait->watch) && !wait->napping;
}

/* ---- The watch ---- */

static bool
take_watch(struct waiter *wait)
{
    if (wait->shared == NULL) {
        return watches_take(&wait->watch);
    }
    bool usable = os_is_open(wait->shared);
    wait->watch = usable ? *wait->shared : OS_NO_FILE;
    return usable;
}

static void
give_back_watch(struct waiter *wait)
{
    if (wait->shared == NULL) {
        watches_give_back(&wait->watch);
    }
    wait->watch = OS_NO_FILE;
}

static void
stop_watching(struct waiter *wait)
{
    if (wait->shared != NULL) {
        os_watch_end(&wait->watch, &wait->watch_number);
        wait->was_closed = false;
    } else {
        os_watch_remove(&wait->watch, &wait->watch_number);
    }
}

void
wait_watch(struct waiter *wait, const char *path, enum os_kind kind, struct identity claim)
{
    if (wait->watch_number >= 0 && identity_is_alike(wait->watched, claim)) {
        return;
    }
    if (os_is_none(&wait->watch) && !take_watch(wait)) {
        return;
    }
    stop_watching(wait);
    if (os_watch_add(&wait->watch, path, kind, &wait->watch_number) == 0) {
        wait->watched = claim;
    } else {
        wait_unwatch(wait);
    }
}

void
wait_unwatch(struct waiter *wait)
{
    if (!os_is_none(&wait->watch)) {
        stop_watching(wait);
        give_back_watch(wait);
    }
}

bool
wait_wants_owner(const struct waiter *wait)
{
    return os_watch_wants_owner && wait->watch_number >= 0;
}

void
wait_watch_owner(struct waiter *wait, int process)
{
    os_watch_owner(&wait->watch, process);
}

/* The program has closed it. */
static void
lose_watch(struct waiter *wait)
{
    if (wait->shared == NULL) {
        os_close(&wait->watch);
    }
    give_back_watch(wait);
    wait->watch_number = -1;
}

/* ---- What is in the way, and who else waits for it ---- */

void
wait_begin_look(struct waiter *wait)
{
    wait->queued = false;
    wait->napping = false;
    wait->kind = WAIT_FOR_NOTHING;
}

void
wait_end_look(struct waiter *wait)
{
    if (!wait->queued) {
        wait_unwatch(wait); /* that was something else, before */
    }
}

void
wait_meet(struct waiter *wait, struct identity claim)
{
    int64_t now = os_now();
    wait->since = wait->since != 0 ? wait->since : os_date();
    if (identity_is_alike(wait->claim, claim)) {
        wait->stayed = now - wait->found_at;
        wait->stays = wait->stayed > wait->stays ? wait->stayed : wait->stays;
        return;
    }
    wait->lost = wait->found_at != 0;
    wait->claim = claim;
    wait->found_at = now;
    wait->stays = wait->stayed > wait->stays / 2 ? wait->stayed : wait->stays / 2;
    wait->stayed = 0;
    wait->pause = 0;
    wait->hurried = false;
    wait->signals_seen = false;
}

static unsigned
count_elders(const struct waiter *wait)
{
    return os_count_elders(wait->marked, wait->queue, wait->since, ELDEST);
}

/* The nap grows, the more so the longer locks stay, as far as was seen. */
static int64_t
next_nap(const struct waiter *wait)
{
    int64_t nap = wait->nap == 0 ? FIRST_NAP : 2 * wait->nap;
    int64_t limit = 4 * wait->stays > USUAL_NAP ? 4 * wait->stays : USUAL_NAP;
    nap = nap < limit ? nap : limit;
    return nap < LONGEST_NAP ? nap : LONGEST_NAP;
}

/* Who has not lost to another yet does not ask: mostly there are not so many. */
bool
wait_in_queue(struct waiter *wait, const struct os_file *file, uint64_t queue, bool shares)
{
    bool in_vain = wait->nap == LONGEST_NAP && wait->stayed != 0;
    wait->marked = file;
    wait->queue = shares ? OS_QUEUE_TO_SHARE(queue) : queue;
    wait->queued = true;
    os_queue_up(file, wait->queue, wait->since);
    wait->elders = wait->lost && !shares ? count_elders(wait) : 0;
    wait->behind = wait->elders == ELDEST;
    wait->nap = wait->behind ? next_nap(wait) : 0;
    wait->napping = wait->behind && !in_vain;
    if (wait->napping) {
        wait_unwatch(wait);
    }
    return !wait->napping;
}

void
wait_hurry(struct waiter *wait)
{
    if (!wait->hurried) {
        wait->hurried = true;
        wait->pause = HURRIED_PAUSE;
    }
}

/* ---- How long ---- */

/* Up to so much less: waiters that started together drift apart. */
static int64_t
shortened(int64_t pause, int64_t most)
{
    return pause - (int64_t)(os_random() % (uint64_t)most);
}

static int64_t
next_poll(struct waiter *wait)
{
    int64_t pause = wait->pause == 0 ? FIRST_POLL : 2 * wait->pause;
    pause = pause < LONGEST_POLL ? pause : LONGEST_POLL;
    wait->pause = shortened(pause, pause / 4);
    return wait->pause;
}

static int64_t
next_watch(struct waiter *wait)
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
next_pause(struct waiter *wait)
{
    return wait->napping      ? shortened(wait->nap, wait->nap / 2)
           : wait_polls(wait) ? next_poll(wait)
                              : next_watch(wait);
}

/* ---- Why a step cannot go on ---- */

void
wait_for_nothing(struct waiter *wait)
{
    wait->kind = WAIT_FOR_NOTHING;
    wait->prepared = true;
}

void
wait_for_moment(struct waiter *wait, int64_t pause)
{
    wait->kind = WAIT_FOR_MOMENT;
    wait->until = os_now() + pause;
}

void
wait_for_call(struct waiter *wait, uint64_t changes, int64_t until)
{
    wait->kind = WAIT_FOR_CALL;
    wait->changes = changes;
    wait->until = until;
}

void
wait_for_change(struct waiter *wait, int64_t most)
{
    int64_t now = os_now();
    int64_t pause = next_pause(wait);
    pause = pause < most ? pause : most;
    wait->kind = WAIT_FOR_CHANGE;
    wait->ahead = pause;
    wait->until = now + pause;
    wait->interrupted = false;
    wait->gives_start = false;
    wait->signals_was = wait->signals_was != 0 ? wait->signals_was : now;
    wait->signals_at = OS_NEVER;
    wait->signals_first = now + pause - wait->signals_was > CHECK_TIME;
    if (pause >= LONG_PAUSE && !wait->signals_seen) {
        wait->signals_at = now + FIRST_CHECK;
        wait->signals_seen = true;
        wait->signals_first = false;
    }
}

/* ---- Is it over? ---- */

static int64_t
earlier(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* For the elders' sake: the kernel wakes the few always in one order, whoever has waited for
 * longest. */
static bool
must_give_start(const struct waiter *wait, int64_t now)
{
    return !wait->behind && wait->elders > 0 && now - wait->found_at > LONG_STAY;
}

/* Has a file been closed that could write, perhaps by its owner's death? */
static bool
owner_has_closed(struct waiter *wait)
{
    bool closed = wait->was_closed;
    wait->was_closed = false;
    return wait->shared != NULL ? closed : os_watch_read(&wait->watch, &wait->watch_number);
}

/* Something has happened: is it not worth a look yet? */
static bool
sleeps_on(struct waiter *wait)
{
    if (owner_has_closed(wait)) {
        wait->hurried = false;
        wait_hurry(wait);
    }
    int64_t now = os_now();
    /* The marks on what was in the way tell who else wakes up. */
    if (wait->behind && !wait_is_over(wait) && count_elders(wait) == ELDEST) {
        wait->napping = true;
        wait_unwatch(wait);
        wait->until = now + shortened(USUAL_NAP, USUAL_NAP / 2);
        return true;
    }
    wait->gives_start = must_give_start(wait, now);
    wait->until = wait->gives_start ? now + wait->elders * ELDERS_START : wait->until;
    return wait->gives_start;
}

/* Nothing has changed for who was only to see to signals, or to call back, unless that code, or a
 * fork in it, has closed what it sleeps on. */
static bool
resumes(struct waiter *wait)
{
    bool stands = os_is_none(&wait->watch) || os_is_open(&wait->watch);
    wait->interrupted = false;
    if (stands && !wait_is_over(wait)) {
        return true;
    }
    wait_unwatch(wait);
    return false;
}

static bool
change_is_awaited(struct waiter *wait)
{
    if (wait->interrupted) {
        return resumes(wait);
    }
    if (!wait->gives_start && !os_is_none(&wait->watch) && !os_is_open(&wait->watch)) {
        lose_watch(wait);
        return false;
    }
    if (os_now() >= earlier(wait->until, wait->deadline)) {
        return false;
    }
    return wait_descriptor(wait) < 0 || sleeps_on(wait);
}

bool
wait_goes_on(struct waiter *wait)
{
    bool goes_on = false;
    switch (wait->kind) {
    case WAIT_FOR_NOTHING:
        break;
    case WAIT_FOR_MOMENT:
        goes_on = os_now() < wait->until;
        break;
    case WAIT_FOR_CALL:
        goes_on = os_now() < wait->until && !table_has_changed(wait->changes);
        break;
    case WAIT_FOR_CHANGE:
        goes_on = change_is_awaited(wait);
        break;
    }
    wait->kind = goes_on ? wait->kind : WAIT_FOR_NOTHING;
    return goes_on;
}

/* ---- Sleep ---- */

int
wait_descriptor(const struct waiter *wait)
{
    bool watches = wait->kind == WAIT_FOR_CHANGE && !wait->gives_start;
    return watches ? wait->watch.descriptor : -1;
}

static int64_t
goes_on_at(const struct waiter *wait)
{
    return wait->kind == WAIT_FOR_NOTHING  ? 0
           : wait->kind == WAIT_FOR_CHANGE ? earlier(wait->until, wait->deadline)
                                           : wait->until;
}

int64_t
wait_until(const struct waiter *wait)
{
    return earlier(goes_on_at(wait), wait->call_back_at);
}

bool
wait_is_to_call_back(const struct waiter *wait)
{
    return wait->call_back_at != OS_NEVER && os_now() >= wait->call_back_at;
}

static void
hold_signals(struct waiter *wait)
{
    if (!wait->signals.held) {
        os_signals_hold(&wait->signals);
    }
}

static int
see_to_signals(struct waiter *wait)
{
    wait->signals_first = false;
    wait->interrupted = true;
    wait->signals_at = OS_NEVER;
    wait->signals_was = os_now();
    return EINTR;
}

static int
sleep_until_change(struct waiter *wait)
{
    hold_signals(wait);
    if (wait->signals_first) {
        return see_to_signals(wait);
    }
    int64_t now = os_now();
    wait->until = wait->ahead != 0 ? now + wait->ahead : wait->until;
    wait->ahead = 0;
    int64_t pause_at = earlier(wait->signals_at, wait->call_back_at);
    int64_t time = earlier(goes_on_at(wait), pause_at);
    int error = os_wait(wait_descriptor(wait), time > now ? time - now : 0, &wait->signals);
    if (error == EINTR || (error == ETIMEDOUT && time == pause_at)) {
        return see_to_signals(wait);
    }
    wait->until = error == ETIMEDOUT ? 0 : wait->until; /* it is over, whatever the clock says */
    return 0;
}

static int
sleep_until_call_is_over(const struct waiter *wait)
{
    int64_t time = earlier(wait->until, wait->call_back_at);
    return table_await_change(wait->changes, time) ? 0 : EINTR;
}

static int
sleep_a_moment(struct waiter *wait)
{
    int64_t now = os_now();
    if (wait_is_to_call_back(wait)) {
        return EINTR;
    }
    if (now < wait->until) {
        os_pause(wait->until - now);
    }
    wait->kind = WAIT_FOR_NOTHING; /* a signal may have cut it short */
    return 0;
}

int
wait_sleep(struct waiter *wait)
{
    switch (wait->kind) {
    case WAIT_FOR_CHANGE:
        return sleep_until_change(wait);
    case WAIT_FOR_CALL:
        return sleep_until_call_is_over(wait);
    case WAIT_FOR_MOMENT:
        return sleep_a_moment(wait);
    default:
        hold_signals(wait);
        return 0;
    }
}
