/* Watches: of the directory around what is watched, and of a process. */
#include "platform/windows/watch.h"

#include "platform/windows/handles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CANCEL_TIME 1000 /* milliseconds */

/* What the system writes to, until it says that it is done. */
struct watch {
    OVERLAPPED overlapped;
    _Alignas(8) unsigned char notes[4096];
    HANDLE directory; /* NULL: nothing is watched */
    HANDLE process;   /* or NULL */
    DWORD changes;    /* of which kinds */
    bool armed;       /* the system writes */
    bool happened;    /* and it was told, but not yet read */
    size_t length;
    wchar_t name[NT_NAME_SIZE]; /* in the directory */
};

/* ---- Begin and end ---- */

/* What waits for a watch waits for its event. */
int
os_watch_open(struct os_file *file)
{
    HANDLE event = CreateEventW(NULL, TRUE, FALSE, NULL);
    struct watch *watch = calloc(1, sizeof *watch);
    if (event == NULL || watch == NULL) {
        free(watch);
        if (event != NULL) {
            CloseHandle(event);
        }
        return ENOMEM;
    }
    watch->overlapped.hEvent = event;
    int error = handles_enter(event, (struct os_inode){0, 0}, false, "", file);
    if (error != 0) {
        free(watch);
        return error;
    }
    handles_find(file)->watch = watch;
    return 0;
}

static struct watch *
watch_of(const struct os_file *file)
{
    const struct handle *found = handles_find(file);
    return found != NULL ? found->watch : NULL;
}

/* False: the system does not let go of it. */
static bool
disarm(struct watch *watch)
{
    if (watch->armed && !HasOverlappedIoCompleted(&watch->overlapped)) {
        CancelIoEx(watch->directory, &watch->overlapped);
        WaitForSingleObject(watch->overlapped.hEvent, CANCEL_TIME);
    }
    bool done = !watch->armed || HasOverlappedIoCompleted(&watch->overlapped);
    watch->armed = watch->armed && !done;
    return done;
}

static void
close_all(struct watch *watch)
{
    if (watch->directory != NULL) {
        CloseHandle(watch->directory);
        watch->directory = NULL;
    }
    if (watch->process != NULL) {
        CloseHandle(watch->process);
        watch->process = NULL;
    }
}

void
watch_end(struct watch *watch)
{
    if (watch != NULL) {
        bool done = disarm(watch);
        close_all(watch);
        if (done) {
            free(watch); /* else it is the system's to write to */
        }
    }
}

/* ---- What is watched ---- */

static int
arm(struct watch *watch)
{
    memset(&watch->overlapped, 0, offsetof(OVERLAPPED, hEvent));
    BOOL begun = ReadDirectoryChangesW(watch->directory, watch->notes, sizeof watch->notes, FALSE,
                                       watch->changes, NULL, &watch->overlapped, NULL);
    watch->armed = begun;
    return begun ? 0 : nt_errno_of_api(GetLastError());
}

static int
open_around(const char *path, HANDLE *directory)
{
    char around[OS_PATH_SIZE];
    struct nt_path spelt;
    size_t length = (size_t)(os_last_name(path) - path);
    if (length >= OS_PATH_SIZE) {
        return ENAMETOOLONG;
    }
    memcpy(around, path, length);
    around[length] = '\0';
    int error = nt_absolute(around, &spelt);
    struct nt_open wanted = {
        .path = &spelt,
        .access = FILE_LIST_DIRECTORY,
        .share = NT_SHARE_ALL,
        .disposition = FILE_OPEN,
        .options = FILE_DIRECTORY_FILE,
        .overlapped = true,
    };
    return error != 0 ? error : nt_open(&wanted, directory);
}

int
os_watch_add(const struct os_file *file, const char *path, enum os_kind kind, int *watched)
{
    struct watch *watch = watch_of(file);
    if (watch == NULL || watch->armed || watch->directory != NULL ||
        !nt_widen(os_last_name(path), watch->name, NT_NAME_SIZE, &watch->length)) {
        return EBUSY;
    }
    int error = open_around(path, &watch->directory);
    if (error == 0) {
        watch->changes = kind == OS_DIRECTORY
                             ? FILE_NOTIFY_CHANGE_DIR_NAME
                             : FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_LAST_WRITE;
        watch->happened = false;
        error = arm(watch);
    }
    if (error != 0) {
        close_all(watch);
        return error;
    }
    *watched = 1;
    return 0;
}

const bool os_watch_wants_owner = true;

void
os_watch_owner(const struct os_file *file, int process)
{
    struct watch *watch = watch_of(file);
    if (watch != NULL && watch->directory != NULL && watch->process == NULL) {
        watch->process = OpenProcess(SYNCHRONIZE, FALSE, (DWORD)process); /* NULL: no hint */
    }
}

void
os_watch_remove(const struct os_file *file, int *watched)
{
    struct watch *watch = *watched >= 0 ? watch_of(file) : NULL;
    if (watch != NULL) {
        disarm(watch);
        close_all(watch);
    }
    *watched = -1;
}

/* ---- What has happened ---- */

HANDLE
watch_process(const struct watch *watch)
{
    return watch != NULL ? watch->process : NULL;
}

static bool
is_about(const struct watch *watch, const FILE_NOTIFY_INFORMATION *note)
{
    return CompareStringOrdinal(note->FileName, (int)(note->FileNameLength / sizeof(wchar_t)),
                                watch->name, (int)watch->length, TRUE) == CSTR_EQUAL;
}

/* Of none is there a note when there were too many, and when the watch has failed. */
static bool
is_noted(const struct watch *watch)
{
    DWORD size = (DWORD)watch->overlapped.InternalHigh;
    const unsigned char *at = watch->notes;
    if (size == 0) {
        return true;
    }
    for (;;) {
        const FILE_NOTIFY_INFORMATION *note = (const FILE_NOTIFY_INFORMATION *)at;
        if (is_about(watch, note)) {
            return true;
        }
        if (note->NextEntryOffset == 0) {
            return false;
        }
        at += note->NextEntryOffset;
    }
}

bool
watch_is_over(struct watch *watch)
{
    if (watch == NULL || !watch->armed) {
        return true;
    }
    if (!HasOverlappedIoCompleted(&watch->overlapped)) {
        return watch->happened;
    }
    watch->armed = false;
    watch->happened = is_noted(watch) || watch->happened;
    bool goes_on = arm(watch) == 0;
    return watch->happened || !goes_on;
}

bool
os_watch_read(const struct os_file *file, int *watched)
{
    struct watch *watch = watch_of(file);
    bool ended = false;
    if (watch == NULL) {
        return false;
    }
    watch_is_over(watch);
    watch->happened = false;
    if (watch->process != NULL && WaitForSingleObject(watch->process, 0) == WAIT_OBJECT_0) {
        ended = true;
        CloseHandle(watch->process);
        watch->process = NULL;
    }
    if (!watch->armed) {
        close_all(watch);
        *watched = -1;
    }
    return ended;
}

/* Of two lock files in one directory, each would be told of the other's. */
const bool os_watch_serves_many = false;

size_t
os_watch_events(const struct os_file *file, struct os_event events[OS_EVENTS])
{
    (void)file;
    (void)events;
    return 0;
}

void
os_watch_end(const struct os_file *file, int *watched)
{
    os_watch_remove(file, watched);
}
