#include "mechanisms/files/entry.h"

#include <errno.h>

int
entry_check(const struct os_file *directory, const char *name, struct os_inode inode)
{
    struct os_status status;
    int error = os_status_at(directory, name, &status);
    if (error != 0) {
        return os_is_absent(error) ? ENOENT : error;
    }
    return os_same(status.inode, inode) ? 0 : ENOENT;
}

int
entry_check_afresh(const struct os_file *directory, const char *name, struct os_inode inode,
                   bool local)
{
    struct os_file file;
    struct os_status status;
    if (local) {
        return entry_check(directory, name, inode);
    }
    int error = os_open(directory, name, OS_READ, &file, &status);
    if (error == 0) {
        os_close(&file);
        return os_same(status.inode, inode) ? 0 : ENOENT;
    }
    if (os_is_forbidden(error) || os_is_link(error) || os_is_special(error)) {
        return entry_check(directory, name, inode); /* not to be opened by us */
    }
    return os_is_absent(error) ? ENOENT : error;
}

int
entry_remove_dead(const struct os_file *directory, const char *name, struct os_inode inode)
{
    struct os_status status;
    int error = os_status_at(directory, name, &status);
    if (error != 0) {
        return error;
    }
    bool harmless = status.kind == OS_REGULAR && (status.size == 0 || !status.shared);
    return harmless && os_same(status.inode, inode) ? os_unlink(directory, name) : ENOENT;
}

int
entry_remove(const struct os_file *directory, const char *name, struct os_inode inode)
{
    int error = entry_check(directory, name, inode);
    return error != 0 ? error : os_unlink(directory, name);
}
