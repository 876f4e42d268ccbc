/* os.h for POSIX systems that nobody has taught us more about: waiters poll, and
 * no owner is ever proven dead. */
#define _POSIX_C_SOURCE 200809L
#include "os_posix.h"

#include <errno.h>
#include <fcntl.h>

int
system_tag(int descriptor)
{
    (void)descriptor;
    return 0;
}

bool
system_is_tagged(int descriptor)
{
    return fcntl(descriptor, F_GETFD) >= 0;
}

int
os_boot(char *identity, size_t size)
{
    (void)identity, (void)size;
    return ENOSYS;
}

bool
system_random(uint64_t *number)
{
    (void)number;
    return false;
}

bool
os_is_local(const struct os_file *directory)
{
    (void)directory;
    return false;
}

int
system_rename(int directory, const char *from, const char *to)
{
    (void)directory, (void)from, (void)to;
    return ENOSYS;
}

void
system_find_birth(int directory, const char *name, struct os_identity *identity)
{
    (void)directory, (void)name, (void)identity;
}

int
system_highest_watch(void)
{
    return -1;
}

int
os_mark(const struct os_file *file, enum os_mark mark)
{
    (void)file, (void)mark;
    return ENOSYS;
}

void
os_unmark(const struct os_file *file, enum os_mark mark)
{
    (void)file, (void)mark;
}

int
os_find_mark(const struct os_file *file, enum os_mark mark)
{
    (void)file, (void)mark;
    return ENOSYS;
}

int
os_watch_open(struct os_file *watch)
{
    (void)watch;
    return ENOSYS;
}

int
os_watch_add(const struct os_file *watch, const char *path, enum os_kind kind, int *watched)
{
    (void)watch, (void)path, (void)kind, (void)watched;
    return ENOSYS;
}

void
os_watch_remove(const struct os_file *watch, int watched)
{
    (void)watch, (void)watched;
}

bool
os_watch_read(const struct os_file *watch, int watched)
{
    (void)watch, (void)watched;
    return false;
}
