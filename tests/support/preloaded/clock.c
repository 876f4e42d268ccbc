/* Time as a test wants it, to be preloaded.
 *
 * stop_clock(): to the calling thread the clock stands still, but for the time that it means
 * to sleep. A mere pause takes none; it calls the test back instead, if that wants it.
 *
 * With LOCKFILE_LONG_SLEEP in the environment, who sleeps until something happens, and means
 * to look by itself after half a second or more, sleeps until it happens. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000L

static __thread int stopped;
static __thread struct timespec shown;
static __thread long paused; /* in nanoseconds */
static __thread void (*at_pause)(void);

static void
read_clock(clockid_t clock, struct timespec *now)
{
    syscall(SYS_clock_gettime, clock, now);
}

static void
move_clock(const struct timespec *by)
{
    long nanoseconds = shown.tv_nsec + by->tv_nsec;
    shown.tv_sec += by->tv_sec + nanoseconds / SECOND;
    shown.tv_nsec = nanoseconds % SECOND;
}

void
stop_clock(void (*call_back)(void))
{
    read_clock(CLOCK_MONOTONIC, &shown);
    at_pause = call_back;
    paused = 0;
    stopped = 1;
}

/* How long it has paused since. */
long
start_clock(void)
{
    stopped = 0;
    return paused;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    if (stopped && clock == CLOCK_MONOTONIC) {
        *now = shown;
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, now);
}

int
nanosleep(const struct timespec *pause, struct timespec *left)
{
    if (!stopped) {
        return (int)syscall(SYS_nanosleep, pause, left);
    }
    move_clock(pause);
    paused += pause->tv_sec * SECOND + pause->tv_nsec;
    if (at_pause != NULL) {
        at_pause();
    }
    return 0;
}

/* How long a sleep is to last; NULL: for ever. The kernel writes what is left into the copy. */
static struct timespec *
sleep_of(const struct timespec *limit, int woken, struct timespec *copy)
{
    if (limit != NULL) {
        *copy = *limit;
    }
    int for_ever = copy->tv_sec > 0 || copy->tv_nsec >= SECOND / 2;
    for_ever = limit == NULL || (woken && for_ever && getenv("LOCKFILE_LONG_SLEEP") != NULL);
    return for_ever ? NULL : copy;
}

int
ppoll(struct pollfd *polled, nfds_t count, const struct timespec *limit, const sigset_t *mask)
{
    struct timespec copy = {0, 0};
    struct timespec *left = sleep_of(limit, count > 0 && polled->fd >= 0, &copy);
    int ready = (int)syscall(SYS_ppoll, polled, count, left, mask, sizeof(long));
    if (ready == 0 && stopped) {
        move_clock(limit);
    }
    return ready;
}

int
pselect(int count, fd_set *readable, fd_set *writable, fd_set *special,
        const struct timespec *limit, const sigset_t *mask)
{
    struct timespec copy = {0, 0};
    struct timespec *left = sleep_of(limit, count > 0, &copy);
    const struct {
        const sigset_t *mask;
        size_t size;
    } signals = {mask, sizeof(long)};
    int ready = (int)syscall(SYS_pselect6, count, readable, writable, special, left, &signals);
    if (ready == 0 && stopped) {
        move_clock(limit);
    }
    return ready;
}
