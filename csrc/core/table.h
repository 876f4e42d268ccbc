/* The table of what this process owns, shared by its threads and interpreters.
 *
 * An entry is used by one call at a time: table_enter() and table_take() hand
 * it out busy, table_keep() and table_drop() end that, and whoever wants it
 * meanwhile waits: mostly for microseconds, but the other call may hang on its file
 * system, so for no longer than it wants to. Entries therefore need no lock of their own while
 * system calls are made on them. A forked child finds the table empty.
 *
 * To the thread that uses an entry, it is not there meanwhile: so it is for Python
 * code that runs inside a call (on Python 3.11, a garbage collection may set off
 * some), which would otherwise wait for itself.
 */
#ifndef LOCKFILE_TABLE_H
#define LOCKFILE_TABLE_H

#include "core/owner.h"

struct mechanism;

/* An entry is in several chains, each of which finds it by something else. */
enum table_chain { TABLE_ALL, TABLE_BY_PATH, TABLE_BY_INODE, TABLE_BY_UNIQUE_NAME, TABLE_CHAINS };

struct table_link {
    struct owned *next;
    struct owned **from; /* what points here; NULL: it is in no chain */
};

struct owned {
    struct table_link chains[TABLE_CHAINS];
    uint64_t user;   /* the thread that uses it now; 0: none */
    bool releasing;  /* ... and what for; guarded by os_lock(), as are the user and the next */
    bool is_kept;    /* it is owned; before that, it is only claimed */
    uint64_t serial; /* inode numbers are reused, serials are not */
    const struct mechanism *mechanism;
    struct owner owner;
    struct os_file directory; /* the lock file's, which may be renamed while we own */
    struct os_file beacon;    /* the unique file */
    struct os_file inside;    /* the lock file, where that is a directory; else -1 */
    struct os_inode inode;    /* the lock file's */
    bool local;               /* its file system is: waiters leave marks */
    unsigned depth;           /* of with blocks; guarded by os_lock() */
    const char *file;         /* the lock file's name in its directory */
    const char *database;     /* where the lock is a row, else "" ... */
    const char *row;          /* ... and what the row is called */
    char unique_name[OWNER_NAME_SIZE];
    char lock_file[]; /* absolute */
};

/* How a lock is called. */
struct table_name {
    const char *lock_file;
    const char *database; /* "": none */
};

/* A lock file that was found: what it is, and where. A backup that hard-links the
 * directory makes another lock file of the same inode, which is not ours. */
struct table_key {
    struct os_inode inode;
    struct os_inode directory;
    const char *file;
};

uint64_t table_hash(const char *text);

/* An entry that is not in the table yet; NULL: out of memory. What it is found by (paths,
 * inodes, unique name) does not change any more once it is entered. */
struct owned *table_new(const struct mechanism *mechanism, struct owner owner,
                        struct table_name name, const char *row);
bool table_enter(struct owned *owned); /* false: the process is at its end */
void table_keep(struct owned *owned);

/* Takes the entry out (if it is in), closes what it holds, frees it. */
void table_drop(struct owned *owned);

/* Puts a descriptor opened anew in the place of one that was lost. */
void table_replace(struct os_file *lost, struct os_file found);

enum table_answer { TABLE_NONE, TABLE_TAKEN, TABLE_BUSY, TABLE_RELEASING };

/* What owner owns at this lock file; by another path, it is found by its key. BUSY,
 * RELEASING: another call still uses it, after so many nanoseconds. */
enum table_answer table_take(struct table_name name, struct owner owner, int64_t patience,
                             struct owned **owned);
enum table_answer table_take_key(struct table_key key, struct owner owner, int64_t patience,
                                 struct owned **owned);

/* The same; NULL: it is gone, or another call uses it, and finds out for itself what
 * has become of the lock. */
struct owned *table_take_serial(uint64_t serial);

/* Counts one with block less, whoever uses the entry. */
void table_end_block(struct table_name name, struct owner owner);

/* The taken one is about to be released. */
void table_begin_release(struct owned *owned);

/* What can be told of what the owner owns without waiting for who uses the entry; by its
 * name or its key. False: there is none. */
struct table_told {
    const struct mechanism *mechanism;
    int descriptor; /* the beacon's; -1: it is just released */
    char unique_name[OWNER_NAME_SIZE];
};
bool table_tell(const struct table_name *name, const struct table_key *key, struct owner owner,
                struct table_told *told);

/* At Python's end nothing is entered any more; a program that embeds it may start it
 * again. What is left is taken if no other call uses it; mechanism NULL: of any. */
void table_close(void);
void table_open(void);
struct owned *table_take_last(const struct mechanism *mechanism);

/* Does owner own a lock file of that name, in whatever directory? */
bool table_has_file(const char *file, struct owner owner);

/* Who in this process owns it: does not wait. False: nobody. */
bool table_find(struct table_key key, struct owner *owner, uint64_t *serial);

/* Is name in this directory the unique name of one of our own? */
bool table_names(struct os_inode directory, const char *name);

#endif
