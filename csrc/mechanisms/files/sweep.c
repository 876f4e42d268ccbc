#include "mechanisms/files/sweep.h"

#include "mechanisms/files/entry.h"
#include "mechanisms/files/search.h"

#include <errno.h>

static bool
is_abandoned(const struct os_status *status)
{
    return status->kind == OS_REGULAR && status->stamped && status->user == os_user() &&
           status->size == 0 && status->links == 1;
}

/* Removes a unique file whose owner is dead and owned nothing. False: left alone. */
static bool
reap(const struct os_file *directory, const char *name, struct ground ground)
{
    struct os_file file;
    struct os_status status;
    bool reaped = false;
    /* Looked at by name first: what is not a plain file had better not be opened. */
    if (os_status_at(directory, name, &status) != 0 || !is_abandoned(&status) ||
        os_open(directory, name, ground.local ? OS_READ : OS_WRITE, &file, &status) != 0) {
        return false;
    }
    if (os_flock(&file, OS_EXCLUSIVE) == 0) {
        /* The count of links is read after the grant: a claim that has linked
         * this file holds its beacon, and one that has not yet taken it finds
         * it refused and goes on to another name. */
        reaped = os_status(&file, &status) == 0 && is_abandoned(&status) &&
                 entry_remove(directory, name, file.inode) == 0;
        os_flock(&file, OS_UNLOCK);
    }
    os_close(&file);
    return reaped;
}

static bool
is_reapable(const char *text, struct ground ground)
{
    struct name name;
    return proof_read_name(text, &name) && proof_is_possible(&name, ground);
}

/* Removes a lock directory that was not published, or is not any more: empty, or
 * with nothing in it but a dead owner's unique file. */
static bool
reap_directory(const struct os_file *directory, const char *name, struct ground ground)
{
    struct os_file inside;
    struct os_status status;
    char unique_name[NAME_SIZE];
    if (os_open(directory, name, OS_READ, &inside, &status) != 0) {
        return false;
    }
    int error = status.kind == OS_DIRECTORY ? search_inside(&inside, unique_name) : ENOTDIR;
    bool emptied = error == ENOENT || (error == 0 && is_reapable(unique_name, ground) &&
                                       reap(&inside, unique_name, ground));
    bool reaped = emptied && entry_check(directory, name, inside.inode) == 0 &&
                  os_remove_directory(directory, name) == 0;
    os_close(&inside);
    return reaped;
}

bool
sweep_reap(const struct os_file *directory, const char *name, struct ground ground)
{
    struct os_status status;
    if (!is_reapable(name, ground) || os_status_at(directory, name, &status) != 0 ||
        !status.stamped || status.user != os_user()) {
        return false;
    }
    return status.kind == OS_DIRECTORY ? reap_directory(directory, name, ground)
                                       : reap(directory, name, ground);
}

struct sweep {
    const struct os_file *directory;
    struct ground ground;
};

static bool
visit(void *context, const char *text)
{
    const struct sweep *sweep = context;
    sweep_reap(sweep->directory, text, sweep->ground);
    return true;
}

void
sweep_all(const struct os_file *directory, struct ground ground)
{
    struct sweep sweep = {.directory = directory, .ground = ground};
    /* What cannot be listed is left for the next one to sweep. */
    os_list(directory, visit, &sweep);
}
