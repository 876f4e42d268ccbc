/* Where: this machine, this run of its kernel, a file system. */
#include "platform/windows/nt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void
os_host_name(char host[OS_HOST_SIZE])
{
    wchar_t name[OS_HOST_SIZE];
    DWORD size = OS_HOST_SIZE;
    if (!GetComputerNameExW(ComputerNamePhysicalDnsHostname, name, &size) || size == 0 ||
        !nt_narrow(name, size, host, OS_HOST_SIZE)) {
        strcpy(host, "localhost");
    }
    for (char *at = host; *at != '\0'; at++) {
        *at = os_is_separator(*at) ? '_' : *at;
    }
}

/* ---- This run of the kernel ---- */

/* When it began; what was added to that since, by who has set the clock, is told as well. */
struct time_of_day {
    LARGE_INTEGER booted, now, zone_bias;
    ULONG zone, reserved;
    ULONGLONG boot_bias, sleep_bias;
};

static int
find_boot(int64_t *boot)
{
    struct time_of_day found = {.reserved = 0};
    NTSTATUS status =
        NtQuerySystemInformation(SystemTimeOfDayInformation, &found, sizeof found, NULL);
    *boot = found.booted.QuadPart - (int64_t)found.boot_bias;
    return status >= 0 ? 0 : nt_errno(status);
}

int
os_boot(char *identity, size_t size)
{
    char machine[64];
    DWORD length = sizeof machine;
    int64_t boot;
    int error = find_boot(&boot);
    if (error == 0 &&
        RegGetValueA(HKEY_LOCAL_MACHINE, "SOFTWARE\\Microsoft\\Cryptography", "MachineGuid",
                     RRF_RT_REG_SZ | RRF_SUBKEY_WOW6464KEY, NULL, machine, &length) != 0) {
        error = ENOENT;
    }
    if (error == 0 &&
        snprintf(identity, size, "%s-%llx", machine, (unsigned long long)boot) >= (int)size) {
        error = ERANGE;
    }
    return error;
}

/* ---- File systems ---- */

#define REMOTE_DEVICE 0x10
#define DISK 7
#define DISK_FILE_SYSTEM 8 /* what Wine says */

struct device {
    ULONG type, characteristics;
};

struct file_system {
    ULONG attributes;
    LONG longest_name;
    ULONG name_size;
    WCHAR name[32];
};

enum { VOLUME_DEVICE = 4, VOLUME_ATTRIBUTES = 5 };

static bool
is_called(const struct file_system *found, const wchar_t *name)
{
    return found->name_size == wcslen(name) * sizeof(wchar_t) &&
           memcmp(found->name, name, found->name_size) == 0;
}

static bool
is_kernels_own(const struct file_system *found)
{
    return is_called(found, L"NTFS") || is_called(found, L"ReFS") || is_called(found, L"UDF");
}

/* They give a file another number when it is renamed, and so no lock could be known again. */
static bool
has_no_numbers(const struct file_system *found)
{
    return is_called(found, L"FAT") || is_called(found, L"FAT32") || is_called(found, L"exFAT");
}

int
os_reach(const struct os_file *directory, enum os_reach *reach)
{
    struct device device;
    struct file_system system = {.name_size = 0};
    HANDLE handle = nt_handle(directory);
    int error = nt_query_volume(handle, VOLUME_DEVICE, &device, sizeof device);
    if (error == 0) {
        error = nt_query_volume(handle, VOLUME_ATTRIBUTES, &system, sizeof system);
    }
    if (error != 0) {
        return error;
    }
    bool disk = device.type == DISK || device.type == DISK_FILE_SYSTEM;
    bool remote = !disk || (device.characteristics & REMOTE_DEVICE) != 0;
    *reach = !remote && is_kernels_own(&system) ? OS_KERNEL : OS_ANYBODY;
    return !remote && has_no_numbers(&system) ? ENOSYS : 0;
}
