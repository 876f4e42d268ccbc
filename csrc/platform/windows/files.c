/* Open files, and what is known of files. */
#include "platform/windows/handles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The stamp of this package: nobody else has a reason to set it for such files. Of the modes there
 * is one, which its user might execute: it is a mark of ours, and is here what hides a file. */
#define STAMP FILE_ATTRIBUTE_SYSTEM
#define MARK FILE_ATTRIBUTE_HIDDEN
#define MARK_MODE 0100

#define READ_ACCESS (FILE_READ_DATA | FILE_READ_ATTRIBUTES)
#define WRITE_ACCESS (READ_ACCESS | FILE_WRITE_DATA | FILE_WRITE_ATTRIBUTES)
#define DIRECTORY_ACCESS (FILE_LIST_DIRECTORY | FILE_TRAVERSE)

#define ANYWHERE (-2)
const struct os_file os_anywhere = {.descriptor = ANYWHERE};

/* ---- Names ---- */

/* What is to be opened: by its name in a directory, or by its path. */
static int
locate(const struct os_file *directory, const char *name, struct nt_path *path,
       struct nt_open *wanted)
{
    bool anywhere = directory->descriptor == ANYWHERE;
    *wanted = (struct nt_open){
        .directory = anywhere ? NULL : nt_handle(directory),
        .path = path,
        .share = NT_SHARE_ALL,
        .disposition = FILE_OPEN,
        .options = FILE_OPEN_REPARSE_POINT,
    };
    return anywhere ? nt_absolute(name, path) : nt_name(name, path);
}

static int
open_named(const struct os_file *directory, const char *name, ULONG access, ULONG options,
           HANDLE *handle)
{
    struct nt_path path;
    struct nt_open wanted;
    int error = locate(directory, name, &path, &wanted);
    wanted.access = access;
    wanted.options |= options;
    return error != 0 ? error : nt_open(&wanted, handle);
}

/* A name that is about to be gone is taken, but for a moment only. */
static int
make_named(const struct os_file *directory, const char *name, ULONG access, ULONG options,
           ULONG attributes, HANDLE *handle)
{
    struct nt_path path;
    struct nt_open wanted;
    int error = locate(directory, name, &path, &wanted);
    wanted.access = access;
    wanted.options |= options;
    wanted.disposition = FILE_CREATE;
    wanted.attributes = attributes;
    error = error != 0 ? error : nt_open(&wanted, handle);
    return error == EWOULDBLOCK ? EEXIST : error;
}

/* ---- What is known ---- */

static bool
is_link(HANDLE handle, ULONG attributes)
{
    ULONG tag[2]; /* the attributes, the tag */
    if ((attributes & FILE_ATTRIBUTE_REPARSE_POINT) == 0 ||
        nt_query(handle, NT_ATTRIBUTE_TAG, tag, sizeof tag) != 0) {
        return false;
    }
    return IsReparseTagNameSurrogate(tag[1]);
}

/* As os_date() has it. */
static int64_t
date_of(FILETIME time)
{
    return nt_date((int64_t)((uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime));
}

static enum os_kind
kind_of(ULONG attributes)
{
    return (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0 ? OS_DIRECTORY
           : (attributes & FILE_ATTRIBUTE_DEVICE) != 0  ? OS_OTHER
                                                        : OS_REGULAR;
}

static int
find_status(HANDLE handle, struct os_status *status, int64_t *born)
{
    BY_HANDLE_FILE_INFORMATION found;
    if (!GetFileInformationByHandle(handle, &found)) {
        return nt_errno_of_api(GetLastError());
    }
    *born = date_of(found.ftCreationTime);
    *status = (struct os_status){
        .inode = {found.dwVolumeSerialNumber,
                  (uint64_t)found.nFileIndexHigh << 32 | found.nFileIndexLow},
        .kind = is_link(handle, found.dwFileAttributes) ? OS_LINK : kind_of(found.dwFileAttributes),
        .mode = (found.dwFileAttributes & MARK) != 0 ? MARK_MODE : 0,
        .stamped = (found.dwFileAttributes & STAMP) != 0,
        .links = found.nNumberOfLinks,
        .size = (uint64_t)found.nFileSizeHigh << 32 | found.nFileSizeLow,
    };
    return 0;
}

/* ---- Files in a lock directory, which are not opened ---- */

struct inside_search {
    const wchar_t *name;
    size_t length;
    struct os_inode around;
    struct os_status *status;
    bool found;
};

static bool
visit_inside(void *context, const struct nt_entry *entry)
{
    struct inside_search *search = context;
    search->found = entry->length == search->length &&
                    memcmp(entry->name, search->name, search->length * sizeof(wchar_t)) == 0;
    if (search->found) {
        *search->status = (struct os_status){
            .inode = {search->around.device, entry->number},
            .kind = (entry->attributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0
                        ? OS_LINK
                        : kind_of(entry->attributes),
            .stamped = (entry->attributes & STAMP) != 0,
            .links = 1,
            .size = entry->size,
        };
    }
    return !search->found;
}

static int
find_status_inside(HANDLE directory, struct os_inode around, const char *name,
                   struct os_status *status)
{
    struct nt_path path;
    int error = nt_name(name, &path);
    if (error != 0) {
        return error;
    }
    struct inside_search search = {path.text, path.length, around, status, false};
    error = nt_list(directory, visit_inside, &search);
    return error != 0 ? error : search.found ? 0 : ENOENT;
}

/* The directory, opened once more, in the name of the file. */
static int
stand_for(const struct os_file *inside, const char *name, struct os_inode inode,
          struct os_file *file)
{
    HANDLE again;
    int error = nt_reopen(nt_handle(inside), FILE_LIST_DIRECTORY, NT_SHARE_ALL, FILE_DIRECTORY_FILE,
                          &again);
    return error != 0 ? error : handles_enter(again, inode, true, name, file);
}

int
os_create_inside(const struct os_file *inside, const char *name, struct os_file *file)
{
    HANDLE made;
    struct os_status status;
    int64_t born;
    int error = make_named(inside, name, WRITE_ACCESS, FILE_NON_DIRECTORY_FILE, STAMP, &made);
    if (error != 0) {
        return error;
    }
    error = find_status(made, &status, &born);
    CloseHandle(made);
    if (error == 0) {
        error = stand_for(inside, name, status.inode, file);
    }
    if (error != 0) {
        os_unlink(inside, name);
    }
    return error;
}

int
os_open_inside(const struct os_file *inside, const char *name, enum os_access access,
               struct os_file *file, struct os_status *status)
{
    (void)access;
    int error = find_status_inside(nt_handle(inside), inside->inode, name, status);
    if (error == 0 && status->kind == OS_LINK) {
        error = ELOOP;
    }
    return error != 0 ? error : stand_for(inside, name, status->inode, file);
}

/* ---- Open files ---- */

static int
enter(HANDLE handle, struct os_file *file, struct os_status *status)
{
    int64_t born;
    int error = find_status(handle, status, &born);
    if (error == 0 && status->kind == OS_LINK) {
        error = ELOOP;
    }
    if (error != 0) {
        CloseHandle(handle);
        return error;
    }
    return handles_enter(handle, status->inode, status->kind == OS_DIRECTORY, "", file);
}

int
os_open_directory(const char *path, struct os_file *directory)
{
    struct nt_path spelt;
    struct os_status status;
    HANDLE handle;
    struct nt_open wanted = {
        .path = &spelt,
        .access = DIRECTORY_ACCESS,
        .share = NT_SHARE_ALL,
        .disposition = FILE_OPEN,
        .options = FILE_DIRECTORY_FILE,
    };
    int error = nt_absolute(path, &spelt);
    if (error == 0) {
        error = nt_open(&wanted, &handle);
    }
    if (error == EINVAL) { /* a device, as "nul" is */
        error = ENOTDIR;
    }
    return error != 0 ? error : enter(handle, directory, &status);
}

int
os_create(const struct os_file *directory, const char *name, struct os_file *file)
{
    HANDLE handle;
    struct os_status status;
    int error = make_named(directory, name, WRITE_ACCESS, FILE_NON_DIRECTORY_FILE, STAMP, &handle);
    if (error != 0) {
        return error;
    }
    error = enter(handle, file, &status);
    if (error != 0) {
        os_unlink(directory, name);
    }
    return error;
}

int
os_make_directory(const struct os_file *directory, const char *name, struct os_file *made)
{
    HANDLE handle;
    struct os_status status;
    int error = make_named(directory, name, DIRECTORY_ACCESS, FILE_DIRECTORY_FILE, STAMP, &handle);
    if (error != 0) {
        return error;
    }
    error = enter(handle, made, &status);
    if (error != 0) {
        os_remove_directory(directory, name);
    }
    return error;
}

int
os_open(const struct os_file *directory, const char *name, enum os_access access,
        struct os_file *file, struct os_status *status)
{
    HANDLE handle;
    int error =
        open_named(directory, name, access == OS_WRITE ? WRITE_ACCESS : READ_ACCESS, 0, &handle);
    if (error == EINVAL) { /* a name that nothing can have */
        error = ENOENT;
    }
    return error != 0 ? error : enter(handle, file, status);
}

int
os_open_shared(const struct os_file *directory, const char *name, struct os_file *file,
               struct os_status *status)
{
    struct nt_path path;
    struct nt_open wanted;
    HANDLE handle;
    int error = locate(directory, name, &path, &wanted);
    wanted.access = WRITE_ACCESS;
    wanted.disposition = FILE_OPEN_IF;
    wanted.options |= FILE_NON_DIRECTORY_FILE;
    if (error == 0) {
        error = nt_open(&wanted, &handle);
    }
    return error != 0 ? error : enter(handle, file, status);
}

int
os_make_file(const struct os_file *directory, const char *name)
{
    HANDLE handle;
    int error = make_named(directory, name, WRITE_ACCESS, FILE_NON_DIRECTORY_FILE, 0, &handle);
    if (error == 0) {
        CloseHandle(handle);
    }
    return error;
}

int
os_follow(const struct os_file *directory, const char *name, const struct os_file *file,
          struct os_file *followed)
{
    struct os_status status;
    int error = os_open(directory, name, OS_READ, followed, &status);
    if (error == 0 && !os_same(status.inode, file->inode)) {
        os_close(followed);
        error = ENOENT;
    }
    return error;
}

void
os_end_following(struct os_file *followed)
{
    os_close(followed);
}

/* ---- Status ---- */

int
os_status(const struct os_file *file, struct os_status *status)
{
    int64_t born;
    const struct handle *found = handles_find(file);
    if (found != NULL && found->inside[0] != '\0') {
        return find_status_inside(found->handle, file->inode, found->inside, status);
    }
    return find_status(nt_handle(file), status, &born);
}

static int
find_status_at(const struct os_file *directory, const char *name, struct os_status *status,
               int64_t *born)
{
    HANDLE handle;
    int error = open_named(directory, name, FILE_READ_ATTRIBUTES, 0, &handle);
    if (error == 0) {
        error = find_status(handle, status, born);
        CloseHandle(handle);
    }
    return error == EINVAL ? ENOENT : error;
}

int
os_status_at(const struct os_file *directory, const char *name, struct os_status *status)
{
    int64_t born;
    return find_status_at(directory, name, status, &born);
}

int
os_status_of(const char *path, struct os_status *status)
{
    struct nt_path spelt;
    HANDLE handle;
    int64_t born;
    struct nt_open wanted = {.path = &spelt,
                             .access = FILE_READ_ATTRIBUTES,
                             .share = NT_SHARE_ALL,
                             .disposition = FILE_OPEN};
    int error = nt_absolute(path, &spelt);
    if (error == 0) {
        error = nt_open(&wanted, &handle);
    }
    if (error == 0) {
        error = find_status(handle, status, &born);
        CloseHandle(handle);
    }
    return error;
}

int
os_identify(const struct os_file *directory, const char *name, struct os_identity *identity)
{
    struct os_status status;
    int64_t born;
    int error = find_status_at(directory, name, &status, &born);
    if (error == 0) {
        *identity = (struct os_identity){status.inode, born, status.kind == OS_LINK};
    }
    return error;
}

/* What was spelt \\?\C:\ or \\?\UNC\server\share\. */
static int
spell_resolved(const wchar_t *found, size_t length, char resolved[OS_PATH_SIZE])
{
    bool is_share = wcsncmp(found, L"\\\\?\\UNC\\", 8) == 0;
    size_t skip = is_share ? 7 : wcsncmp(found, L"\\\\?\\", 4) == 0 ? 4 : 0;
    resolved[0] = '\\';
    char *rest = resolved + is_share;
    return nt_narrow(found + skip, length - skip, rest, (size_t)(OS_PATH_SIZE - is_share))
               ? 0
               : ENAMETOOLONG;
}

int
os_resolve(const char *path, char resolved[OS_PATH_SIZE])
{
    struct nt_path spelt, found;
    HANDLE handle;
    struct nt_open wanted = {.path = &spelt,
                             .access = FILE_READ_ATTRIBUTES,
                             .share = NT_SHARE_ALL,
                             .disposition = FILE_OPEN};
    int error = nt_absolute(path, &spelt);
    if (error == 0) {
        error = nt_open(&wanted, &handle);
    }
    if (error != 0) {
        return error;
    }
    DWORD length = GetFinalPathNameByHandleW(handle, found.text, NT_PATH_SIZE, 0);
    error = length == 0              ? nt_errno_of_api(GetLastError())
            : length >= NT_PATH_SIZE ? ENAMETOOLONG
                                     : 0;
    CloseHandle(handle);
    return error != 0 ? error : spell_resolved(found.text, length, resolved);
}

/* ---- Changes ---- */

int
os_set_mode(const struct os_file *file, unsigned mode)
{
    (void)file; /* who may do what is said otherwise here, and inherited from the directory */
    (void)mode;
    return 0;
}

/* Zeros leave as it is what they stand for. */
static int
set_basic(const struct os_file *file, FILE_BASIC_INFO basic)
{
    HANDLE again;
    int error = nt_reopen(nt_handle(file), FILE_WRITE_ATTRIBUTES, NT_SHARE_ALL, 0, &again);
    if (error == 0) {
        error = nt_set(again, NT_BASIC, &basic, sizeof basic);
        CloseHandle(again);
    }
    return error;
}

int
os_stamp(const struct os_file *file, const struct os_status *status)
{
    ULONG kind = status->kind == OS_DIRECTORY ? FILE_ATTRIBUTE_DIRECTORY : 0;
    ULONG mark = (status->mode & MARK_MODE) != 0 ? MARK : 0;
    return set_basic(file, (FILE_BASIC_INFO){.FileAttributes = STAMP | kind | mark});
}

bool
os_may_write(const struct os_file *directory)
{
    (void)directory;
    return true;
}

static FILE_BASIC_INFO
written_now(void)
{
    FILETIME now;
    GetSystemTimePreciseAsFileTime(&now);
    return (FILE_BASIC_INFO){.LastWriteTime.LowPart = now.dwLowDateTime,
                             .LastWriteTime.HighPart = (LONG)now.dwHighDateTime};
}

int
os_touch(const struct os_file *file)
{
    return set_basic(file, written_now());
}

/* A change bears the name by which the handle was opened that made it. */
int
os_touch_named(const struct os_file *directory, const char *name, const struct os_file *file)
{
    HANDLE named;
    int64_t born;
    struct os_status status;
    FILE_BASIC_INFO written = written_now();
    int error = open_named(directory, name, FILE_WRITE_ATTRIBUTES, 0, &named);
    if (error != 0) {
        return error;
    }
    error = find_status(named, &status, &born);
    if (error == 0) {
        error = os_same(status.inode, file->inode)
                    ? nt_set(named, NT_BASIC, &written, sizeof written)
                    : ENOENT;
    }
    CloseHandle(named);
    return error;
}

int
os_read_at(const struct os_file *file, uint64_t offset, void *buffer, size_t size)
{
    OVERLAPPED place = {.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
    DWORD length;
    if (!ReadFile(nt_handle(file), buffer, (DWORD)size, &length, &place)) {
        DWORD error = GetLastError();
        return error == ERROR_HANDLE_EOF ? EIO : nt_errno_of_api(error);
    }
    return length < size ? EIO : 0;
}

/* From its beginning. */
int
os_read(const struct os_file *file, void *buffer, size_t size, size_t *length)
{
    OVERLAPPED place = {.Offset = 0};
    DWORD count = 0;
    BOOL done = ReadFile(nt_handle(file), buffer, (DWORD)size, &count, &place);
    DWORD error = done ? 0 : GetLastError();
    *length = count;
    return done || error == ERROR_HANDLE_EOF ? 0 : nt_errno_of_api(error);
}

int
os_write_at(const struct os_file *file, uint64_t offset, const void *text, size_t size)
{
    OVERLAPPED place = {.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
    DWORD length;
    if (!WriteFile(nt_handle(file), text, (DWORD)size, &length, &place)) {
        return nt_errno_of_api(GetLastError());
    }
    return length < size ? ENOSPC : 0;
}

int
os_truncate(const struct os_file *file, uint64_t size)
{
    LARGE_INTEGER end = {.QuadPart = (LONGLONG)size};
    return nt_set(nt_handle(file), NT_END_OF_FILE, &end, sizeof end);
}

/* ---- Inheritance ---- */

/* There are no forks. */
void
os_keep_in_child_locked(const struct os_file *file, bool kept)
{
    (void)file;
    (void)kept;
}

const bool os_has_descriptors = false;

/* Locks of bytes are the process's that has taken them, whoever else has the handle. */
int
os_keep_in_program(const struct os_file *file, bool kept)
{
    (void)file;
    return kept ? ENOSYS : 0;
}

/* ---- Lists ---- */

struct list_visit {
    bool (*visit)(void *context, const char *name);
    void *context;
};

static bool
visit_name(void *context, const struct nt_entry *entry)
{
    const struct list_visit *list = context;
    char name[4 * NT_NAME_SIZE];
    return !nt_narrow(entry->name, entry->length, name, sizeof name) ||
           list->visit(list->context, name);
}

/* One that is about to be gone has no names in it any more. */
int
os_list(const struct os_file *directory, bool (*visit)(void *context, const char *name),
        void *context)
{
    struct list_visit list = {visit, context};
    int error = nt_list(nt_handle(directory), visit_name, &list);
    return error;
}
