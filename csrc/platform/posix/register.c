/* The register of descriptors: which are ours, under which serial number. */
#define _XOPEN_SOURCE 700
#include "platform/posix/register.h"

#include "platform/posix/mutex.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A process that has fewer files open gets lower numbers for what is slow to close. */
#define ABOVE_SLOW 200

/* A descriptor of ours. */
struct entry {
    uint64_t serial; /* 0: none */
    bool is_kept;    /* by a forked child, too */
};

/* All guarded by the mutex. registered[number] is what has this number. */
static struct entry *registered;
static size_t registered_size;
static uint64_t last_serial;
static int highest_slow = -1; /* the highest number that something slow to close ever had */

/* Makes room for a number. False: out of memory. */
static bool
grow_register(size_t number)
{
    size_t size = 2 * number + 64;
    struct entry *left = system_map_pages(size * sizeof *registered);
    size_t left_size = size;
    if (left == NULL) {
        return false;
    }
    os_mutex_lock();
    if (size > registered_size) { /* no other thread was faster */
        struct entry *larger = left;
        if (registered != NULL) {
            memcpy(larger, registered, registered_size * sizeof *larger);
        }
        left = registered;
        left_size = registered_size;
        registered = larger;
        registered_size = size;
    }
    os_mutex_unlock();
    if (left != NULL) {
        munmap(left, left_size * sizeof *left);
    }
    return true;
}

/* False: there is no room for that number. */
static bool
enter(int descriptor, struct os_file *file)
{
    os_mutex_lock();
    bool fits = (size_t)descriptor < registered_size;
    if (fits) {
        registered[descriptor] = (struct entry){.serial = ++last_serial};
        *file = (struct os_file){.descriptor = descriptor, .serial = last_serial};
    }
    os_mutex_unlock();
    return fits;
}

int
posix_enter(int descriptor, struct os_file *file)
{
    int error = system_tag(descriptor);
    while (error == 0 && !enter(descriptor, file)) {
        error = grow_register((size_t)descriptor) ? 0 : ENOMEM;
    }
    return error;
}

int
posix_enter_slow_to_close(int descriptor, struct os_file *file)
{
    int error = posix_enter(descriptor, file);
    if (error == 0) {
        os_mutex_lock();
        highest_slow = descriptor > highest_slow ? descriptor : highest_slow;
        os_mutex_unlock();
    }
    return error;
}

/* A dying process closes its highest descriptor first: what lies below one that takes long waits
 * for that one, and a beacon would burn for so long after its owner's death. */
int
posix_move_to_close_first(int descriptor, bool stays)
{
    os_mutex_lock();
    int lowest = highest_slow + 1;
    os_mutex_unlock();
    if (stays && lowest < ABOVE_SLOW) {
        lowest = ABOVE_SLOW;
    }
    int moved = descriptor < lowest ? fcntl(descriptor, F_DUPFD_CLOEXEC, lowest) : -1;
    if (moved < 0) {
        return descriptor; /* refused, it costs a waiter some time, not the lock */
    }
    close(descriptor);
    return moved;
}

static bool
is_registered_locked(const struct os_file *file)
{
    os_assert_locked();
    return file->descriptor >= 0 && registered[file->descriptor].serial == file->serial;
}

bool
posix_forget(const struct os_file *file)
{
    os_mutex_lock();
    bool known = is_registered_locked(file);
    if (known) {
        registered[file->descriptor] = (struct entry){.serial = 0};
    }
    os_mutex_unlock();
    return known;
}

void
os_keep_in_child_locked(const struct os_file *file, bool kept)
{
    if (is_registered_locked(file)) {
        registered[file->descriptor].is_kept = kept;
    }
}

bool
os_is_open(const struct os_file *file)
{
    os_mutex_lock();
    bool known = is_registered_locked(file);
    os_mutex_unlock();
    return known && system_is_tagged(file->descriptor);
}

void
os_close(struct os_file *file)
{
    if (file->descriptor < 0) {
        return;
    }
    posix_free_now();
    /* It may block, so forks are not held off: see os_list() for why it is forgotten second. */
    if (os_is_open(file)) {
        close(file->descriptor);
    }
    posix_forget(file);
    file->descriptor = -1;
}

void
posix_close_copies(void)
{
    for (size_t number = 0; number < registered_size; number++) {
        if (registered[number].is_kept) {
            continue;
        }
        if (registered[number].serial != 0 && system_is_tagged((int)number)) {
            close((int)number);
        }
        registered[number].serial = 0;
    }
}
