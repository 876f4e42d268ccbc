/* Where: this machine, this run of its kernel, a file system. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include "platform/posix/forks.h"

#include <string.h>
#include <unistd.h>

void
os_host_name(char host[OS_HOST_SIZE])
{
    if (gethostname(host, OS_HOST_SIZE) != 0 || host[0] == '\0') {
        strcpy(host, "localhost");
    }
    host[OS_HOST_SIZE - 1] = '\0';
    for (char *slash = host; (slash = strchr(slash, '/')) != NULL;) {
        *slash = '_';
    }
}

int
os_boot(char *identity, size_t size)
{
    posix_hold_off_forks();
    int error = system_boot(identity, size);
    posix_allow_forks();
    return error;
}

int
os_reach(const struct os_file *directory, enum os_reach *reach)
{
    return system_reach(directory->descriptor, directory->inode.device, reach);
}
