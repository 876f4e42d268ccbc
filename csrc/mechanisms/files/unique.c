#include "mechanisms/files/unique.h"

#include "core/table.h"
#include "mechanisms/files/entry.h"
#include "mechanisms/files/sweep.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* .N: small numbers first, then random ones, which nobody can have taken in advance. */
#define SMALL_NUMBERS 3

/* How often a chosen name is tried: others may look at its file, or leave it, at that moment. */
#define CHOSEN_ATTEMPTS 3

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
                   unique_opener *open, struct os_file *file)
{
    struct os_status status;
    int error = open(directory, name, OS_WRITE, file, &status);
    if (error == 0 && !os_same(status.inode, inode)) {
        error = ENOENT;
        os_close(file);
    }
    return error;
}

/* On some mounts flock() is granted to everybody, so a beacon shows nothing. Then it is granted
 * to another open file of our own, too: as if there were no kernel locks, which that one says. */
static int
check_beacon_excludes(const struct os_file *directory, const char *name, unique_opener *open)
{
    struct os_file file;
    struct os_status status;
    int error = open(directory, name, OS_READ, &file, &status);
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
             const char *name, unique_opener *open)
{
    int error = os_flock(beacon, OS_EXCLUSIVE);
    if (error == 0 && !ground.local && !ground.dumb) {
        error = check_beacon_excludes(directory, name, open);
    }
    if (os_flock_is_unsupported(error) && ground.dumb) {
        error = 0;
    }
    return unique_check_lit(directory, beacon, name, error);
}

int
unique_check_lit(const struct os_file *directory, struct os_file *beacon, const char *name,
                 int error)
{
    if (error == 0) {
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

/* ---- Chosen names ---- */

/* The mark: its user might execute it. */
#define CHOSEN_MODE 0100

bool
unique_is_chosen(const struct os_file *file)
{
    struct os_status status;
    return os_status(file, &status) == 0 && status.kind == OS_REGULAR && status.stamped &&
           (status.mode & CHOSEN_MODE) != 0;
}

static int
mark_chosen(const struct os_file *directory, const char *name, const struct os_file *file)
{
    struct os_status status;
    int error = os_status(file, &status);
    if (error == 0) {
        status.mode |= CHOSEN_MODE;
        error = os_stamp(file, &status);
    }
    if (error != 0) {
        entry_remove(directory, name, file->inode);
    }
    return error;
}

/* ---- Making ---- */

/* They only become more. */
struct spent {
    struct os_inode directory;
    struct spent *before;
};

static _Atomic(struct spent *) last_spent;

static bool
is_spent(const struct os_file *directory)
{
    const struct spent *spent = atomic_load(&last_spent);
    while (spent != NULL && !os_same(spent->directory, directory->inode)) {
        spent = spent->before;
    }
    return spent != NULL;
}

int
unique_spend_names(const struct os_file *directory)
{
    if (is_spent(directory)) {
        return 0;
    }
    struct spent *spent = malloc(sizeof *spent);
    if (spent == NULL) {
        return ENOMEM;
    }
    *spent = (struct spent){directory->inode, atomic_load(&last_spent)};
    while (!atomic_compare_exchange_weak(&last_spent, &spent->before, spent)) {
    }
    return 0;
}

static uint64_t
suffix_number(const struct os_file *directory, unsigned attempt)
{
    bool is_small = attempt <= SMALL_NUMBERS && !is_spent(directory);
    return is_small ? attempt : (os_random() >> 32) + SMALL_NUMBERS + 1;
}

bool
unique_try_name(const struct unique_want *want, unsigned attempt, char name[NAME_SIZE])
{
    struct os_inode inode = want->directory->inode;
    struct identity place = {.place = {inode.device, inode.number}};
    if (want->chosen != NULL) {
        snprintf(name, NAME_SIZE, "%s", want->chosen);
        return !table_names(place, name);
    }
    proof_write_name(name, want->host, want->owner, want->ground,
                     suffix_number(want->directory, attempt));
    return strcmp(name, want->file) != 0 && !table_names(place, name);
}

static bool
is_worth_another_name(struct ground *ground, int error)
{
    return proof_is_given_up(ground, error) || os_is_refused(error) || error == ENOENT ||
           error == EEXIST;
}

/* Removes what a dead owner has left under that name. */
static bool
make_room(const struct unique_want *want, const char *name)
{
    return want->chosen != NULL ? sweep_reap_chosen(want->directory, name, want->ground)
                                : sweep_reap(want->directory, name, want->ground);
}

int
unique_make(struct unique_want want, const struct unique_kind *kind, void *made,
            char name[NAME_SIZE])
{
    unsigned attempts = want.chosen != NULL ? CHOSEN_ATTEMPTS : UNIQUE_ATTEMPTS;
    for (unsigned attempt = 0; attempt < attempts; attempt++) {
        if (!unique_try_name(&want, attempt, name)) {
            continue;
        }
        int error = kind->make(&want, name, made);
        if (error == EEXIST && make_room(&want, name)) {
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

int
unique_rename(const struct os_file *directory, const char *file, struct owner owner,
              const char *from, const char *unique_name,
              int (*move)(const struct os_file *, const char *, const char *), char name[NAME_SIZE])
{
    struct name former;
    if (!proof_read_name(unique_name, &former)) {
        return EINVAL;
    }
    struct unique_want want = {directory, former.host, owner, {.kernel = former.kernel},
                               file,      NULL};
    for (unsigned attempt = 0; attempt < UNIQUE_ATTEMPTS; attempt++) {
        if (!unique_try_name(&want, attempt, name)) {
            continue;
        }
        int error = move(directory, from, name);
        if (error != EEXIST) {
            return error;
        }
    }
    return EEXIST;
}

const char *
unique_explain(int error)
{
    if (error == ENAMETOOLONG) {
        return "the owner's name is too long here, of which the host's name is a part; lock_file= "
               "can name a lock file on another file system";
    }
    return os_is_read_only(error)
               ? "nothing can be made in this directory; lock_file= can name a lock file in another"
               : NULL;
}

static int
make_file(const struct unique_want *want, const char *name, void *made)
{
    struct os_file *file = made;
    int error = os_create(want->directory, name, file);
    if (error == 0 && want->chosen != NULL) {
        error = mark_chosen(want->directory, name, file);
        if (error != 0) {
            os_close(file);
        }
    }
    return error;
}

static int
light_file(const struct unique_want *want, const char *name, void *made)
{
    return unique_light(want->directory, want->ground, made, name, os_open);
}

const struct unique_kind unique_file = {.make = make_file, .light = light_file};
