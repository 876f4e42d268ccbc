/* The shapes of a lock file.
 *
 * A class of locks makes lock files of one shape. But whoever meets one must know
 * how to judge and to remove it, whichever class made it. */
#ifndef LOCKFILE_SHAPE_H
#define LOCKFILE_SHAPE_H

#include "mechanisms/files/entry.h"
#include "mechanisms/files/place.h"

struct shape {
    /* Is it still the lock file of that inode, as the table knows it, and unique name? 0, ENOENT if
     * not, or what kept us from seeing. */
    int (*check)(const struct os_file *directory, const char *file, struct os_inode inode,
                 const char *unique_name, bool local);

    /* Judges what was found, and is not in the table: STALE with the found name, HELD,
     * FREE, FAILED. */
    enum outcome (*judge)(struct attempt *attempt);

    /* Takes the beacon of what was found stale, and says on which file it is held. */
    int (*take_beacon)(struct attempt *attempt, struct os_file **beacon);

    /* Removes a lock file, which was checked, and its unique file, by remove_unique().
     * inside: the lock file opened, where it is a directory. Freed: the lock is, whatever is left
     * of the rest. May have to close the beacon. EAGAIN: then the emptied lock file is there yet,
     * for a moment, and is removed by finish(), which is NULL where that cannot be. */
    int (*remove)(const struct os_file *directory, const char *file, const struct os_file *inside,
                  const char *unique_name, struct os_file *beacon, entry_remover *remove_unique,
                  bool *freed);
    int (*finish)(const struct os_file *directory, const char *file, const struct os_file *inside);

    /* Opens again what was lost of the descriptors of what is owned, and lights the beacon. */
    int (*mend)(struct files_claim *claim);

    /* In a child that has inherited it, and was found to be true: writes down the new owner. Fails
     * without a word. NULL: that cannot be without a moment in which nobody owned. */
    void (*adopt)(struct files_claim *claim);

    /* Removes whatever is at the lock file's name. EAGAIN: it is emptied and opened, and is to be
     * removed by finish(). */
    int (*condemn)(const struct os_file *directory, const char *file, struct os_file *emptied);
};

extern const struct shape link_shape;
extern const struct shape mkdir_shape;
extern const struct shape symlink_shape;
extern const struct shape pid_shape;

/* Of what is found at the lock file's name. */
const struct shape *shape_of(const struct attempt *attempt, enum os_kind kind);
bool shape_is_pid_file(const struct attempt *attempt); /* whatever is found: its class makes them */

/* As in struct mechanism. */
enum outcome link_claim(struct attempt *attempt);
enum outcome mkdir_claim(struct attempt *attempt);
enum outcome symlink_claim(struct attempt *attempt);
enum outcome pid_claim(struct attempt *attempt);

/* A claim that could not get what it wanted is at its end, whatever it has left. */
void mkdir_end_backing_off(struct attempt *attempt);

#endif
