/* Who and when; and threads of our own. */
#define _XOPEN_SOURCE 700
#include "platform/posix/process.h"

#include "platform/system.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static int process;
static uint64_t generation;
static uint64_t forked_thread;

void
posix_begin_process(void)
{
    process = getpid();
}

void
posix_begin_child(void)
{
    generation++;
    process = getpid();
    forked_thread = os_thread();
}

int
os_process(void)
{
    return process;
}

uint64_t
os_generation(void)
{
    return generation;
}

uint64_t
os_forked_thread(void)
{
    return forked_thread;
}

bool
os_has_forked(uint64_t *known)
{
    os_assert_locked();
    bool forked = *known != generation;
    *known = generation;
    return forked;
}

uint64_t
os_user(void)
{
    return (uint64_t)geteuid();
}

uint64_t
os_thread(void)
{
    return (uint64_t)(uintptr_t)pthread_self();
}

uint64_t
os_new_token(void)
{
    static _Atomic uint64_t last;
    return atomic_fetch_add(&last, 1) + 1;
}

uint64_t
os_thread_token(void)
{
    static _Thread_local uint64_t token;
    if (token == 0) {
        token = os_new_token();
    }
    return token;
}

static int64_t
read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * OS_SECOND + now.tv_nsec;
}

int64_t
os_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t
os_date(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t
os_random(void)
{
    uint64_t number;
    if (system_random(&number)) {
        return number;
    }
    /* What differs between callers will do. */
    number = (uint64_t)os_now() ^ ((uint64_t)process << 40) ^ os_thread();
    return number * UINT64_C(0x9E3779B97F4A7C15);
}

/* ---- Threads ---- */

#define SMALL_STACK (64 * 1024)

static void *
work_aside(void *context)
{
    void (*work)(void);
    memcpy(&work, &context, sizeof work);
    work();
    return NULL;
}

bool
os_do_aside(void (*work)(void))
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    void *context;
    _Static_assert(sizeof context == sizeof work, "POSIX says so");
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    memcpy(&context, &work, sizeof context);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* which the thread inherits */
    bool begun = pthread_attr_setstacksize(&attributes, SMALL_STACK) == 0 &&
                 pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                 pthread_create(&thread, &attributes, work_aside, context) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return begun;
}
