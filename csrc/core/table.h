/* The table of what this process owns, shared by its threads and interpreters.
 *
 * A claim is what an owner has made to own a lock: it is entered before anybody can see it, kept
 * once the lock is owned, and removed when it is not any more. It is used by one call at a time:
 * table_enter() and table_take() hand it out, table_keep() and table_remove() end that. Claims
 * therefore need no lock of their own while system calls are made on them. A forked child finds
 * in the table only what it inherits.
 *
 * To the caller that uses a claim, it is not there meanwhile: so it is for Python code that runs
 * inside a call (on Python 3.11, a garbage collection may set off some), which would otherwise wait
 * for itself.
 */
#ifndef LOCKFILE_TABLE_H
#define LOCKFILE_TABLE_H

#include "core/proof.h"

struct mechanism;

/* Which claim it is: numbers that say something to its mechanism alone. */
struct identity {
    uint64_t place[2]; /* where it is: the same for all that are there */
    uint64_t claim[2]; /* which one of them; 0, 0: none */
    int64_t born;      /* tells apart two that had the same numbers in turn */
};

static inline bool
identity_is_none(struct identity identity)
{
    return identity.claim[0] == 0 && identity.claim[1] == 0;
}

/* The same numbers: one claim, or another that came after it. */
static inline bool
identity_is_alike(struct identity one, struct identity other)
{
    return one.place[0] == other.place[0] && one.place[1] == other.place[1] &&
           one.claim[0] == other.claim[0] && one.claim[1] == other.claim[1];
}

static inline bool
identity_is_same(struct identity one, struct identity other)
{
    return identity_is_alike(one, other) && one.born == other.born;
}

/* A claim is in several chains, each of which finds it by something else. */
enum table_chain {
    TABLE_ALL,
    TABLE_BY_PATH,
    TABLE_BY_IDENTITY,
    TABLE_BY_UNIQUE_NAME,
    TABLE_CHAINS
};

struct table_link {
    struct claim *next;
    struct claim **from; /* what points here; NULL: it is in no chain */
};

/* A mechanism's own kind of claim begins with this. */
struct claim {
    struct table_link chains[TABLE_CHAINS];
    uint64_t user;       /* the caller that uses it now; 0: none */
    bool releasing;      /* ... and what for; guarded by the mutex, as are the user and the next */
    bool is_kept;        /* it is owned; before that, it is only made */
    unsigned depth;      /* of with blocks; guarded by the mutex, as are the next */
    bool is_inheritable; /* a forked child keeps it, too; */
    bool is_inherited;   /* it is a parent's: nobody here has called since, */
    bool is_misnamed;    /* though its unique name may still be the parent's */
    bool is_shared;      /* it lets other readers in; guarded by the mutex */
    bool has_joined;     /* what another has made: so is the unique name, if it has one */
    uint64_t serial;     /* identities are reused, serials are not */
    const struct mechanism *mechanism;
    struct owner owner;
    struct identity identity;
    struct os_file beacon; /* its kernel lock proves that the owner lives */
    const char *lock_file; /* absolute */
    const char *file;      /* the lock file's name in its directory */
    const char *store;     /* see struct lock */
    const char *note;      /* what the mechanism wanted to remember */
    char unique_name[NAME_SIZE];
};

/* How a lock is called. */
struct table_name {
    const char *lock_file;
    const char *store;
};

/* A lock file that was found: what it is, and how it is called there. A backup that hard-links the
 * directory makes another lock file of the same inode, which is not ours. */
struct table_key {
    struct identity identity;
    const char *file;
};

uint64_t table_hash(const char *text);

/* A claim that is not in the table yet; NULL: out of memory. size: of the mechanism's kind. What it
 * is found by (paths, identity) does not change any more once it is entered. */
struct claim *table_new(size_t size, const struct mechanism *mechanism, struct owner owner,
                        struct table_name name, const char *note);
bool table_enter(struct claim *claim); /* false: the process is at its end */

/* The same for what others may have, too: KNOWN, if the owner has it already. */
enum table_entry { TABLE_ENTERED, TABLE_KNOWN, TABLE_CLOSED };
enum table_entry table_join(struct claim *claim);
/* The same, where each of those who share it has an identity of its own: it is one lock that has
 * one note in one place. known: which claim of its owner's that is. */
enum table_entry table_join_by_note(struct claim *claim, struct identity *known);
void table_share(struct claim *claim); /* it is shared from now on */
void table_keep(struct claim *claim);
void table_remove(struct claim *claim); /* if it is in; to be freed then */

/* Puts a descriptor opened anew in the place of one that was lost. */
void table_replace(struct os_file *lost, struct os_file found);

/* What owner has at this lock file; by another path, it is found by its key. BUSY, RELEASING:
 * another call uses it; changes: how often the table has changed so far. */
enum table_answer { TABLE_NONE, TABLE_TAKEN, TABLE_BUSY, TABLE_RELEASING };
enum table_answer table_take(struct table_name name, struct owner owner, struct claim **claim,
                             uint64_t *changes);
enum table_answer table_take_key(struct table_key key, struct owner owner, struct claim **claim,
                                 uint64_t *changes);

/* Has the table changed since? await: sleeps until it has, or that time has come. */
bool table_has_changed(uint64_t changes);
bool table_await_change(uint64_t changes, int64_t time);

/* Anything that the owner owns and no call uses. NULL: there is nothing. */
struct claim *table_take_any(struct owner owner);

/* One of those that are there, not younger than serial, whoever's it is: NONE, TAKEN, BUSY. */
enum table_answer table_take_condemned(struct table_key key, uint64_t serial, struct owner owner,
                                       struct claim **claim, uint64_t *changes);

/* The owner has another unique name from now on, and a true one. */
void table_rename(struct claim *claim, const char *unique_name);

/* Counts one with block less, whoever uses the claim. */
void table_end_block(struct table_name name, struct owner owner);

/* The taken one is about to be released. */
void table_begin_release(struct claim *claim);

/* What can be told of what the owner owns without waiting for who uses it; by its name or its key.
 * False: there is none. */
struct table_told {
    const struct mechanism *mechanism;
    int descriptor;      /* the beacon's; -1: it is just released */
    bool is_inheritable; /* children may keep it, too, */
    bool is_inherited;   /* or it is a parent's, and nobody here has called since */
    uint64_t serial;
    bool has_joined; /* the unique name is another's */
    char unique_name[NAME_SIZE];
};
bool table_tell(const struct table_name *name, const struct table_key *key, struct owner owner,
                struct table_told *told);

/* At Python's end nothing is entered any more; a program that embeds it may start it
 * again. What is left is taken if no other call uses it; mechanism NULL: of any. */
void table_close(void);
void table_open(void);
struct claim *table_take_last(const struct mechanism *mechanism);

/* Does owner own a lock file of that name, in whatever directory? */
bool table_has_file(const char *file, struct owner owner);

/* Who in this process has it, of several the asking owner, or one in its thread: does not wait.
 * False: nobody. */
struct table_found {
    struct owner owner;
    bool is_shared;
    uint64_t serial; /* of the youngest */
};
bool table_find(struct table_key key, struct owner asking, struct table_found *found);

/* Is name the unique name of one of our own in that place? */
bool table_names(struct identity place, const char *name);

#endif
