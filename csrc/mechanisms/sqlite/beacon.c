#include "mechanisms/sqlite/beacon.h"

#include "mechanisms/sqlite/trust.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* So many files that no claim uses stay open for the next one. */
#define IDLE_FILES 8

/* Even numbers below 2^62. */
#define BYTE_BITS 62
#define LATCH_BYTE (UINT64_C(1) << BYTE_BITS)

/* Those of the waiters, up to 2^63. */
#define QUEUES ((UINT64_C(1) << BYTE_BITS) + 1)
#define QUEUE_BITS 15

struct shared {
    struct shared *next;
    unsigned claims;
    struct os_file file;
    struct ground ground; /* an open file's file system does not change */
    char path[];
};

/* Most recently used first. Guarded by the mutex, as are its claims. */
static struct shared *files;
static uint64_t files_generation;

bool
beacon_path(const char *database, char path[OS_PATH_SIZE])
{
    return snprintf(path, OS_PATH_SIZE, "%s-beacons", database) < OS_PATH_SIZE;
}

/* ---- The files that this process has open ---- */

/* A child's copies were closed by the fork. */
static void
forget_parent_locked(void)
{
    if (!os_has_forked(&files_generation)) {
        return;
    }
    while (files != NULL) {
        struct shared *next = files->next;
        os_free_later_locked(files);
        files = next;
    }
}

/* Takes out one that is idle, if there are too many; the caller closes it. */
static struct shared *
take_oldest_idle_locked(void)
{
    os_assert_locked();
    struct shared **oldest = NULL;
    unsigned idle = 0;
    for (struct shared **link = &files; *link != NULL; link = &(*link)->next) {
        if ((*link)->claims == 0) {
            oldest = link;
            idle++;
        }
    }
    if (idle <= IDLE_FILES) {
        return NULL;
    }
    struct shared *taken = *oldest;
    *oldest = taken->next;
    return taken;
}

static void
close_shared(struct shared *shared)
{
    if (shared != NULL) {
        os_close(&shared->file);
        free(shared);
    }
}

/* Counts a claim more, and moves it to the front. */
static bool
find_shared(const char *path, struct os_inode inode, struct os_file *file, struct ground *ground)
{
    bool found = false;
    os_mutex_lock();
    forget_parent_locked();
    for (struct shared **link = &files; *link != NULL && !found; link = &(*link)->next) {
        struct shared *shared = *link;
        if (os_same(shared->file.inode, inode) && strcmp(shared->path, path) == 0) {
            found = true;
            *link = shared->next;
            shared->next = files;
            files = shared;
            shared->claims++;
            *file = shared->file;
            *ground = shared->ground;
            break;
        }
    }
    os_mutex_unlock();
    return found;
}

static void
enter_shared(struct shared *shared)
{
    os_mutex_lock();
    forget_parent_locked();
    shared->claims = 1;
    shared->next = files;
    files = shared;
    os_mutex_unlock();
}

/* Takes out what was lost, so that it is not found again. Its claims find that out
 * for themselves. */
static void
drop_lost(const struct os_file *file)
{
    struct shared *lost = NULL;
    os_mutex_lock();
    for (struct shared **link = &files; *link != NULL; link = &(*link)->next) {
        if ((*link)->file.serial == file->serial) {
            lost = *link;
            *link = lost->next;
            break;
        }
    }
    os_mutex_unlock();
    close_shared(lost);
}

void
beacon_leave(const struct os_file *file)
{
    os_mutex_lock();
    forget_parent_locked();
    for (struct shared *shared = files; shared != NULL; shared = shared->next) {
        if (shared->file.serial == file->serial) {
            shared->claims--;
            break;
        }
    }
    struct shared *oldest = take_oldest_idle_locked();
    os_mutex_unlock();
    close_shared(oldest);
}

static int
open_file(const char *path, unsigned mode, struct os_file *file)
{
    struct os_status status;
    int error = os_open_shared(&os_anywhere, path, file, &status);
    if (error != 0) {
        return error;
    }
    error = status.kind == OS_REGULAR ? trust_check(path, &status) : ENODEV;
    /* Whoever may use the database must be able to use this. */
    if (error == 0 && status.mode != mode && status.user == os_user()) {
        error = os_set_mode(file, mode);
    }
    if (error != 0) {
        os_close(file);
    }
    return error;
}

static int
open_shared(const char *path, unsigned mode, struct shared *shared)
{
    int error = open_file(path, mode, &shared->file);
    if (error == 0 && (error = proof_find_ground(&shared->file, &shared->ground)) != 0) {
        os_close(&shared->file);
    }
    return error;
}

int
beacon_share(const char *path, unsigned mode, bool make, struct os_file *file,
             struct ground *ground)
{
    struct os_status status;
    int error = os_status_at(&os_anywhere, path, &status);
    if (error == ENOENT && !make) {
        return error;
    }
    if (error == 0 && find_shared(path, status.inode, file, ground)) {
        if (os_is_open(file)) {
            return 0;
        }
        drop_lost(file);
    }
    size_t size = strlen(path) + 1;
    struct shared *shared = calloc(1, sizeof *shared + size);
    if (shared == NULL) {
        return ENOMEM;
    }
    memcpy(shared->path, path, size);
    error = open_shared(path, mode, shared);
    if (error != 0) {
        free(shared);
        return error;
    }
    *file = shared->file;
    *ground = shared->ground;
    enter_shared(shared);
    return 0;
}

/* ---- Bytes ---- */

int
beacon_light(const struct os_file *file, struct beacon *beacon)
{
    beacon->file = file->inode.number;
    beacon->byte = (os_random() >> (64 - BYTE_BITS)) & ~UINT64_C(1);
    return beacon_take(file, *beacon);
}

int
beacon_take(const struct os_file *file, struct beacon beacon)
{
    return os_lock_byte(file, beacon.byte, OS_EXCLUSIVE);
}

void
beacon_darken(const struct os_file *file, struct beacon beacon)
{
    os_lock_byte(file, beacon.byte, OS_UNLOCK);
}

int
beacon_look(const struct os_file *file, struct beacon beacon)
{
    return os_find_lock(file, beacon.byte);
}

bool
beacon_is_vain(const char *path, struct beacon beacon)
{
    struct os_file other;
    struct os_status status;
    if (os_open(&os_anywhere, path, OS_WRITE, &other, &status) != 0) {
        return false;
    }
    bool vain = os_same(status.inode, (struct os_inode){status.inode.device, beacon.file}) &&
                beacon_take(&other, beacon) == 0;
    if (vain) {
        beacon_darken(&other, beacon);
    }
    os_close(&other);
    return vain;
}

/* ---- The latch ---- */

int
beacon_open_latch(const char *path, unsigned mode, struct os_file *latch, bool *shared)
{
    struct os_status status;
    int error = open_file(path, mode, latch);
    *shared = os_is_read_only(error);
    if (!*shared) {
        return error;
    }
    int unreadable = os_open(&os_anywhere, path, OS_READ, latch, &status);
    if (unreadable != 0) {
        return unreadable == ENOENT ? error : unreadable;
    }
    error = status.kind == OS_REGULAR ? trust_check(path, &status) : ENODEV;
    if (error != 0) {
        os_close(latch);
    }
    return error;
}

int
beacon_latch(const struct os_file *latch, bool shared)
{
    return os_lock_byte(latch, LATCH_BYTE, shared ? OS_SHARED : OS_EXCLUSIVE);
}

void
beacon_unlatch(const struct os_file *latch)
{
    os_lock_byte(latch, LATCH_BYTE, OS_UNLOCK);
}

/* ---- Queues ---- */

uint64_t
beacon_queue(struct beacon beacon)
{
    return QUEUES + (beacon.byte >> (BYTE_BITS - QUEUE_BITS)) * 2 * OS_QUEUE_SIZE;
}
