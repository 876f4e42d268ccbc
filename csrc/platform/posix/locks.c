/* Kernel locks on open files, and the marks and queues that are made of them. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include <errno.h>

int
os_flock(const struct os_file *file, enum os_mode mode)
{
    return system_flock(file->descriptor, mode);
}

/* ---- Byte locks ---- */

int
os_lock_byte(const struct os_file *file, uint64_t byte, enum os_mode mode)
{
    return system_lock_byte(file->descriptor, byte, mode);
}

int
os_find_lock(const struct os_file *file, uint64_t byte)
{
    uint64_t found;
    return system_find_lock(file->descriptor, byte, byte + 1, &found);
}

int
os_find_locker(const struct os_file *file, uint64_t first, uint64_t count)
{
    return system_find_locker(file->descriptor, first, count);
}

/* ---- Marks ---- */

/* Far behind anything that a user writes into a lock file. Shared locks, since
 * exclusive ones need a file open for writing. */
static uint64_t
mark_byte(enum os_mark mark)
{
    return (UINT64_C(1) << 61) + (uint64_t)mark;
}

int
os_mark(const struct os_file *file, enum os_mark mark)
{
    return os_lock_byte(file, mark_byte(mark), OS_SHARED);
}

void
os_unmark(const struct os_file *file, enum os_mark mark)
{
    os_lock_byte(file, mark_byte(mark), OS_UNLOCK);
}

int
os_find_mark(const struct os_file *file, enum os_mark mark)
{
    return os_find_lock(file, mark_byte(mark));
}

/* ---- Queues ---- */

#define QUEUE_UNIT 1000 /* nanoseconds: a queue is as long as a year */

static uint64_t
place_in(uint64_t queue, int64_t since)
{
    return queue + (uint64_t)since / QUEUE_UNIT % OS_QUEUE_SIZE;
}

void
os_queue_up(const struct os_file *file, uint64_t queue, int64_t since)
{
    /* Refused, it costs time, not the lock. */
    os_lock_byte(file, place_in(queue, since), OS_SHARED);
}

/* Any one of those between. */
static bool
find_between(const struct os_file *file, uint64_t from, uint64_t to, uint64_t *found)
{
    return from < to && system_find_lock(file->descriptor, from, to, found) == EWOULDBLOCK;
}

/* At most as deep as there are to be counted. */
static unsigned
count_between(const struct os_file *file, uint64_t from, uint64_t to, unsigned most)
{
    uint64_t found;
    if (most == 0 || !find_between(file, from, to, &found)) {
        return 0;
    }
    unsigned count = 1 + count_between(file, from, found, most - 1);
    return count + count_between(file, found + 1, to, most - count);
}

unsigned
os_count_elders(const struct os_file *file, uint64_t queue, int64_t since, unsigned most)
{
    return count_between(file, queue, place_in(queue, since), most);
}

bool
os_has_waiters(const struct os_file *file, uint64_t queue)
{
    uint64_t found;
    return find_between(file, queue, queue + OS_QUEUE_SIZE, &found);
}
