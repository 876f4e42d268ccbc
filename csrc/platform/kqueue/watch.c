/* Watches, by kqueue: of files that are kept open for it. */
#include "platform/system.h"

#include "platform/posix/forks.h"
#include "platform/posix/register.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/event.h>
#include <sys/select.h>
#include <unistd.h>

#ifdef O_EVTONLY
#define OPEN_TO_WATCH O_EVTONLY /* such a file keeps no volume from being taken away */
#else
#define OPEN_TO_WATCH O_RDONLY
#endif

/* What comes when an owner dies: its flock goes, or its descriptor that could write. */
#if defined(NOTE_FUNLOCK)
#define NOTE_DEATH NOTE_FUNLOCK
#elif defined(NOTE_CLOSE_WRITE)
#define NOTE_DEATH NOTE_CLOSE_WRITE
#endif

#define CHANGES (NOTE_DELETE | NOTE_LINK | NOTE_ATTRIB | NOTE_RENAME | NOTE_DEATH)
#define DIRECTORY_CHANGES (NOTE_DELETE | NOTE_WRITE)

/* ---- What is watched: a file, or a lock directory and the file in it ---- */

#define WATCHED 16 /* more than a process waits for */

struct watched {
    uint64_t watch; /* its serial number; 0: nothing is watched here */
    struct os_file file;
    struct os_file inside;
};

/* Guarded by the mutex. */
static struct watched all[WATCHED];
static uint64_t generation;

/* A child's copies were closed by the fork. */
static bool
take_place(const struct os_file *watch, int *place)
{
    bool found = false;
    os_mutex_lock();
    if (os_has_forked(&generation)) {
        memset(all, 0, sizeof all);
    }
    for (int i = 0; i < WATCHED && !found; i++) {
        found = all[i].watch == 0;
        if (found) {
            all[i] = (struct watched){watch->serial, OS_NO_FILE, OS_NO_FILE};
            *place = i;
        }
    }
    os_mutex_unlock();
    return found;
}

static void
fill_place(int place, struct os_file file, struct os_file inside)
{
    os_mutex_lock();
    all[place].file = file;
    all[place].inside = inside;
    os_mutex_unlock();
}

static void
free_place(const struct os_file *watch, int place)
{
    struct os_file file = OS_NO_FILE, inside = OS_NO_FILE;
    os_mutex_lock();
    if (all[place].watch == watch->serial) { /* no child's */
        file = all[place].file;
        inside = all[place].inside;
        all[place].watch = 0;
    }
    os_mutex_unlock();
    os_close(&file); /* which ends its events, too */
    os_close(&inside);
}

static int
open_to_watch(const struct os_file *directory, const char *name, struct os_file *file)
{
    posix_hold_off_forks();
    int flags = OPEN_TO_WATCH | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int descriptor = openat(directory->descriptor, name, flags);
    int error = descriptor < 0 ? errno : posix_enter(descriptor, file);
    if (error != 0 && descriptor >= 0) {
        close(descriptor);
    }
    posix_allow_forks();
    return error;
}

struct search {
    const struct os_file *directory;
    struct os_file *inside;
};

static bool
open_first(void *context, const char *name)
{
    struct search *search = context;
    return name[0] == '.' || open_to_watch(search->directory, name, search->inside) != 0;
}

static int
watch_file(const struct os_file *watch, const struct os_file *file, unsigned changes)
{
    struct kevent event;
    if (os_is_none(file)) {
        return 0;
    }
    EV_SET(&event, (uintptr_t)file->descriptor, EVFILT_VNODE, EV_ADD | EV_CLEAR, changes, 0, NULL);
    return kevent(watch->descriptor, &event, 1, NULL, 0, NULL) == 0 ? 0 : errno;
}

/* ---- Watches ---- */

int
os_watch_open(struct os_file *watch)
{
    posix_hold_off_forks();
    int descriptor = kqueue();
    int error = descriptor < 0 ? errno : 0;
    if (error == 0 && descriptor >= FD_SETSIZE) {
        error = EMFILE; /* system_wait() could not wait for it */
    }
    if (error == 0 && fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0) {
        error = errno;
    }
    if (error == 0) {
        error = posix_enter(descriptor, watch);
    }
    if (error != 0 && descriptor >= 0) {
        close(descriptor);
    }
    posix_allow_forks();
    return error;
}

/* Nobody but its owner writes into a lock directory: what goes on in it is a release. That an
 * owner has died is to be seen from its file alone. */
int
os_watch_add(const struct os_file *watch, const char *path, enum os_kind kind, int *watched)
{
    struct os_file file = OS_NO_FILE, inside = OS_NO_FILE;
    struct search search = {&file, &inside};
    int place;
    int error = open_to_watch(&os_anywhere, path, &file);
    if (error == 0) {
        error = watch_file(watch, &file, kind == OS_DIRECTORY ? DIRECTORY_CHANGES : CHANGES);
    }
    if (error == 0 && kind == OS_DIRECTORY) {
        os_list(&file, open_first, &search); /* refused, it costs time, not the lock */
        error = watch_file(watch, &inside, CHANGES);
    }
    if (error == 0 && !take_place(watch, &place)) {
        error = EMFILE;
    }
    if (error != 0) {
        os_close(&file);
        os_close(&inside);
        return error;
    }
    fill_place(place, file, inside);
    *watched = place;
    return 0;
}

void
os_watch_remove(const struct os_file *watch, int *watched)
{
    if (*watched >= 0) {
        free_place(watch, *watched);
    }
    *watched = -1;
}

/* The events of earlier waits have ended with their files. */
bool
os_watch_read(const struct os_file *watch, int *watched)
{
    static const struct timespec at_once = {0, 0};
    struct kevent events[8];
    bool died = false;
    int count;
    (void)watched;
    do {
        count = kevent(watch->descriptor, NULL, 0, events, 8, &at_once);
        for (int i = 0; i < count; i++) {
            died = died || (events[i].fflags & NOTE_DEATH) != 0;
        }
    } while (count == 8);
    return died;
}

/* NOTE_DEATH tells of it. */
const bool os_watch_wants_owner = false;

void
os_watch_owner(const struct os_file *watch, int process)
{
    (void)watch;
    (void)process;
}

/* Which file an event is of is not kept: each waiter has a watch of its own. */
const bool os_watch_serves_many = false;

size_t
os_watch_events(const struct os_file *watch, struct os_event events[OS_EVENTS])
{
    (void)watch;
    (void)events;
    return 0;
}

void
os_watch_end(const struct os_file *watch, int *watched)
{
    os_watch_remove(watch, watched); /* which looks at nothing that has happened */
}
