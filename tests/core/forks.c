/* Forks beside allocations, under the sanitizers that bring an allocator of their own.
 *
 * That of gcc 12, for one, does not care for forks: the child of a process one of whose
 * threads was allocating just then inherits the allocator's locks, and waits for ever
 * when it allocates. So all that allocates is wrapped here (by the linker's --wrap), and
 * kept apart from forks; so are the beginning and the end of a thread, also of one that
 * the core begins, where the sanitizer allocates unasked. glibc's own allocator does so by
 * itself. */
#define _GNU_SOURCE
#include "forks.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

/* ---- What the core does aside ---- */

/* Its one thread ends when the next one begins, since nobody else waits for it. */
static struct {
    pthread_mutex_t mutex; /* never taken by who forks */
    struct forks_thread thread;
    bool begun;
    void (*work)(void);
} aside = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* The child has no such thread. */
static void
forget_aside(void)
{
    aside.mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    aside.begun = false;
}

static void
end_aside(void)
{
    if (aside.begun) {
        forks_thread_join(&aside.thread);
        aside.begun = false;
    }
}

static void *
work_aside(void *work)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    (*(void (**)(void))work)();
    return NULL;
}

bool __wrap_os_do_aside(void (*work)(void));

bool
__wrap_os_do_aside(void (*work)(void))
{
    pthread_mutex_lock(&aside.mutex);
    end_aside();
    aside.work = work;
    aside.begun = forks_thread_create(&aside.thread, work_aside, &aside.work);
    bool begun = aside.begun;
    pthread_mutex_unlock(&aside.mutex);
    return begun;
}

/* ---- Forks ---- */

/* Taken after all locks of the core, so registered before its handlers. */
static pthread_rwlock_t allocating = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static void
hold_off_forks(void)
{
    pthread_rwlock_rdlock(&allocating);
}

static void
allow_forks(void)
{
    pthread_rwlock_unlock(&allocating);
}

static void
before_fork(void)
{
    pthread_rwlock_wrlock(&allocating);
}

static void
after_fork_in_parent(void)
{
    pthread_rwlock_unlock(&allocating);
}

static void
after_fork_in_child(void)
{
    forget_aside();
    allocating = (pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
}

bool
forks_begin(void)
{
    return pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
}

void
forks_end(void)
{
    pthread_mutex_lock(&aside.mutex);
    end_aside();
    pthread_mutex_unlock(&aside.mutex);
}

/* ---- What allocates ---- */

/* The type, the name, the parameters as declared and as passed on. */
#define APART_FROM_FORKS(type, name, declared, passed) \
    type __real_##name declared;                       \
    type __wrap_##name declared;                       \
    type __wrap_##name declared                        \
    {                                                  \
        hold_off_forks();                              \
        type result = __real_##name passed;            \
        allow_forks();                                 \
        return result;                                 \
    }

APART_FROM_FORKS(void *, malloc, (size_t size), (size))
APART_FROM_FORKS(void *, calloc, (size_t count, size_t size), (count, size))
APART_FROM_FORKS(void *, realloc, (void *block, size_t size), (block, size))
APART_FROM_FORKS(DIR *, opendir, (const char *name), (name))
APART_FROM_FORKS(DIR *, fdopendir, (int descriptor), (descriptor))
APART_FROM_FORKS(int, closedir, (DIR * stream), (stream))

void __real_free(void *block);
void __wrap_free(void *block);

void
__wrap_free(void *block)
{
    hold_off_forks();
    __real_free(block);
    allow_forks();
}

#else

static void
hold_off_forks(void)
{
}

static void
allow_forks(void)
{
}

bool
forks_begin(void)
{
    return true;
}

void
forks_end(void)
{
}

#endif

static void
await(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0 && errno == EINTR) {
    }
}

static void *
run(void *context)
{
    struct forks_thread *thread = context;
    sem_post(&thread->began);
    thread->start(thread->context);
    sem_post(&thread->done);
    await(&thread->may_end);
    return NULL;
}

bool
forks_thread_create(struct forks_thread *thread, void *(*start)(void *), void *context)
{
    thread->start = start;
    thread->context = context;
    sem_init(&thread->began, 0, 0);
    sem_init(&thread->done, 0, 0);
    sem_init(&thread->may_end, 0, 0);
    hold_off_forks();
    bool created = pthread_create(&thread->thread, NULL, run, thread) == 0;
    if (created) {
        await(&thread->began);
    }
    allow_forks();
    return created;
}

/* Whoever waits here for a thread at work lets others fork. */
void
forks_thread_join(struct forks_thread *thread)
{
    await(&thread->done);
    hold_off_forks();
    sem_post(&thread->may_end);
    pthread_join(thread->thread, NULL);
    allow_forks();
}
