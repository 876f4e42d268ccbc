/* The table of what this process owns, shared by its threads and interpreters.
 *
 * An entry is used by one call at a time: table_enter() and table_take() hand
 * it out busy, table_keep() and table_drop() end that, and whoever wants it
 * meanwhile waits. Entries therefore need no lock of their own while system
 * calls are made on them. A forked child finds the table empty.
 */
#ifndef LOCKFILE_TABLE_H
#define LOCKFILE_TABLE_H

#include "owner.h"

struct mechanism;

struct owned {
    struct owned *next;
    bool busy;
    uint64_t serial; /* inode numbers are reused, serials are not */
    const struct mechanism *mechanism;
    struct owner owner;
    struct os_file directory; /* the lock file's, which may be renamed while we own */
    struct os_file beacon;    /* the unique file; its inode is the lock's identity */
    bool local;               /* its file system is: waiters leave marks */
    unsigned depth;           /* of with blocks */
    const char *file;         /* the lock file's name in its directory */
    char unique_name[OWNER_NAME_SIZE];
    char lock_file[]; /* absolute */
};

/* An entry that is not in the table yet; NULL: out of memory. */
struct owned *table_new(const struct mechanism *mechanism, struct owner owner,
                        const char *lock_file);
void table_enter(struct owned *owned);
void table_keep(struct owned *owned);

/* Takes the entry out (if it is in), closes what it holds, frees it. */
void table_drop(struct owned *owned);

/* What owner owns at this lock file, or under this inode: by another path. */
struct owned *table_take(const char *lock_file, struct owner owner);
struct owned *table_take_inode(struct os_inode inode, struct owner owner);
struct owned *table_take_serial(uint64_t serial);
struct owned *table_take_idle(void);

/* Who in this process owns an inode: does not wait. False: nobody. */
bool table_find(struct os_inode inode, struct owner *owner, uint64_t *serial);

/* Is name in this directory the unique name of one of our own? */
bool table_names(struct os_inode directory, const char *name);

#endif
