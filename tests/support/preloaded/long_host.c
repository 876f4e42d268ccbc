/* A host whose name is as long as POSIX lets one be, for a process that runs with this library in
 * LD_PRELOAD. */
#include <stddef.h>
#include <string.h>

int
gethostname(char *name, size_t size)
{
    memset(name, 'h', size);
    name[size < 256 ? size - 1 : 255] = '\0';
    return 0;
}
