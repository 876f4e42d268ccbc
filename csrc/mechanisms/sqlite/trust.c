#include "mechanisms/sqlite/trust.h"

#include <errno.h>
#include <string.h>

bool
trust_is_public(const char *path)
{
    char directory[OS_PATH_SIZE];
    struct os_status status;
    size_t length = (size_t)(os_last_name(path) - path);
    memcpy(directory, path, length);
    directory[length] = '\0';
    return os_status_of(directory, &status) == 0 && status.sticky;
}

int
trust_check(const char *path, const struct os_status *found)
{
    bool ours = found->kind != OS_LINK && found->user == os_user();
    if (ours && (found->links == 1 || found->kind == OS_DIRECTORY)) {
        return 0;
    }
    return trust_is_public(path) ? EPERM : 0;
}
