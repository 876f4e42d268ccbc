/* Kernel locks on open files, and the marks and queues that are made of them. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include <errno.h>
#include <stdatomic.h>

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
    if (!system_locks_are_apart) {
        return ENOLCK; /* a mark would keep off who asks for the file's flock */
    }
    return os_lock_byte(file, mark_byte(mark), OS_SHARED);
}

void
os_unmark(const struct os_file *file, enum os_mark mark)
{
    if (system_locks_are_apart) {
        os_lock_byte(file, mark_byte(mark), OS_UNLOCK);
    }
}

int
os_find_mark(const struct os_file *file, enum os_mark mark)
{
    return system_locks_are_apart ? os_find_lock(file, mark_byte(mark)) : ENOLCK;
}

/* ---- Queues ---- */

#define QUEUE_UNIT 1000 /* nanoseconds: a queue is as long as a year */

/* On a lock file that queue would keep off who asks for its flock, as a mark would. */
static bool
is_possible(uint64_t queue)
{
    return system_locks_are_apart || queue != OS_FILE_QUEUE;
}

static uint64_t
place_in(uint64_t queue, int64_t since)
{
    return queue + (uint64_t)since / QUEUE_UNIT % OS_QUEUE_SIZE;
}

void
os_queue_up(const struct os_file *file, uint64_t queue, int64_t since)
{
    if (is_possible(queue)) {
        /* Refused, it costs time, not the lock. */
        os_lock_byte(file, place_in(queue, since), OS_SHARED);
    }
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
    return is_possible(queue) ? count_between(file, queue, place_in(queue, since), most) : 0;
}

bool
os_has_waiters(const struct os_file *file, uint64_t queue, unsigned queues)
{
    uint64_t found;
    return is_possible(queue) && find_between(file, queue, queue + queues * OS_QUEUE_SIZE, &found);
}

/* ---- Readers ----
 *
 * Each has a slot of bytes for itself, which its process and a number give it, and locks a range
 * that begins in the first half of the slot and ends in the second: two numbers of 31 bits, which
 * say the rest. The numbers are used again, for more readers than a process will have at a time: of
 * two in one slot, only one may be counted. */

#define READERS (UINT64_C(1) << 62)
#define READERS_END INT64_MAX
#define SLOT_BITS 32
#define HALF_BITS (SLOT_BITS - 1)
#define NUMBER_BITS 8
#define PROCESS_BITS 22
#define THREAD_BITS (2 * HALF_BITS - OS_HOST_DIGEST)

#define LOW_BITS(value, bits) ((uint64_t)(value) & ((UINT64_C(1) << (bits)) - 1))

int
os_mark_reader(const struct os_file *file, struct os_reader reader)
{
    static _Atomic unsigned last_number;
    uint64_t number = atomic_fetch_add(&last_number, 1);
    uint64_t slot = LOW_BITS(reader.process, PROCESS_BITS) << NUMBER_BITS;
    uint64_t begin = READERS + ((slot | LOW_BITS(number, NUMBER_BITS)) << SLOT_BITS);
    uint64_t said = LOW_BITS(reader.thread, THREAD_BITS) | LOW_BITS(reader.host, OS_HOST_DIGEST)
                                                               << THREAD_BITS;
    uint64_t half = begin + (UINT64_C(1) << HALF_BITS);
    return system_lock_range(file->descriptor, begin + LOW_BITS(said, HALF_BITS),
                             half + (said >> HALF_BITS), OS_SHARED);
}

/* Other programs lock what they like, in whatever way. */
static bool
is_reader(const struct system_range *range)
{
    uint64_t begin = range->from, end = range->to;
    return range->is_mark && begin >= READERS && begin >> SLOT_BITS == end >> SLOT_BITS &&
           (begin >> HALF_BITS & 1) == 0 && (end >> HALF_BITS & 1) == 1;
}

static struct os_reader
read_mark(const struct system_range *range)
{
    uint64_t slot = (range->from - READERS) >> SLOT_BITS;
    uint64_t said = LOW_BITS(range->from, HALF_BITS) | LOW_BITS(range->to, HALF_BITS) << HALF_BITS;
    return (struct os_reader){
        .process = (int)(slot >> NUMBER_BITS),
        .thread = LOW_BITS(said, THREAD_BITS),
        .host = (unsigned)(said >> THREAD_BITS),
    };
}

void
os_unmark_reader(const struct os_file *file)
{
    system_lock_range(file->descriptor, READERS, READERS_END, OS_UNLOCK);
}

/* The first from there on; what lies behind another program's lock of bytes may be hidden by it. */
static int
find_reader(const struct os_file *file, uint64_t from, uint64_t to, struct system_range *found)
{
    int error = 0;
    while (from < to && (error = system_find_range(file->descriptor, from, to, found)) != 0) {
        if (error != EWOULDBLOCK || is_reader(found)) {
            return error;
        }
        from = found->to > from ? found->to : to;
    }
    return 0;
}

int
os_find_reader(const struct os_file *file)
{
    struct system_range found;
    return find_reader(file, READERS, READERS_END, &found);
}

int
os_may_have_reader(const struct os_file *file)
{
    struct system_range found;
    return system_find_range(file->descriptor, READERS, READERS_END, &found);
}

static unsigned
list_between(const struct os_file *file, uint64_t from, uint64_t to, struct os_reader readers[],
             unsigned most)
{
    struct system_range found;
    if (most == 0 || find_reader(file, from, to, &found) != EWOULDBLOCK) {
        return 0;
    }
    readers[0] = read_mark(&found);
    uint64_t slot = found.from >> SLOT_BITS;
    unsigned count = 1 + list_between(file, from, slot << SLOT_BITS, readers + 1, most - 1);
    return count + list_between(file, (slot + 1) << SLOT_BITS, to, readers + count, most - count);
}

unsigned
os_list_readers(const struct os_file *file, struct os_reader readers[], unsigned most)
{
    return list_between(file, READERS, READERS_END, readers, most);
}
