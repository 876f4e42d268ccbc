/* Within this folder: the system calls below the Windows API. They take names relative to an open
 * directory, make and open a directory in one go, and say "delete pending" where that API says
 * "access denied". */
#ifndef LOCKFILE_WINDOWS_NT_H
#define LOCKFILE_WINDOWS_NT_H

#include "platform/os.h"

#define WIN32_LEAN_AND_MEAN
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0A00
#endif
#include <windows.h>
#include <winternl.h>

#define NT_PATH_SIZE (OS_PATH_SIZE + 16)
#define NT_NAME_SIZE 512
#define NT_SHARE_ALL (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)

/* In UTF-16, in a buffer of its own. */
struct nt_path {
    size_t length;
    wchar_t text[NT_PATH_SIZE];
};

/* Text is UTF-8 in all of this project, with lone surrogates as Python has them. False: no room. */
bool nt_widen(const char *text, wchar_t *wide, size_t size, size_t *length);
bool nt_narrow(const wchar_t *wide, size_t length, char *text, size_t size);

/* A name in a directory, which must be one that others can use, too: 0, EINVAL, ENAMETOOLONG. */
int nt_name(const char *name, struct nt_path *path);

/* An absolute path, as the system calls spell it. */
int nt_absolute(const char *path, struct nt_path *spelt);

/* What is to be opened, and how. */
struct nt_open {
    HANDLE directory; /* NULL: the path is absolute */
    const struct nt_path *path;
    ULONG access;
    ULONG share;
    ULONG disposition; /* FILE_OPEN, FILE_CREATE, FILE_OPEN_IF */
    ULONG options;
    ULONG attributes; /* of what is made */
    bool overlapped;  /* calls on it do not wait */
};

/* An errno value. */
int nt_open(const struct nt_open *wanted, HANDLE *handle);

/* Opens once more what the handle stands for, whatever it is called by now. */
int nt_reopen(HANDLE handle, ULONG access, ULONG share, ULONG options, HANDLE *again);

/* What a status, or an error of the Windows API, is called in C. */
int nt_errno(NTSTATUS status);
int nt_errno_of_api(DWORD error);

/* Of the calls that not all headers know. Class: a number of FILE_INFORMATION_CLASS. */
int nt_set(HANDLE handle, int class, void *data, size_t size);
int nt_query(HANDLE handle, int class, void *data, size_t size);
int nt_query_volume(HANDLE handle, int class, void *data, size_t size);

enum {
    NT_BASIC = 4,
    NT_STANDARD = 5,
    NT_RENAME = 10,
    NT_LINK = 11,
    NT_DISPOSITION = 13,
    NT_END_OF_FILE = 20,
    NT_ATTRIBUTE_TAG = 35,
    NT_ID_LIST = 37, /* of a directory: names, attributes and numbers */
    NT_ID = 59,
    NT_DISPOSITION_EX = 64,
};

/* Calls visit for every entry of a directory, "." and ".." too, until it returns false. */
struct nt_entry {
    const wchar_t *name;
    size_t length;
    uint64_t number;
    uint64_t size;
    int64_t born;
    ULONG attributes;
};
int nt_list(HANDLE directory, bool (*visit)(void *context, const struct nt_entry *entry),
            void *context);

/* Nanoseconds since 1970, of the system's times. */
static inline int64_t
nt_date(int64_t since_1601)
{
    return (since_1601 - INT64_C(116444736000000000)) * 100;
}

static inline HANDLE
nt_handle(const struct os_file *file)
{
    return (HANDLE)(intptr_t)file->descriptor; /* handles have 32 bits, whatever the machine has */
}

#endif
