#include "mechanisms/files/sweep.h"

#include "mechanisms/files/contents.h"
#include "mechanisms/files/entry.h"
#include "mechanisms/files/search.h"
#include "mechanisms/files/target.h"
#include "mechanisms/files/unique.h"

#include <errno.h>
#include <string.h>

/* As far as its status tells. */
static bool
may_be_abandoned(const struct os_status *status)
{
    return status->kind == OS_REGULAR && status->user == os_user() && status->links == 1 &&
           (status->size == 0 ? status->stamped : status->size < CONTENTS_SIZE);
}

/* Is it the unique file of a lock file that is a symbolic link to it? Not seen is not gone. */
static bool
is_target(const struct os_file *directory, const char *file, const char *name)
{
    char target[NAME_SIZE];
    int error = target_read(directory, file, target);
    return error == 0 ? strcmp(target, name) == 0
                      : error != ENOENT && error != ELOOP && error != EINVAL;
}

/* Is it a PID file's, by what it holds? Without the stamp it must be just as this machine makes it:
 * users have files called worker-1, too. */
static bool
is_processes(const struct os_file *file, const char *text, const struct os_status *status)
{
    struct name name;
    char host[OS_HOST_SIZE];
    if (!contents_are_process(file, text) || !proof_read_name(text, &name)) {
        return false;
    }
    os_host_name(host);
    return status->stamped ||
           (status->mode == CONTENTS_PROCESS_MODE && strcmp(name.host, host) == 0);
}

/* Does it hold what its owner had written, and is in no lock any more? */
static bool
is_left(const struct os_file *directory, const char *name, const struct os_file *file,
        const struct os_status *status)
{
    char lock_file[CONTENTS_SIZE];
    int64_t process;
    return may_be_abandoned(status) &&
           (status->size == 0 || is_processes(file, name, status) ||
            (status->stamped && contents_read_process(file, &process) == 0) ||
            (status->stamped && contents_read_lock_file(file, lock_file) &&
             !is_target(directory, lock_file, name)));
}

/* Removes a unique file whose owner is dead and owned nothing. False: left alone. */
static bool
reap(const struct os_file *directory, const char *name, struct ground ground, unique_opener *open)
{
    struct os_file file;
    struct os_status status;
    bool reaped = false;
    /* Looked at by name first: what is not a plain file had better not be opened. */
    if (os_status_at(directory, name, &status) != 0 || !may_be_abandoned(&status) ||
        open(directory, name, ground.local ? OS_READ : OS_WRITE, &file, &status) != 0) {
        return false;
    }
    if (os_flock(&file, OS_EXCLUSIVE) == 0) {
        /* The count of links is read after the grant: a claim that has linked
         * this file holds its beacon, and one that has not yet taken it finds
         * it refused and goes on to another name. */
        reaped = os_status(&file, &status) == 0 && is_left(directory, name, &file, &status) &&
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
                                       reap(&inside, unique_name, ground, os_open_inside));
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
        status.user != os_user()) {
        return false;
    }
    return status.kind != OS_DIRECTORY ? reap(directory, name, ground, os_open)
                                       : status.stamped && reap_directory(directory, name, ground);
}

bool
sweep_reap_chosen(const struct os_file *directory, const char *name, struct ground ground)
{
    struct os_status status;
    return ground.local && os_status_at(directory, name, &status) == 0 && status.size == 0 &&
           reap(directory, name, ground, os_open);
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
