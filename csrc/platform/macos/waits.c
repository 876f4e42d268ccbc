/* Waits with a limit: macOS cannot choose a condition's clock, but takes the time that is left. */
#include "platform/system.h"

#include "platform/posix/timespec.h"

int
system_make_condition(pthread_cond_t *condition)
{
    return pthread_cond_init(condition, NULL);
}

void
system_await(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until)
{
    int64_t left = until - os_now();
    struct timespec limit = posix_timespec(left > 0 ? left : 0);
    pthread_cond_timedwait_relative_np(condition, mutex, &limit);
}
