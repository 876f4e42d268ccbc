/* Kernel locks on open files, and the marks and queues that are made of them.
 *
 * On a file, they are locks on bytes far behind anything that a user writes into it. A directory
 * has no bytes: what locks it is how it is opened once more. An exclusive lock is the right to add
 * files, not shared; a shared one is that right, shared. To wait is to have the right to remove it;
 * so who shares all but that is refused. */
#include "platform/windows/handles.h"

#include <errno.h>

#define FLOCK_BYTE (UINT64_C(1) << 61)

const bool os_locks_bytes = true;

static int
lock_range(HANDLE handle, uint64_t from, uint64_t count, enum os_mode mode)
{
    OVERLAPPED place = {.Offset = (DWORD)from, .OffsetHigh = (DWORD)(from >> 32)};
    DWORD low = (DWORD)count, high = (DWORD)(count >> 32);
    BOOL done = FALSE;
    if (mode == OS_UNLOCK) {
        done = UnlockFileEx(handle, 0, low, high, &place);
    } else {
        DWORD flags = LOCKFILE_FAIL_IMMEDIATELY;
        flags |= mode == OS_EXCLUSIVE ? LOCKFILE_EXCLUSIVE_LOCK : 0;
        done = LockFileEx(handle, flags, 0, low, high, &place);
    }
    return done ? 0 : nt_errno_of_api(GetLastError());
}

/* ---- Directories ---- */

static void
close_extra(HANDLE *extra)
{
    if (*extra != NULL) {
        CloseHandle(*extra);
        *extra = NULL;
    }
}

static int
lock_directory(struct handle *directory, enum os_mode mode)
{
    close_extra(&directory->lock);
    if (mode == OS_UNLOCK) {
        return 0;
    }
    ULONG share = FILE_SHARE_READ | FILE_SHARE_DELETE;
    share |= mode == OS_SHARED ? FILE_SHARE_WRITE : 0;
    return nt_reopen(directory->handle, FILE_ADD_FILE, share, FILE_DIRECTORY_FILE,
                     &directory->lock);
}

/* ---- Files ---- */

/* A handle may lock shared what it has locked alone; to unlock once takes away the latter. So there
 * is no moment in between. The other way there is: what was shared is unlocked first, and stays so
 * where the rest is refused. */
static int
lock_file(struct handle *file, enum os_mode mode)
{
    bool is_downgrade = file->mode == OS_EXCLUSIVE && mode == OS_SHARED;
    if (file->mode != OS_UNLOCK && !is_downgrade) {
        lock_range(file->handle, FLOCK_BYTE, 1, OS_UNLOCK);
        file->mode = OS_UNLOCK;
    }
    int error = mode == OS_UNLOCK ? 0 : lock_range(file->handle, FLOCK_BYTE, 1, mode);
    if (error != 0) {
        return error;
    }
    if (is_downgrade) {
        lock_range(file->handle, FLOCK_BYTE, 1, OS_UNLOCK);
    }
    file->mode = mode;
    return 0;
}

int
os_flock(const struct os_file *file, enum os_mode mode)
{
    struct handle *found = handles_find(file);
    if (found == NULL) {
        return EBADF;
    }
    return found->is_directory ? lock_directory(found, mode) : lock_file(found, mode);
}

/* ---- Byte locks ---- */

int
os_lock_byte(const struct os_file *file, uint64_t byte, enum os_mode mode)
{
    return lock_range(nt_handle(file), byte, 1, mode);
}

/* There is no way to ask but to try. */
static int
try_range(const struct os_file *file, uint64_t from, uint64_t count, enum os_mode mode)
{
    int error = lock_range(nt_handle(file), from, count, mode);
    if (error == 0) {
        lock_range(nt_handle(file), from, count, OS_UNLOCK);
    }
    return error;
}

/* Shared, so that those who only ask do not refuse each other. */
int
os_find_lock(const struct os_file *file, uint64_t byte)
{
    return try_range(file, byte, 1, OS_SHARED);
}

int
os_find_locker(const struct os_file *file, uint64_t first, uint64_t count)
{
    (void)file;
    (void)first;
    (void)count;
    return 0;
}

/* ---- Marks ---- */

/* A directory has none: removals go by its lock then. Nor has it turns: those who share a beacon
 * could not be told apart. On a file there is but the mark of a turn, which one has alone. */
static int
refuse_mark(enum os_mark mark)
{
    return mark == OS_TURN ? EWOULDBLOCK : ENOSYS;
}

static bool
is_directory(const struct os_file *file)
{
    const struct handle *found = handles_find(file);
    return found == NULL || found->is_directory;
}

int
os_mark(const struct os_file *file, enum os_mark mark)
{
    struct handle *found = handles_find(file);
    if (found == NULL || found->is_directory) {
        return refuse_mark(mark);
    }
    int error = os_lock_byte(file, FLOCK_BYTE + (uint64_t)mark, OS_EXCLUSIVE);
    found->marks |= error == 0 ? 1U << mark : 0;
    return error;
}

static bool
has_mark(const struct handle *handle, enum os_mark mark)
{
    return (handle->marks & 1U << mark) != 0;
}

void
os_unmark(const struct os_file *file, enum os_mark mark)
{
    struct handle *found = handles_find(file);
    if (found != NULL && has_mark(found, mark)) {
        os_lock_byte(file, FLOCK_BYTE + (uint64_t)mark, OS_UNLOCK);
        found->marks &= ~(1U << mark);
    }
}

/* Who has one has it alone. And must not ask: what the question locks shared beside it, and unlocks
 * again, would take away the exclusive one, and leave a shared one that nobody sees. */
int
os_find_mark(const struct os_file *file, enum os_mark mark)
{
    struct handle *found = handles_find(file);
    if (found == NULL || found->is_directory) {
        return refuse_mark(mark);
    }
    return has_mark(found, mark) ? 0 : os_find_lock(file, FLOCK_BYTE + (uint64_t)mark);
}

/* ---- Queues ---- */

#define QUEUE_UNIT 1000 /* nanoseconds: a queue is as long as a year */

void
os_queue_up(const struct os_file *file, uint64_t queue, int64_t since)
{
    struct handle *found = handles_find(file);
    if (found != NULL && !found->is_directory) {
        os_lock_byte(file, queue + (uint64_t)since / QUEUE_UNIT % OS_QUEUE_SIZE, OS_SHARED);
    } else if (found != NULL && found->queue == NULL &&
               nt_reopen(found->handle, DELETE, NT_SHARE_ALL, FILE_DIRECTORY_FILE, &found->queue) !=
                   0) {
        found->queue = NULL; /* refused, it costs time, not the lock */
    }
}

/* Bytes cannot be counted here, nor handles: all wait as the eldest do. */
unsigned
os_count_elders(const struct os_file *file, uint64_t queue, int64_t since, unsigned most)
{
    (void)file;
    (void)queue;
    (void)since;
    (void)most;
    return 0;
}

/* Who asks at the same time is in the way as well, but not for long. */
#define ASKED_AT_MOST 8

static bool
has_waiters_on_bytes(const struct os_file *file, uint64_t queue, unsigned queues)
{
    int error = EWOULDBLOCK;
    for (int i = 0; i < ASKED_AT_MOST && error == EWOULDBLOCK; i++) {
        error = try_range(file, queue, OS_QUEUE_SIZE * queues, OS_EXCLUSIVE);
    }
    return error == EWOULDBLOCK;
}

bool
os_has_waiters(const struct os_file *file, uint64_t queue, unsigned queues)
{
    HANDLE again;
    if (!is_directory(file)) {
        return has_waiters_on_bytes(file, queue, queues);
    }
    int error = nt_reopen(nt_handle(file), FILE_LIST_DIRECTORY, FILE_SHARE_READ | FILE_SHARE_WRITE,
                          FILE_DIRECTORY_FILE, &again);
    if (error == 0) {
        CloseHandle(again);
    }
    return error == EWOULDBLOCK;
}

/* ---- Readers ----
 *
 * Each locks a byte, alone, whose place says who it is: its host, process and thread, whose numbers
 * are multiples of 4, and a number for more of the same; or, when none of these is left, its
 * process alone.
 *
 * Who asks whether there is one locks all of these bytes for a moment, shared, and so is not in the
 * way of others who ask, but of those who come. So there are two halves, of which each reader takes
 * either; who asks locks one after the other. One that is stopped in between is in nobody's way. */

const bool os_can_share = true;
const bool os_can_share_directories = false;
const bool os_unshares_in_two_steps = true;

#define READERS (UINT64_C(1) << 62)
#define HALF_BITS 61
#define HALF (UINT64_C(1) << HALF_BITS)
#define HALVES 2
#define NUMBER_BITS 7
#define NUMBERS (1U << NUMBER_BITS)
#define THREADLESS (NUMBERS - 1) /* then the thread is a number, too */
#define THREAD_BITS 20
#define PROCESS_BITS 20
#define UNIT 4 /* of their numbers */
#define MARK_ATTEMPTS (NUMBERS + 1000)

#define LOW_BITS(value, bits) ((uint64_t)(value) & ((UINT64_C(1) << (bits)) - 1))

static uint64_t
place_of_reader(struct os_reader reader, unsigned attempt)
{
    bool has_thread = attempt < THREADLESS;
    uint64_t thread = has_thread ? reader.thread / UNIT : attempt - THREADLESS;
    uint64_t said = LOW_BITS(reader.host, OS_HOST_DIGEST);
    said = said << PROCESS_BITS | LOW_BITS(reader.process / UNIT, PROCESS_BITS);
    said = said << THREAD_BITS | LOW_BITS(thread, THREAD_BITS);
    return said << NUMBER_BITS | (has_thread ? attempt : THREADLESS);
}

static struct os_reader
reader_of(uint64_t byte)
{
    bool has_thread = LOW_BITS(byte, NUMBER_BITS) != THREADLESS;
    uint64_t said = LOW_BITS(byte, HALF_BITS) >> NUMBER_BITS;
    return (struct os_reader){
        .thread = has_thread ? LOW_BITS(said, THREAD_BITS) * UNIT : 0,
        .process = (int)(LOW_BITS(said >> THREAD_BITS, PROCESS_BITS) * UNIT),
        .host = (unsigned)(said >> (THREAD_BITS + PROCESS_BITS)),
    };
}

int
os_mark_reader(const struct os_file *file, struct os_reader reader)
{
    struct handle *found = handles_find(file);
    if (found == NULL || found->is_directory) {
        return EOPNOTSUPP;
    }
    int error = found->reader_byte == 0 ? EWOULDBLOCK : 0;
    for (unsigned i = 0; i < HALVES * MARK_ATTEMPTS && error == EWOULDBLOCK; i++) {
        uint64_t byte = READERS + i % HALVES * HALF + place_of_reader(reader, i / HALVES);
        error = os_lock_byte(file, byte, OS_EXCLUSIVE);
        found->reader_byte = error == 0 ? byte : 0;
    }
    return error;
}

void
os_unmark_reader(const struct os_file *file)
{
    struct handle *found = handles_find(file);
    if (found != NULL && found->reader_byte != 0) {
        os_lock_byte(file, found->reader_byte, OS_UNLOCK);
        found->reader_byte = 0;
    }
}

/* The first half once more: between the two questions one may have come into it, and another have
 * left the second. The answer is of no single moment; so nobody is proven dead by it. */
int
os_find_reader(const struct os_file *file)
{
    int error = 0;
    unsigned questions = is_directory(file) ? 0 : HALVES + 1;
    for (unsigned i = 0; i < questions && error == 0; i++) {
        error = try_range(file, READERS + i % HALVES * HALF, HALF, OS_SHARED);
    }
    return error;
}

int
os_may_have_reader(const struct os_file *file)
{
    return os_find_reader(file);
}

/* In two parts, and parts of these. */
static unsigned
list_between(const struct os_file *file, uint64_t from, uint64_t count, struct os_reader readers[],
             unsigned most)
{
    if (most == 0 || try_range(file, from, count, OS_SHARED) != EWOULDBLOCK) {
        return 0;
    }
    if (count == 1) {
        readers[0] = reader_of(from);
        return 1;
    }
    uint64_t part = count / 2;
    unsigned listed = list_between(file, from, part, readers, most);
    return listed + list_between(file, from + part, part, readers + listed, most - listed);
}

unsigned
os_list_readers(const struct os_file *file, struct os_reader readers[], unsigned most)
{
    unsigned listed = 0;
    unsigned halves = is_directory(file) ? 0 : HALVES;
    for (unsigned i = 0; i < halves; i++) {
        listed += list_between(file, READERS + i * HALF, HALF, readers + listed, most - listed);
    }
    return listed;
}
