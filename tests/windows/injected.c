/* In front of the system's calls, in a build for tests: answers that Wine never gives.
 *
 * LOCKFILE_INJECT=CALL STATUS SKIP COUNT, as the environment has it at the moment: of the calls of
 * that kind, after so many, so many get this status, in hexadecimal, and are not made. What is left
 * to be answered so, the variable says afterwards. One thread may do this. Or, by the status KILL,
 * the process is killed there; by STOP, the thread stops there. */
#include "platform/windows/nt.h"

#include <stdio.h>
#include <string.h>
#include <wchar.h>

#define VARIABLE L"LOCKFILE_INJECT"
#define KILL 0xDEAD
#define KILLED 9
#define STOP 0x5709

/* Another thread of the program sets the variable, to say that it goes on. */
static void
stop(void)
{
    wchar_t text[64];
    SetEnvironmentVariableW(VARIABLE, L"stopped");
    do {
        Sleep(1);
    } while (GetEnvironmentVariableW(VARIABLE, text, 64) != 0 && wcscmp(text, L"stopped") == 0);
}

/* Is this one of the calls? */
static bool
is_wanted(const wchar_t *call, ULONG *status)
{
    wchar_t text[64], wanted[16];
    unsigned skip, count;
    if (GetEnvironmentVariableW(VARIABLE, text, 64) == 0 ||
        swscanf(text, L"%15ls %lx %u %u", wanted, status, &skip, &count) != 4 || count == 0 ||
        wcscmp(call, wanted) != 0) {
        return false;
    }
    bool skipped = skip > 0;
    _snwprintf(text, 64, L"%ls %lx %u %u", wanted, *status, skipped ? skip - 1 : 0,
               skipped ? count : count - 1);
    SetEnvironmentVariableW(VARIABLE, text);
    if (!skipped && *status == KILL) {
        TerminateProcess(GetCurrentProcess(), KILLED);
    }
    if (!skipped && *status == STOP) {
        stop();
        return false;
    }
    return !skipped;
}

NTSTATUS NTAPI __real_NtCreateFile(HANDLE *, ACCESS_MASK, OBJECT_ATTRIBUTES *, IO_STATUS_BLOCK *,
                                   LARGE_INTEGER *, ULONG, ULONG, ULONG, ULONG, void *, ULONG);
NTSTATUS NTAPI __wrap_NtCreateFile(HANDLE *, ACCESS_MASK, OBJECT_ATTRIBUTES *, IO_STATUS_BLOCK *,
                                   LARGE_INTEGER *, ULONG, ULONG, ULONG, ULONG, void *, ULONG);
int __real_nt_set(HANDLE, int, void *, size_t);
int __wrap_nt_set(HANDLE, int, void *, size_t);

NTSTATUS NTAPI
__wrap_NtCreateFile(HANDLE *handle, ACCESS_MASK access, OBJECT_ATTRIBUTES *attributes,
                    IO_STATUS_BLOCK *block, LARGE_INTEGER *size, ULONG file_attributes, ULONG share,
                    ULONG disposition, ULONG options, void *extended, ULONG extended_size)
{
    const wchar_t *call = attributes->ObjectName->Length == 0        ? L"reopen"
                          : disposition == FILE_CREATE               ? L"create"
                          : (access & (DELETE | FILE_ADD_FILE)) != 0 ? L"change"
                                                                     : L"open";
    ULONG status;
    if (is_wanted(call, &status)) {
        return (NTSTATUS)status;
    }
    return __real_NtCreateFile(handle, access, attributes, block, size, file_attributes, share,
                               disposition, options, extended, extended_size);
}

int
__wrap_nt_set(HANDLE handle, int class, void *data, size_t size)
{
    const wchar_t *call = class == NT_RENAME                                      ? L"rename"
                          : class == NT_LINK                                      ? L"link"
                          : class == NT_DISPOSITION || class == NT_DISPOSITION_EX ? L"dispose"
                                                                                  : L"";
    ULONG status;
    return is_wanted(call, &status) ? nt_errno((NTSTATUS)status)
                                    : __real_nt_set(handle, class, data, size);
}
