/* Waits with a limit, where the clock of a condition can be chosen. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include "platform/posix/timespec.h"

int
system_make_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);
    if (error == 0) {
        error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        if (error == 0) {
            error = pthread_cond_init(condition, &attributes);
        }
        pthread_condattr_destroy(&attributes);
    }
    return error;
}

void
system_await(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until)
{
    struct timespec limit = posix_timespec(until);
    pthread_cond_timedwait(condition, mutex, &limit);
}
