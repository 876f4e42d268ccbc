#include "platform/windows/handles.h"

#include "platform/windows/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 256

/* Guarded by the mutex. */
static struct handle *buckets[BUCKETS];
static uint64_t last_serial;

static struct handle **
find_locked(const struct os_file *file)
{
    os_assert_locked();
    struct handle **link = &buckets[(unsigned)file->descriptor / 4 % BUCKETS];
    while (*link != NULL &&
           ((*link)->handle != nt_handle(file) || (*link)->serial != file->serial)) {
        link = &(*link)->next;
    }
    return link;
}

int
handles_enter(HANDLE handle, struct os_inode inode, bool is_directory, const char *inside,
              struct os_file *file)
{
    struct handle *entered = calloc(1, sizeof *entered);
    if (entered == NULL || strlen(inside) >= HANDLES_INSIDE_SIZE) {
        free(entered);
        CloseHandle(handle);
        return entered == NULL ? ENOMEM : ENAMETOOLONG;
    }
    entered->handle = handle;
    entered->is_directory = is_directory;
    strcpy(entered->inside, inside);
    *file = (struct os_file){.descriptor = (int)(intptr_t)handle, .inode = inode};
    os_mutex_lock();
    entered->serial = ++last_serial;
    file->serial = entered->serial;
    struct handle **bucket = &buckets[(unsigned)file->descriptor / 4 % BUCKETS];
    entered->next = *bucket;
    *bucket = entered;
    os_mutex_unlock();
    return 0;
}

struct handle *
handles_find(const struct os_file *file)
{
    os_mutex_lock();
    struct handle *found = *find_locked(file);
    os_mutex_unlock();
    return found;
}

struct watch *
handles_watch(int descriptor)
{
    os_mutex_lock();
    struct handle *found = buckets[(unsigned)descriptor / 4 % BUCKETS];
    while (found != NULL && found->handle != (HANDLE)(intptr_t)descriptor) {
        found = found->next;
    }
    os_mutex_unlock();
    return found != NULL ? found->watch : NULL;
}

bool
os_is_open(const struct os_file *file)
{
    return file->descriptor != -1 && handles_find(file) != NULL;
}

static void
close_if_any(HANDLE handle)
{
    if (handle != NULL) {
        CloseHandle(handle);
    }
}

void
os_close(struct os_file *file)
{
    if (file->descriptor == -1) {
        return;
    }
    os_mutex_lock();
    struct handle **link = find_locked(file);
    struct handle *found = *link;
    if (found != NULL) {
        *link = found->next;
    }
    os_mutex_unlock();
    if (found != NULL) {
        watch_end(found->watch);
        close_if_any(found->queue);
        close_if_any(found->lock);
        CloseHandle(found->handle);
        free(found);
    }
    file->descriptor = -1;
}
