/* What a lock is, and what a mechanism must offer.
 *
 * A lock protects a path, which need not exist, by a lock file beside it,
 * abspath(path) + ".lock". The file system grants it (whoever makes the lock
 * file owns), the kernel says whether its owner lives (owner.h), and waiters
 * are told of changes (wait.h). lock.c puts these together, once for all
 * mechanisms; a mechanism says how a lock file is made, judged and removed.
 *
 * Calling sequence, for every method of a lock:
 *
 *     struct attempt attempt;
 *     attempt_begin(&attempt, lock, deadline);
 *     outcome = lock_acquire(&attempt);      (or another of the lock_ functions)
 *     attempt_end(&attempt);
 *
 * None of this knows Python, and none needs the GIL. Each of them may return
 * LOCK_INTERRUPTED: lock_acquire() when a signal came while it waited, all of them when
 * another call of the same owner is at work on the same lock for long. Nothing is held
 * then, so handlers may run and may use the same lock; call it again to go on.
 */
#ifndef LOCKFILE_LOCK_H
#define LOCKFILE_LOCK_H

#include "core/owner.h"
#include "core/table.h"
#include "core/wait.h"

enum outcome {
    LOCK_OWNED,       /* by the caller */
    LOCK_RELEASED,    /* by this call */
    LOCK_FREE,        /* there is no lock file */
    LOCK_STALE,       /* its owner is proven dead */
    LOCK_HELD,        /* by somebody else, or by nobody knows whom */
    LOCK_BROKEN,      /* it was ours, and somebody has removed it */
    LOCK_INTERRUPTED, /* a signal came, or may have come: see to it, and call again */
    LOCK_FAILED       /* the report says why */
};

enum life { LIFE_UNKNOWN, LIFE_ALIVE, LIFE_DEAD };

struct holder {
    bool known;  /* whether a name of our form says who it is */
    bool thread; /* whether it is another thread of this process */
    struct owner_name name;
    enum life life;
};

/* What an exception's message is made of. */
struct report {
    int error;          /* why it failed; 0: it did not */
    const char *doing;  /* what failed then */
    const char *reason; /* why a lock is held though no live owner is in sight */
    bool releasing;     /* what failed was a release ... */
    bool owned;         /* ... and the caller still owns */
    void *cause;        /* the exception, of a mechanism that calls Python; borrowed */
    struct holder holder;
};

/* Never changes once made, but for what was waited for. Shared by counting. */
struct lock {
    const struct mechanism *mechanism; /* NULL: a subclass in Python brings its own */
    bool threaded;
    struct waited *waited; /* what was waited for in vain; guarded by os_lock(), as are the next */
    struct os_inode refused; /* a dead owner's lock file, whose beacon a look keeps from us ... */
    int64_t refused_since;   /* ... since then */
    int references;
    char host[OS_HOST_SIZE];
    char *path;       /* as given */
    char *directory;  /* the lock file's, absolute, with a slash at its end */
    const char *file; /* the lock file's name in it */
    char *database;   /* where the lock is a row, absolute; else "" */
    char lock_file[];
};

static inline struct table_name
lock_name(const struct lock *lock)
{
    return (struct table_name){lock->lock_file, lock->database};
}

struct shape;

/* One call of a method by one owner. */
struct attempt {
    struct lock *lock;
    void *caller; /* for a mechanism that calls Python back */
    struct owner owner;
    struct wait wait;
    struct report report;
    bool leaving;               /* release() for the end of one */
    bool contended;             /* it was held: look before claiming */
    bool asleep;                /* sleeping on is enough, for all that was looked at */
    int64_t patience;           /* how long to wait for another call of the owner, next time ... */
    int64_t patient;            /* ... and how long it has */
    bool claiming;              /* acquire(): it waits for the lock, or not at all */
    bool broken;                /* release() found that the caller owns nothing */
    struct os_identity foreign; /* a lock file found to be nobody's we know */
    int64_t busy_since;         /* since when nobody could even be asked; 0: somebody could */
    bool waiting;               /* it was held, and the caller would wait ... */
    struct os_identity seen;    /* ... and this is what for, at first */
    struct owner_ground ground; /* from here on: for as long as the place is open */
    struct os_file directory;
    struct os_file found;  /* the lock file in the way, when last looked at */
    struct os_file beacon; /* its unique file, where that is another file */
    const struct shape *shape;
    char found_name[OWNER_NAME_SIZE];
};

struct mechanism {
    bool unique_file_is_inside; /* the lock file, or beside it */

    /* Reaches the place where the lock is, and leaves it. 0 or an errno value. */
    int (*open)(struct attempt *attempt);
    void (*close)(struct attempt *attempt);

    /* Tries once to make the lock file ours: OWNED, HELD, FAILED; FREE: what it
     * worked on was removed meanwhile, so open the place anew. */
    enum outcome (*claim)(struct attempt *attempt);

    /* Judges what is there: OWNED, FREE, STALE, HELD, FAILED. Watched: sets the
     * watch first, and lets the owner know that somebody waits. */
    enum outcome (*look)(struct attempt *attempt, bool watched);

    /* Is there a lock at all? Cheaper than a look. */
    bool (*is_there)(struct attempt *attempt);

    /* Says all that can be known about who holds what was looked at, for messages. */
    void (*identify)(struct attempt *attempt);

    /* Which lock it is that is there now; inode number 0: none. */
    struct os_identity (*recognise)(struct attempt *attempt);

    /* Removes the lock that was found stale: FREE, HELD, FAILED. */
    enum outcome (*break_stale)(struct attempt *attempt);

    /* Is an entry of the table still true? OWNED, BROKEN, FAILED; FREE: it is, but the
     * lock's path leads to another place by now. */
    enum outcome (*confirm)(struct attempt *attempt, struct owned *owned);

    /* Drops an entry that is not true any more, and what is left of it on disk. */
    void (*discard)(struct owned *owned);

    /* RELEASED, BROKEN: the entry is gone; FAILED: if the report says owned, it is still there, and
     * busy. */
    enum outcome (*release)(struct attempt *attempt, struct owned *owned, bool *awaited);

    /* Removes the lock whoever owns it: the one that was waited for, else the one there now. */
    enum outcome (*condemn)(struct attempt *attempt, const struct os_identity *waited_for);
};

extern const struct mechanism link_mechanism;
extern const struct mechanism mkdir_mechanism; /* and sqlite.h has one */

/* NULL: out of memory. lock_file is absolute, and so is database, unless it is "". */
struct lock *lock_new(const struct mechanism *mechanism, const char *path, const char *lock_file,
                      const char *database, bool threaded);
void lock_drop(struct lock *lock);

void attempt_begin(struct attempt *attempt, struct lock *lock, int64_t deadline);
void attempt_end(struct attempt *attempt);
struct table_key attempt_key(const struct attempt *attempt); /* of the lock file found */

enum outcome lock_acquire(struct attempt *attempt); /* OWNED, HELD, INTERRUPTED, FAILED */
enum outcome lock_release(struct attempt *attempt); /* RELEASED, FREE, HELD, FAILED */
enum outcome lock_look(struct attempt *attempt);    /* OWNED, FREE, STALE, HELD, FAILED */
enum outcome lock_break(struct attempt *attempt);   /* FREE, FAILED */

/* Like lock_look(), and says who owns. */
enum outcome lock_identify(struct attempt *attempt);

/* with blocks nest. lock_enter() counts one more: OWNED; FREE: the lock is not owned, since
 * another thread of the same owner has left its block meanwhile. lock_leave() counts
 * one less: RELEASED; OWNED: it does not, since this is the outermost; then lock_release() with
 * attempt.leaving ends it, and releases unless another thread has entered meanwhile. */
enum outcome lock_enter(struct attempt *attempt);
enum outcome lock_leave(struct attempt *attempt);

/* A block is over though its end was interrupted: it does not count any more. */
void lock_end_block(struct attempt *attempt);

/* The caller's unique name for this lock: the real one while it owns, by whichever class and
 * path. Whether it is inside the lock file, or beside it. */
bool lock_unique_name(struct attempt *attempt, char name[OWNER_NAME_SIZE]);

/* The beacon's descriptor; -1: not owned. */
int lock_descriptor(struct attempt *attempt);

/* At exit: releases all that this process owns and that needs no Python any more. */
void lock_release_all(void);

#endif
