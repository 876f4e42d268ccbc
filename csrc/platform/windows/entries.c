/* Names in directories: linked, renamed and removed. What a name stands for is opened first; so
 * nothing else can come under it in between. */
#include "platform/windows/nt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As the system lays it out, for a new name. */
struct new_name {
    ULONG replace; /* a byte of it, or flags */
    HANDLE directory;
    ULONG name_size;
    WCHAR name[256];
};

static int
open_entry(const struct os_file *directory, const char *name, ULONG access, HANDLE *handle)
{
    struct nt_path path;
    int error = nt_name(name, &path);
    struct nt_open wanted = {
        .directory = nt_handle(directory),
        .path = &path,
        .access = access,
        .share = NT_SHARE_ALL,
        .disposition = FILE_OPEN,
        .options = FILE_OPEN_REPARSE_POINT,
    };
    return error != 0 ? error : nt_open(&wanted, handle);
}

static int
give_name(HANDLE handle, int class, const struct os_file *directory, const char *name, bool replace)
{
    struct nt_path path;
    struct new_name wanted = {.replace = replace, .directory = nt_handle(directory)};
    int error = nt_name(name, &path);
    if (error != 0) {
        return error;
    }
    wanted.name_size = (ULONG)(path.length * sizeof(wchar_t));
    memcpy(wanted.name, path.text, wanted.name_size);
    return nt_set(handle, class, &wanted, sizeof wanted);
}

static bool
is_taken(const struct os_file *directory, const char *name)
{
    HANDLE handle;
    int error = open_entry(directory, name, FILE_READ_ATTRIBUTES, &handle);
    if (error == 0) {
        CloseHandle(handle);
    }
    return error == 0 || error == EWOULDBLOCK;
}

int
os_link(const struct os_file *directory, const char *existing, const char *name)
{
    HANDLE handle;
    int error = open_entry(directory, existing, FILE_WRITE_ATTRIBUTES, &handle);
    if (error != 0) {
        return error;
    }
    error = give_name(handle, NT_LINK, directory, name, false);
    CloseHandle(handle);
    return error == EACCES && is_taken(directory, name) ? EEXIST : error;
}

/* "Access denied" is what a name says that is about to be gone, and a directory in which
 * something is open. The right to rename it was granted before. */
static int
rename_entry(const struct os_file *directory, const char *from, const char *to, bool replace)
{
    HANDLE handle;
    int error = open_entry(directory, from, DELETE, &handle);
    if (error != 0) {
        return error;
    }
    error = give_name(handle, NT_RENAME, directory, to, replace);
    CloseHandle(handle);
    if (error == EACCES || error == EWOULDBLOCK) {
        error = is_taken(directory, to) ? EEXIST : EWOULDBLOCK;
    }
    return error;
}

int
os_rename(const struct os_file *directory, const char *from, const char *to)
{
    return rename_entry(directory, from, to, false);
}

int
os_move(const struct os_file *directory, const char *from, const char *to)
{
    return rename_entry(directory, from, to, true);
}

/* ---- Symbolic links ---- */

/* To make one is a privilege, which next to no user has. */
int
os_link_text(const struct os_file *directory, const char *text, const char *name)
{
    (void)directory;
    (void)text;
    (void)name;
    return ENOSYS;
}

/* So none is ours. */
int
os_read_link(const struct os_file *directory, const char *name, char *text, size_t size)
{
    (void)text;
    (void)size;
    struct os_status status;
    int error = os_status_at(directory, name, &status);
    return error != 0 ? error : status.kind == OS_LINK ? ELOOP : EINVAL;
}

/* ---- Removal ---- */

#define DISPOSE_NOW 0x13 /* delete, with the semantics of POSIX, though it is read-only */

/* In the way of nobody. */
static void
move_away(HANDLE handle, const struct os_file *directory)
{
    char name[64];
    snprintf(name, sizeof name, ".removed-%016llx", (unsigned long long)os_random());
    give_name(handle, NT_RENAME, directory, name, false);
}

/* Where names cannot be removed at once, they stay while others have the file open: so that of a
 * file is freed before. By a handle with whose end the file goes, so that nothing stays of it if
 * the process is killed in between. */
static int
dispose_later(HANDLE handle, const struct os_file *directory)
{
    HANDLE last;
    ULONG options = FILE_DELETE_ON_CLOSE | FILE_NON_DIRECTORY_FILE | FILE_OPEN_REPARSE_POINT;
    int error = nt_reopen(handle, DELETE, NT_SHARE_ALL, options, &last);
    if (error == 0) {
        move_away(last, directory);
        CloseHandle(last);
    }
    return error;
}

static int
dispose(HANDLE handle, const struct os_file *directory, bool is_file)
{
    ULONG flags = DISPOSE_NOW;
    BOOLEAN yes = TRUE;
    int error = nt_set(handle, NT_DISPOSITION_EX, &flags, sizeof flags);
    if (error != ENOSYS && error != EINVAL) {
        return error;
    }
    return is_file ? dispose_later(handle, directory)
                   : nt_set(handle, NT_DISPOSITION, &yes, sizeof yes);
}

static int
open_to_remove(const struct os_file *directory, const char *name, ULONG kind, HANDLE *handle)
{
    struct nt_path path;
    int error = nt_name(name, &path);
    struct nt_open wanted = {
        .directory = nt_handle(directory),
        .path = &path,
        .access = DELETE,
        .share = NT_SHARE_ALL,
        .disposition = FILE_OPEN,
        .options = FILE_OPEN_REPARSE_POINT | kind,
    };
    return error != 0 ? error : nt_open(&wanted, handle);
}

static int
remove_entry(const struct os_file *directory, const char *name, ULONG kind)
{
    HANDLE handle;
    int error = open_to_remove(directory, name, kind, &handle);
    if (error == 0) {
        error = dispose(handle, directory, kind == FILE_NON_DIRECTORY_FILE);
        CloseHandle(handle);
    }
    return error;
}

bool
os_may_unlink(const struct os_file *directory, const char *name)
{
    HANDLE handle;
    int error = open_to_remove(directory, name, FILE_NON_DIRECTORY_FILE, &handle);
    if (error == 0) {
        CloseHandle(handle);
    }
    return !os_is_forbidden(error);
}

int
os_unlink(const struct os_file *directory, const char *name)
{
    return remove_entry(directory, name, FILE_NON_DIRECTORY_FILE);
}

int
os_remove_directory(const struct os_file *directory, const char *name)
{
    return remove_entry(directory, name, FILE_DIRECTORY_FILE);
}
