#include "mechanisms/files/target.h"

#include "mechanisms/files/entry.h"

#include <errno.h>
#include <string.h>

int
target_read(const struct os_file *directory, const char *file, char unique_name[NAME_SIZE])
{
    struct name name;
    int error = os_read_link(directory, file, unique_name, NAME_SIZE);
    if (error != 0) {
        return error == ENAMETOOLONG ? ELOOP : error;
    }
    bool ours = strchr(unique_name, '/') == NULL && proof_read_name(unique_name, &name);
    return ours ? 0 : ELOOP;
}

/* There is no such unique file. Was the lock released while we looked? */
static int
look_again(const struct os_file *directory, const char *file, const char *unique_name)
{
    char now[NAME_SIZE];
    int error = target_read(directory, file, now);
    return error == 0 && strcmp(now, unique_name) == 0 ? ELOOP : ENOENT;
}

int
target_open(const struct os_file *directory, const char *file, struct os_file *found,
            struct os_status *status, char unique_name[NAME_SIZE])
{
    int error = target_read(directory, file, unique_name);
    if (error != 0) {
        return error == EINVAL ? ENOENT : error; /* another has taken its place just now */
    }
    error = os_open(directory, unique_name, OS_READ, found, status);
    if (error == 0 && status->kind != OS_REGULAR) {
        os_close(found);
        error = ELOOP;
    }
    return error == ENOENT ? look_again(directory, file, unique_name) : error;
}

/* A network file system may remember a link, but opens a name afresh, and so finds out. 0: it is
 * one; EINVAL: it is none. */
static int
find_afresh(const struct os_file *directory, const char *file)
{
    struct os_file opened;
    struct os_status status;
    int error = os_open(directory, file, OS_READ, &opened, &status);
    if (error == 0) {
        os_close(&opened);
        error = EINVAL;
    }
    return os_is_link(error) ? 0 : error;
}

int
target_check(const struct os_file *directory, const char *file, struct os_inode inode,
             const char *unique_name, bool local)
{
    char now[NAME_SIZE];
    int error = local ? 0 : find_afresh(directory, file);
    if (error == 0) {
        error = target_read(directory, file, now);
    }
    if (error != 0) {
        return error == ELOOP || error == EINVAL || os_is_absent(error) ? ENOENT : error;
    }
    return strcmp(now, unique_name) == 0 ? entry_check_afresh(directory, unique_name, inode, local)
                                         : ENOENT;
}
