#include "mechanisms/files/unique.h"

#include "core/table.h"
#include "mechanisms/files/entry.h"
#include "mechanisms/files/sweep.h"

#include <errno.h>
#include <string.h>

/* .N: small numbers first, then random ones, which nobody can have taken in advance. */
#define SMALL_NUMBERS 3

/* ---- Beacons ---- */

int
unique_take_beacon(const struct os_file *file)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        int error = os_flock(file, OS_EXCLUSIVE);
        if (!os_is_refused(error) || (error = os_flock(file, OS_SHARED)) != 0) {
            return error;
        }
        /* Only another look was in the way. */
        os_flock(file, OS_UNLOCK);
    }
    return EWOULDBLOCK;
}

int
unique_open_beacon(const struct os_file *directory, const char *name, struct os_inode inode,
                   struct os_file *file)
{
    struct os_status status;
    int error = os_open(directory, name, OS_WRITE, file, &status);
    if (error == 0 && !os_same(status.inode, inode)) {
        error = ENOENT;
        os_close(file);
    }
    return error;
}

/* On some mounts flock() is granted to everybody, so a beacon shows nothing. Then it is granted
 * to another open file of our own, too: as if there were no kernel locks, which that one says. */
static int
check_beacon_excludes(const struct os_file *directory, const char *name)
{
    struct os_file file;
    struct os_status status;
    int error = os_open(directory, name, OS_READ, &file, &status);
    if (error != 0) {
        return error;
    }
    int refused = os_flock(&file, OS_SHARED);
    os_flock(&file, OS_UNLOCK);
    os_close(&file);
    return refused == 0 ? EOPNOTSUPP : 0;
}

int
unique_light(const struct os_file *directory, struct ground ground, struct os_file *beacon,
             const char *name)
{
    int error = os_flock(beacon, OS_EXCLUSIVE);
    if (error == 0 && !ground.local && !ground.dumb) {
        error = check_beacon_excludes(directory, name);
    }
    if (error == 0 || (os_flock_is_unsupported(error) && ground.dumb)) {
        error = entry_check(directory, name, beacon->inode);
    }
    if (error != 0 && !os_is_refused(error) && error != ENOENT) {
        entry_remove(directory, name, beacon->inode);
    }
    if (error != 0) {
        os_close(beacon);
    }
    return error;
}

/* ---- Making ---- */

static uint64_t
suffix_number(unsigned attempt)
{
    return attempt <= SMALL_NUMBERS ? attempt : (os_random() >> 32) + SMALL_NUMBERS + 1;
}

bool
unique_try_name(const struct unique_want *want, unsigned attempt, char name[NAME_SIZE])
{
    struct os_inode inode = want->directory->inode;
    struct identity place = {.place = {inode.device, inode.number}};
    proof_write_name(name, want->host, want->owner, want->ground, suffix_number(attempt));
    return strcmp(name, want->file) != 0 && !table_names(place, name);
}

static bool
is_worth_another_name(struct ground *ground, int error)
{
    return proof_is_given_up(ground, error) || os_is_refused(error) || error == ENOENT ||
           error == EEXIST;
}

int
unique_make(struct unique_want want, const struct unique_kind *kind, void *made,
            char name[NAME_SIZE])
{
    for (unsigned attempt = 0; attempt < UNIQUE_ATTEMPTS; attempt++) {
        if (!unique_try_name(&want, attempt, name)) {
            continue;
        }
        int error = kind->make(&want, name, made);
        if (error == EEXIST && sweep_reap(want.directory, name, want.ground)) {
            error = kind->make(&want, name, made);
        }
        if (error == EEXIST) {
            continue;
        }
        if (error != 0) {
            return error;
        }
        error = kind->light(&want, name, made);
        if (error == 0 || !is_worth_another_name(&want.ground, error)) {
            return error;
        }
    }
    return EEXIST;
}

const char *
unique_explain(int error)
{
    return error == ENAMETOOLONG ? "the owner's name is too long here, of which the host's name is "
                                   "a part; lock_file= "
                                   "can name a lock file on another file system"
                                 : NULL;
}

static int
make_file(const struct unique_want *want, const char *name, void *made)
{
    return os_create(want->directory, name, made);
}

static int
light_file(const struct unique_want *want, const char *name, void *made)
{
    return unique_light(want->directory, want->ground, made, name);
}

const struct unique_kind unique_file = {.make = make_file, .light = light_file};
