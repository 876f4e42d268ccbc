/* The process's one mutex, waiting for what it guards to change, and memory that is freed when
 * it is not locked any more. */
#define _XOPEN_SOURCE 700
#include "platform/posix/mutex.h"

#include "platform/system.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed; /* made by posix_make_mutex() */

/* ---- Who holds it, for assertions ---- */

#ifdef NDEBUG
#define note_holder(held) ((void)0)
#define forget_holder() ((void)0)
#else
static _Thread_local bool holds;

static void
note_holder(bool held)
{
    assert(holds != held);
    holds = held;
}

/* The thread that forks holds it, but its copy in the child does not. */
static void
forget_holder(void)
{
    holds = false;
}

void
os_assert_locked(void)
{
    assert(holds);
}
#endif

/* ---- The mutex ---- */

int
posix_make_mutex(void)
{
    mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    forget_holder();
    return system_make_condition(&changed);
}

void
os_mutex_lock(void)
{
    pthread_mutex_lock(&mutex);
    note_holder(true);
}

void
os_mutex_unlock(void)
{
    note_holder(false);
    pthread_mutex_unlock(&mutex);
}

void
os_mutex_wait(void)
{
    os_assert_locked();
    pthread_cond_wait(&changed, &mutex);
}

void
os_mutex_wait_until(int64_t time)
{
    os_assert_locked();
    system_await(&changed, &mutex, time);
}

void
os_mutex_wake_all(void)
{
    pthread_cond_broadcast(&changed);
}

/* ---- Freed later ---- */

static void *_Atomic freed_later; /* each block begins with the next one's address */

void
os_free_later_locked(void *block)
{
    os_assert_locked();
    void *next = freed_later;
    memcpy(block, &next, sizeof next);
    freed_later = block;
}

void
posix_free_now(void)
{
    if (freed_later == NULL) {
        return;
    }
    os_mutex_lock();
    void *block = atomic_exchange(&freed_later, NULL);
    os_mutex_unlock();
    while (block != NULL) {
        void *next;
        memcpy(&next, block, sizeof next);
        free(block);
        block = next;
    }
}
