/* Forks beside allocations, under the sanitizers that bring an allocator of their own.
 *
 * That of gcc 12, for one, does not care for forks: the child of a process one of whose
 * threads was allocating just then inherits the allocator's locks, and waits for ever
 * when it allocates. So all that allocates is wrapped here (by the linker's --wrap), and
 * kept apart from forks. glibc's own allocator does so by itself. */
#define _GNU_SOURCE
#include "forks.h"

#include <dirent.h>
#include <pthread.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

/* Taken after all locks of the core, so registered before its handlers. */
static pthread_rwlock_t allocating = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

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
    allocating = (pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
}

bool
forks_begin(void)
{
    return pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
}

/* The type, the name, the parameters as declared and as passed on. */
#define APART_FROM_FORKS(type, name, declared, passed) \
    type __real_##name declared;                       \
    type __wrap_##name declared;                       \
    type __wrap_##name declared                        \
    {                                                  \
        pthread_rwlock_rdlock(&allocating);            \
        type result = __real_##name passed;            \
        pthread_rwlock_unlock(&allocating);            \
        return result;                                 \
    }

APART_FROM_FORKS(void *, malloc, (size_t size), (size))
APART_FROM_FORKS(void *, calloc, (size_t count, size_t size), (count, size))
APART_FROM_FORKS(void *, realloc, (void *block, size_t size), (block, size))
APART_FROM_FORKS(DIR *, opendir, (const char *name), (name))
APART_FROM_FORKS(DIR *, fdopendir, (int descriptor), (descriptor))
APART_FROM_FORKS(int, closedir, (DIR * stream), (stream))
APART_FROM_FORKS(int, pthread_create,
                 (pthread_t * thread, const pthread_attr_t *attributes, void *(*start)(void *),
                  void *context),
                 (thread, attributes, start, context))

void __real_free(void *block);
void __wrap_free(void *block);

void
__wrap_free(void *block)
{
    pthread_rwlock_rdlock(&allocating);
    __real_free(block);
    pthread_rwlock_unlock(&allocating);
}

#else

bool
forks_begin(void)
{
    return true;
}

#endif
