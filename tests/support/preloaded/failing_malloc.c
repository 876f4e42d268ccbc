/* An allocator, to be preloaded, that fails when it is told to: for all of the process but
 * for what the loader does. */
#include <errno.h>
#include <stddef.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static __thread long before;  /* how many more succeed */
static __thread long failing; /* how many fail then */
static __thread long failed;
static __thread long asked; /* for how many, since it was last told to fail */

/* In the calling thread. */
void
fail_allocations(long first, long count)
{
    before = first - 1;
    failing = count;
    failed = 0;
    asked = 0;
}

long
allocations(void)
{
    return asked;
}

/* How many have failed; none does any more. */
long
stop_failing(void)
{
    failing = 0;
    return failed;
}

static int
fails(void)
{
    asked++;
    if (failing == 0 || before-- > 0) {
        return 0;
    }
    failing--;
    failed++;
    errno = ENOMEM;
    return 1;
}

void *
malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}
