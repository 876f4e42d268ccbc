#include "core/probe.h"

#include <errno.h>

#define ONE "one"
#define OTHER "other"

/* What a second try must end with. */
static int
excluded(int error, bool refused)
{
    return refused ? 0 : error == 0 ? PROBE_LIES : error;
}

static int
make_one(const struct os_file *directory, struct os_file *file)
{
    return os_create(directory, ONE, file);
}

static void
remove_one(const struct os_file *directory, struct os_file *file)
{
    os_close(file);
    os_unlink(directory, ONE);
}

/* Is a file of ours told from a user's by its stamp? */
static int
probe_stamp(const struct os_file *directory)
{
    struct os_file file;
    struct os_status status;
    int error = make_one(directory, &file);
    if (error != 0) {
        return error;
    }
    error = os_status(&file, &status);
    remove_one(directory, &file);
    return error == 0 && !status.stamped ? ENOTSUP : error;
}

static int
link_twice(const struct os_file *directory)
{
    int error = os_link(directory, ONE, OTHER);
    if (error != 0) {
        return error;
    }
    error = os_link(directory, ONE, OTHER);
    os_unlink(directory, OTHER);
    return excluded(error, error == EEXIST);
}

static int
probe_link(const struct os_file *directory)
{
    struct os_file file;
    int error = make_one(directory, &file);
    if (error != 0) {
        return error;
    }
    error = link_twice(directory);
    remove_one(directory, &file);
    return error;
}

static int
probe_symbolic_link(const struct os_file *directory)
{
    int error = os_link_text(directory, ONE, OTHER);
    if (error != 0) {
        return error;
    }
    error = os_link_text(directory, ONE, OTHER);
    os_unlink(directory, OTHER);
    return excluded(error, error == EEXIST);
}

static int
make_directory(const struct os_file *directory, const char *name)
{
    struct os_file made;
    int error = os_make_directory(directory, name, &made);
    if (error == 0) {
        os_close(&made);
    }
    return error;
}

static int
probe_directory(const struct os_file *directory)
{
    int error = make_directory(directory, ONE);
    if (error != 0) {
        return error;
    }
    error = make_directory(directory, ONE);
    os_remove_directory(directory, ONE);
    return excluded(error, error == EEXIST);
}

/* An empty directory is what a rename that may replace would replace. */
static int
rename_twice(const struct os_file *directory)
{
    int error = os_rename(directory, ONE, OTHER);
    if (error != 0) {
        return error;
    }
    error = make_directory(directory, ONE);
    if (error == 0) {
        error = os_rename(directory, ONE, OTHER);
        error = excluded(error, error == EEXIST);
    }
    os_remove_directory(directory, OTHER);
    return error;
}

static int
probe_rename(const struct os_file *directory)
{
    int error = make_directory(directory, ONE);
    if (error != 0) {
        return error;
    }
    error = rename_twice(directory);
    os_remove_directory(directory, ONE);
    return error;
}

/* Kernel locks: each is taken by one open file, and asked for by another of the same file. */
struct kernel_lock {
    int (*take)(const struct os_file *file);
    int (*ask)(const struct os_file *other);
};

static int
probe_kernel_lock(const struct os_file *directory, const struct kernel_lock *lock)
{
    struct os_file file, other;
    struct os_status status;
    int error = make_one(directory, &file);
    if (error != 0) {
        return error;
    }
    error = lock->take(&file);
    if (error == 0 && (error = os_open(directory, ONE, OS_READ, &other, &status)) == 0) {
        error = lock->ask(&other);
        error = excluded(error, os_is_refused(error));
        os_close(&other);
    }
    remove_one(directory, &file);
    return error;
}

static int
take_flock(const struct os_file *file)
{
    return os_flock(file, OS_EXCLUSIVE);
}

static int
ask_flock(const struct os_file *other)
{
    return os_flock(other, OS_SHARED);
}

static int
probe_flock(const struct os_file *directory)
{
    static const struct kernel_lock lock = {take_flock, ask_flock};
    return probe_kernel_lock(directory, &lock);
}

static int
take_byte(const struct os_file *file)
{
    return os_lock_byte(file, 0, OS_EXCLUSIVE);
}

static int
ask_byte(const struct os_file *other)
{
    return os_find_lock(other, 0);
}

static int
probe_byte(const struct os_file *directory)
{
    static const struct kernel_lock lock = {take_byte, ask_byte};
    return probe_kernel_lock(directory, &lock);
}

static int
take_mark(const struct os_file *file)
{
    return os_mark(file, OS_REMOVER);
}

static int
ask_mark(const struct os_file *other)
{
    return os_find_mark(other, OS_REMOVER);
}

static int
probe_mark(const struct os_file *directory)
{
    static const struct kernel_lock lock = {take_mark, ask_mark};
    return probe_kernel_lock(directory, &lock);
}

const struct probe probes[] = {
    {"stamp", probe_stamp},
    {"link", probe_link},
    {"symbolic link", probe_symbolic_link},
    {"directory", probe_directory},
    {"rename", probe_rename},
    {"flock", probe_flock},
    {"byte lock", probe_byte},
    {"mark", probe_mark},
    {NULL, NULL},
};
