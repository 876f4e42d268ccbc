#include "mechanisms/sqlite/spot.h"

#include "mechanisms/sqlite/trust.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool
is_in(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    return (size_t)(os_last_name(path) - path) == length && memcmp(path, directory, length) == 0;
}

/* A lock of the database's own directory is called by its name alone, whatever the
 * directory is called and from wherever it is seen; others by their whole path, in
 * which no symbolic link is left. */
static int
name_row(struct spot *spot, const struct lock *lock)
{
    char directory[OS_PATH_SIZE];
    const char *base = "";
    bool named = is_in(spot->database, lock->directory);
    if (!named) {
        int error = os_resolve(lock->directory, directory);
        if (error != 0) {
            return error;
        }
        size_t length = strlen(directory);
        if (*os_last_name(directory) != '\0' && length + 1 < OS_PATH_SIZE) {
            directory[length] = os_separator;
            directory[length + 1] = '\0';
        }
        base = directory;
        char database[OS_PATH_SIZE];
        error = os_resolve(spot->database, database);
        if (error != 0 && error != ENOENT) {
            return error;
        }
        named = error == 0 && is_in(database, directory);
    }
    int length = snprintf(spot->row, OS_PATH_SIZE, "%s%s", named ? "" : base, lock->file);
    os_fold_name(spot->row, OS_PATH_SIZE);
    return length < OS_PATH_SIZE ? 0 : ENAMETOOLONG;
}

int
spot_find(struct spot *spot, const struct lock *lock)
{
    struct os_status status = {0};
    if (strlen(lock->store) >= OS_PATH_SIZE) {
        return ENAMETOOLONG;
    }
    strcpy(spot->database, lock->store);
    int error = os_status_at(&os_anywhere, spot->database, &status);
    if (error == 0) {
        error = trust_check(spot->database, &status);
    }
    if (error == 0 && status.kind == OS_LINK) {
        error = os_resolve(lock->store, spot->database);
        if (error == 0) {
            error = os_status_at(&os_anywhere, spot->database, &status);
        }
        if (error == 0) {
            error = trust_check(spot->database, &status);
        }
    }
    if (error == 0 && status.kind != OS_REGULAR) {
        error = status.kind == OS_DIRECTORY ? EISDIR : ENODEV;
    }
    if (error == 0) {
        error = name_row(spot, lock);
    }
    if (error == 0 && !beacon_path(spot->database, spot->beacons)) {
        error = ENAMETOOLONG;
    }
    spot->place = (struct row_place){spot->database, status.inode, status.mode, spot->row};
    return error;
}

/* Are the names of the files beside it too long? Found out before the first of them is made. */
static bool
is_too_long(const struct lock *lock)
{
    char beacons[OS_PATH_SIZE];
    struct os_status status;
    return !beacon_path(lock->store, beacons) ||
           os_status_at(&os_anywhere, beacons, &status) == ENAMETOOLONG;
}

int
spot_find_or_make(struct spot *spot, const struct lock *lock)
{
    int error = spot_find(spot, lock);
    if (error != ENOENT) {
        return error;
    }
    error = is_too_long(lock) ? ENAMETOOLONG : os_make_file(&os_anywhere, lock->store);
    return error == 0 || error == EEXIST ? spot_find(spot, lock) : error;
}
