/* The process's one mutex, waiting for what it guards to change, and memory that is freed when
 * it is not locked any more. */
#include "platform/windows/nt.h"

#include <assert.h>
#include <stdlib.h>

static SRWLOCK mutex = SRWLOCK_INIT;
static CONDITION_VARIABLE changed = CONDITION_VARIABLE_INIT;

/* Who holds it, for assertions. */
#ifdef NDEBUG
#define note_holder(thread) ((void)0)
#else
static volatile DWORD holder;

static void
note_holder(DWORD thread)
{
    assert((holder == 0) != (thread == 0));
    holder = thread;
}

void
os_assert_locked(void)
{
    assert(holder == GetCurrentThreadId());
}
#endif

void
os_mutex_lock(void)
{
    AcquireSRWLockExclusive(&mutex);
    note_holder(GetCurrentThreadId());
}

void
os_mutex_unlock(void)
{
    note_holder(0);
    ReleaseSRWLockExclusive(&mutex);
}

static void
wait_for(DWORD milliseconds)
{
    os_assert_locked();
    note_holder(0);
    SleepConditionVariableSRW(&changed, &mutex, milliseconds, 0);
    note_holder(GetCurrentThreadId());
}

void
os_mutex_wait(void)
{
    wait_for(INFINITE);
}

void
os_mutex_wait_until(int64_t time)
{
    int64_t left = (time - os_now() + OS_MILLISECOND - 1) / OS_MILLISECOND;
    wait_for(left <= 0 ? 0 : left < 1000 ? (DWORD)left : 1000);
}

void
os_mutex_wake_all(void)
{
    WakeAllConditionVariable(&changed);
}

/* Only a forked child has what is to be freed later. */
void
os_free_later_locked(void *block)
{
    os_assert_locked();
    (void)block;
}
