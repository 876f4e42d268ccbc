#include "platform/windows/nt.h"

#include <errno.h>
#include <string.h>

typedef NTSTATUS NTAPI nt_setter(HANDLE, IO_STATUS_BLOCK *, void *, ULONG, int);
typedef NTSTATUS NTAPI nt_lister(HANDLE, HANDLE, void *, void *, IO_STATUS_BLOCK *, void *, ULONG,
                                 int, BOOLEAN, UNICODE_STRING *, BOOLEAN);

/* ---- Calls that headers declare here and there ---- */

/* They are in the library that every process has. */
static void
find_call(const char *name, void *place)
{
    FARPROC found = GetProcAddress(GetModuleHandleW(L"ntdll.dll"), name);
    memcpy(place, &found, sizeof found);
}

static int
call_setter(const char *name, HANDLE handle, int class, void *data, size_t size)
{
    IO_STATUS_BLOCK block;
    nt_setter *call;
    find_call(name, &call);
    NTSTATUS status = call(handle, &block, data, (ULONG)size, class);
    return status >= 0 ? 0 : nt_errno(status);
}

int
nt_set(HANDLE handle, int class, void *data, size_t size)
{
    return call_setter("NtSetInformationFile", handle, class, data, size);
}

int
nt_query(HANDLE handle, int class, void *data, size_t size)
{
    return call_setter("NtQueryInformationFile", handle, class, data, size);
}

int
nt_query_volume(HANDLE handle, int class, void *data, size_t size)
{
    return call_setter("NtQueryVolumeInformationFile", handle, class, data, size);
}

/* ---- Opening ---- */

int
nt_open(const struct nt_open *wanted, HANDLE *handle)
{
    UNICODE_STRING name = {
        .Length = (USHORT)(wanted->path->length * sizeof(wchar_t)),
        .MaximumLength = (USHORT)(wanted->path->length * sizeof(wchar_t)),
        .Buffer = (wchar_t *)wanted->path->text,
    };
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK block;
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, wanted->directory, NULL);
    ULONG options = wanted->options | FILE_OPEN_FOR_BACKUP_INTENT;
    options |= wanted->overlapped ? 0 : FILE_SYNCHRONOUS_IO_NONALERT;
    NTSTATUS status = NtCreateFile(handle, wanted->access | SYNCHRONIZE | FILE_READ_ATTRIBUTES,
                                   &attributes, &block, NULL, wanted->attributes, wanted->share,
                                   wanted->disposition, options, NULL, 0);
    if (status < 0) {
        *handle = NULL;
    }
    return status >= 0 ? 0 : nt_errno(status);
}

int
nt_reopen(HANDLE handle, ULONG access, ULONG share, ULONG options, HANDLE *again)
{
    struct nt_open wanted = {
        .directory = handle,
        .path = &(const struct nt_path){.length = 0},
        .access = access,
        .share = share,
        .disposition = FILE_OPEN,
        .options = options,
    };
    return nt_open(&wanted, again);
}

/* ---- Listing ---- */

/* As the system lays it out, with padding. */
struct id_entry {
    ULONG next, index;
    LARGE_INTEGER born, accessed, written, changed, size, allocated;
    ULONG attributes, name_length, extended_size;
    CCHAR short_length;
    WCHAR short_name[12];
    LARGE_INTEGER number;
    WCHAR name[1];
};

static bool
visit_block(const char *block, bool (*visit)(void *context, const struct nt_entry *entry),
            void *context)
{
    const struct id_entry *entry;
    do {
        entry = (const struct id_entry *)block;
        struct nt_entry found = {
            .name = entry->name,
            .length = entry->name_length / sizeof(wchar_t),
            .number = (uint64_t)entry->number.QuadPart,
            .size = (uint64_t)entry->size.QuadPart,
            .born = entry->born.QuadPart,
            .attributes = entry->attributes,
        };
        if (!visit(context, &found)) {
            return false;
        }
        block += entry->next;
    } while (entry->next != 0);
    return true;
}

/* By a handle of its own, which knows how far it has come. */
int
nt_list(HANDLE directory, bool (*visit)(void *context, const struct nt_entry *entry), void *context)
{
    _Alignas(8) char block[4096];
    IO_STATUS_BLOCK io;
    HANDLE again;
    nt_lister *list;
    find_call("NtQueryDirectoryFile", &list);
    int error =
        nt_reopen(directory, FILE_LIST_DIRECTORY, NT_SHARE_ALL, FILE_DIRECTORY_FILE, &again);
    if (error != 0) {
        return error;
    }
    NTSTATUS status;
    do {
        status =
            list(again, NULL, NULL, NULL, &io, block, sizeof block, NT_ID_LIST, FALSE, NULL, FALSE);
    } while (status >= 0 && io.Information != 0 && visit_block(block, visit, context));
    CloseHandle(again);
    bool at_end = status >= 0 || status == (NTSTATUS)0x80000006 || /* no more files */
                  status == (NTSTATUS)0xC000000F;                  /* no such file */
    return at_end ? 0 : nt_errno(status);
}

/* ---- Errors ---- */

int
nt_errno(NTSTATUS status)
{
    static const struct {
        uint32_t status;
        int error;
    } known[] = {
        {0xC0000034, ENOENT},       /* object name not found */
        {0xC000003A, ENOENT},       /* object path not found */
        {0xC000000F, ENOENT},       /* no such file */
        {0xC0000123, ENOENT},       /* file deleted */
        {0xC00000BE, ENOENT},       /* bad network path */
        {0xC00000CC, ENOENT},       /* bad network name */
        {0xC0000103, ENOTDIR},      /* not a directory */
        {0xC00000BA, EISDIR},       /* is a directory */
        {0xC0000035, EEXIST},       /* name collision */
        {0xC0000043, EWOULDBLOCK},  /* sharing violation */
        {0xC0000056, EWOULDBLOCK},  /* delete pending: held for a moment */
        {0xC0000054, EWOULDBLOCK},  /* lock conflict */
        {0xC0000055, EWOULDBLOCK},  /* lock not granted */
        {0xC0000022, EACCES},       /* access denied */
        {0xC0000121, EACCES},       /* cannot delete */
        {0xC0000061, EPERM},        /* privilege not held */
        {0xC0000101, ENOTEMPTY},    /* directory not empty */
        {0xC000007F, ENOSPC},       /* disk full */
        {0xC0000044, ENOSPC},       /* quota exceeded */
        {0xC00000A2, EROFS},        /* write protected */
        {0xC00000D4, EXDEV},        /* not the same device */
        {0xC0000265, EMLINK},       /* too many links */
        {0xC0000106, ENAMETOOLONG}, /* name too long */
        {0xC0000033, EINVAL},       /* object name invalid */
        {0xC000000D, EINVAL},       /* invalid parameter */
        {0xC0000017, ENOMEM},       /* no memory */
        {0xC000009A, ENOMEM},       /* insufficient resources */
        {0xC000011F, EMFILE},       /* too many opened files */
        {0xC0000002, ENOSYS},       /* not implemented */
        {0xC0000003, ENOSYS},       /* invalid info class */
        {0xC00000BB, ENOSYS},       /* not supported */
        {0xC0000010, ENOSYS},       /* invalid device request */
        {0xC0000024, EINVAL},       /* object type mismatch */
        {0xC000003B, EINVAL},       /* path syntax bad */
        {0xC0000008, EBADF},        /* invalid handle */
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].status == (uint32_t)status) {
            return known[i].error;
        }
    }
    return EIO;
}

int
nt_errno_of_api(DWORD error)
{
    static const struct {
        DWORD number;
        int error;
    } known[] = {
        {ERROR_LOCK_VIOLATION, EWOULDBLOCK},    {ERROR_IO_PENDING, EWOULDBLOCK},
        {ERROR_SHARING_VIOLATION, EWOULDBLOCK}, {ERROR_ACCESS_DENIED, EACCES},
        {ERROR_FILE_NOT_FOUND, ENOENT},         {ERROR_PATH_NOT_FOUND, ENOENT},
        {ERROR_INVALID_HANDLE, EBADF},          {ERROR_INVALID_FUNCTION, ENOSYS},
        {ERROR_NOT_SUPPORTED, ENOSYS},          {ERROR_INVALID_PARAMETER, EINVAL},
        {ERROR_NOT_ENOUGH_MEMORY, ENOMEM},      {ERROR_TOO_MANY_OPEN_FILES, EMFILE},
        {ERROR_NO_SYSTEM_RESOURCES, ENOMEM},    {ERROR_DISK_FULL, ENOSPC},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].number == error) {
            return known[i].error;
        }
    }
    return EIO;
}
