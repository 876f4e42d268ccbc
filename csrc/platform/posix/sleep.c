/* Sleep, and the signals that end it. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include "platform/posix/timespec.h"

#include <string.h>

void
os_pause(int64_t nanoseconds)
{
    struct timespec pause = posix_timespec(nanoseconds);
    nanosleep(&pause, NULL);
}

_Static_assert(sizeof(sigset_t) <= sizeof(((struct os_signals *)0)->mask), "a mask must fit");

void
os_signals_hold(struct os_signals *signals)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        sigdelset(&all, faults[i]);
    }
    signals->held = pthread_sigmask(SIG_BLOCK, &all, &before) == 0;
    memcpy(signals->mask, &before, sizeof before);
}

void
os_signals_release(struct os_signals *signals)
{
    if (signals->held) {
        sigset_t before;
        memcpy(&before, signals->mask, sizeof before);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        signals->held = false;
    }
}

int
os_wait(int descriptor, int64_t nanoseconds, const struct os_signals *signals)
{
    struct timespec limit = posix_timespec(nanoseconds);
    sigset_t before;
    memcpy(&before, signals->mask, sizeof before);
    return system_wait(descriptor, &limit, signals->held ? &before : NULL);
}
