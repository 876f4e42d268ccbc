/* Sleep, and what ends it. */
#include "platform/windows/handles.h"
#include "platform/windows/watch.h"

#include <errno.h>

#ifndef CREATE_WAITABLE_TIMER_HIGH_RESOLUTION
#define CREATE_WAITABLE_TIMER_HIGH_RESOLUTION 2
#endif

/* What is shorter is measured by a timer of its own: all others go by the clock's ticks. */
#define SHORT_TIME (50 * OS_MILLISECOND)

/* ---- Short times ---- */

static HANDLE
begin_timer(int64_t nanoseconds)
{
    HANDLE timer =
        CreateWaitableTimerExW(NULL, NULL, CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS);
    if (timer == NULL) { /* before Windows 10 */
        timer = CreateWaitableTimerExW(NULL, NULL, 0, TIMER_ALL_ACCESS);
    }
    LARGE_INTEGER due = {.QuadPart = -((nanoseconds + 99) / 100)};
    if (timer != NULL && !SetWaitableTimer(timer, &due, 0, NULL, NULL, FALSE)) {
        CloseHandle(timer);
        timer = NULL;
    }
    return timer;
}

static DWORD
milliseconds_of(int64_t nanoseconds)
{
    int64_t milliseconds = (nanoseconds + OS_MILLISECOND - 1) / OS_MILLISECOND;
    return milliseconds < 60000 ? (DWORD)milliseconds : 60000;
}

/* Until one of them is set, which is returned; -1: none of them was. */
static int
wait_for_any(const HANDLE *handles, DWORD count, int64_t nanoseconds)
{
    HANDLE all[MAXIMUM_WAIT_OBJECTS];
    for (DWORD i = 0; i < count; i++) {
        all[i] = handles[i];
    }
    HANDLE timer = nanoseconds < SHORT_TIME ? begin_timer(nanoseconds) : NULL;
    if (timer != NULL) {
        all[count] = timer;
    }
    DWORD limit = timer != NULL ? INFINITE : milliseconds_of(nanoseconds);
    DWORD result = WAIT_TIMEOUT;
    if (count == 0 && timer == NULL) {
        Sleep(limit);
    } else {
        result = WaitForMultipleObjects(count + (timer != NULL), all, FALSE, limit);
    }
    if (timer != NULL) {
        CloseHandle(timer);
    }
    return result < WAIT_OBJECT_0 + count ? (int)(result - WAIT_OBJECT_0) : -1;
}

void
os_pause(int64_t nanoseconds)
{
    if (nanoseconds > 0) {
        wait_for_any(NULL, 0, nanoseconds);
    }
}

/* ---- Ctrl-C ----
 *
 * A handler of ours wakes those who sleep, and leaves the event to the other handlers, Python's
 * among them, which are called after it. So there is nothing to be seen yet by who wakes up at
 * once: for a while all sleeps are short. */

#define HANDLING_TIME (100 * OS_MILLISECOND)
#define SHORT_SLEEP (2 * OS_MILLISECOND)

static HANDLE interrupted;
static volatile LONG64 interrupted_at; /* by os_now(); 0: never */
static volatile LONG64 interruptions;

static BOOL WINAPI
handle_console(DWORD event)
{
    if (event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT) {
        InterlockedExchange64(&interrupted_at, os_now());
        InterlockedIncrement64(&interruptions);
        SetEvent(interrupted);
    }
    return FALSE;
}

static BOOL CALLBACK
begin_handling(INIT_ONCE *once, void *parameter, void **context)
{
    (void)once;
    (void)parameter;
    (void)context;
    interrupted = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (interrupted == NULL) {
        return FALSE;
    }
    SetConsoleCtrlHandler(handle_console, TRUE); /* refused, nothing is to be handled */
    return TRUE;
}

int
os_begin(void)
{
    static INIT_ONCE once = INIT_ONCE_STATIC_INIT;
    return InitOnceExecuteOnce(&once, begin_handling, NULL, NULL) ? 0 : ENOMEM;
}

static bool
is_being_handled(void)
{
    LONG64 at = InterlockedCompareExchange64(&interrupted_at, 0, 0);
    return at != 0 && os_now() - at < HANDLING_TIME;
}

/* Lets sleeps be long again. */
static void
forget_interruption(void)
{
    LONG64 count = InterlockedCompareExchange64(&interruptions, 0, 0);
    ResetEvent(interrupted);
    if (InterlockedCompareExchange64(&interruptions, 0, 0) != count) {
        SetEvent(interrupted);
    }
}

/* There are no signals to be held off: those that come are counted. */
void
os_signals_hold(struct os_signals *signals)
{
    signals->held = true;
    signals->mask[0] = (uint64_t)InterlockedCompareExchange64(&interruptions, 0, 0);
}

void
os_signals_release(struct os_signals *signals)
{
    signals->held = false;
}

static bool
has_been_interrupted(const struct os_signals *signals)
{
    return signals->held &&
           signals->mask[0] != (uint64_t)InterlockedCompareExchange64(&interruptions, 0, 0);
}

/* ---- Waits ---- */

/* Once: 0, ETIMEDOUT, EINTR. EAGAIN: what has happened was nothing. */
static int
wait_once(int descriptor, int64_t nanoseconds)
{
    struct watch *watch = descriptor != -1 ? handles_watch(descriptor) : NULL;
    HANDLE handles[3];
    DWORD count = 0;
    handles[count++] = interrupted;
    if (descriptor != -1) {
        handles[count++] = (HANDLE)(intptr_t)descriptor;
    }
    if (watch_process(watch) != NULL) {
        handles[count++] = watch_process(watch);
    }
    int set = wait_for_any(handles, count, nanoseconds);
    return set == -1                           ? ETIMEDOUT
           : set == 0                          ? EINTR
           : set == 1 && !watch_is_over(watch) ? EAGAIN
                                               : 0;
}

int
os_wait(int descriptor, int64_t nanoseconds, const struct os_signals *signals)
{
    int64_t until = os_now() + nanoseconds;
    int error;
    if (has_been_interrupted(signals)) {
        return EINTR;
    }
    if (is_being_handled()) {
        os_pause(nanoseconds < SHORT_SLEEP ? nanoseconds : SHORT_SLEEP);
        return nanoseconds < SHORT_SLEEP ? ETIMEDOUT : EINTR;
    }
    forget_interruption();
    do {
        int64_t left = until - os_now();
        error = wait_once(descriptor, left > 0 ? left : 0);
    } while (error == EAGAIN || (error == ETIMEDOUT && os_now() < until));
    return error;
}
