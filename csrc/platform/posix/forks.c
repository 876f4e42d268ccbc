/* What a fork waits for, and what a child begins with. */
#define _XOPEN_SOURCE 700
#include "platform/posix/forks.h"

#include "platform/posix/mutex.h"
#include "platform/posix/process.h"
#include "platform/posix/register.h"

/* Shared: between making a descriptor and its entry in the register. Exclusive: a fork, which
 * would copy a descriptor that the child does not know of. Taken before the mutex.
 * Nobody asks an allocator for memory, or gives it back, while he holds either: one that
 * keeps itself still during forks, too, may have been told of this fork before us. */
static pthread_rwlock_t fork_lock = PTHREAD_RWLOCK_INITIALIZER; /* until begin() */

void
posix_hold_off_forks(void)
{
    pthread_rwlock_rdlock(&fork_lock);
}

void
posix_allow_forks(void)
{
    pthread_rwlock_unlock(&fork_lock);
}

static void
before_fork(void)
{
    pthread_rwlock_wrlock(&fork_lock);
    os_mutex_lock();
}

static void
after_fork_in_parent(void)
{
    os_mutex_unlock();
    pthread_rwlock_unlock(&fork_lock);
}

static void
after_fork_in_child(void)
{
    posix_close_copies();
    posix_begin_child();
    posix_make_mutex(); /* it did not fail before */
    system_make_fork_lock(&fork_lock);
}

static int begin_error;

static void
begin(void)
{
    posix_begin_process();
    system_make_fork_lock(&fork_lock);
    begin_error = posix_make_mutex();
    if (begin_error == 0) {
        begin_error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    }
}

int
os_begin(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, begin);
    return begin_error;
}
