/* The place of a lock: the directory of its lock file, opened once for each round of
 * a call, and what lies at the lock file's name, whichever class made it. */
#ifndef LOCKFILE_PLACE_H
#define LOCKFILE_PLACE_H

#include "core/judge.h"
#include "mechanisms/files/unique.h"

struct shape;

/* What these mechanisms keep for as long as a call lasts. */
struct files_place {
    struct os_file directory;
    struct os_file found;  /* the lock file in the way, when last looked at */
    struct os_file beacon; /* its unique file, where that is another file */
    char found_name[NAME_SIZE];
    const struct shape *shape;
    struct identity foreign;         /* a lock file found to be nobody's we know */
    bool is_emptied;                 /* what was found stale is, and is to be removed yet */
    struct files_claim *backing_off; /* so is what this claim has made, */
    int backs_off_for;               /* which failed for that reason */
    bool is_condemning;              /* a break_lock() keeps removals off ... */
    bool is_marked;                  /* ... by its mark, too ... */
    int64_t condemns_until;          /* ... for so long at most */
    bool must_sweep;                 /* it has removed something */
};

_Static_assert(sizeof(struct files_place) <= sizeof(union place), "it must fit");

static inline struct files_place *
place_of(struct attempt *attempt)
{
    return (struct files_place *)attempt->place.bytes;
}

/* A claim of these mechanisms. */
struct files_claim {
    struct claim claim;
    const struct shape *shape;
    struct os_file directory; /* the lock file's, which may be renamed while we own */
    struct os_file inside;    /* the lock file, where that is a directory; else none */
    struct os_inode inode;    /* the lock file's */
    bool local;               /* its file system is: waiters leave marks */
    bool is_lit_shared;       /* others may share the beacon ... */
    bool has_left;            /* ... which is given up: only what is left of it goes yet */
    struct os_reader reader;  /* what its mark says, */
    int64_t lock_file_born;   /* and since when the lock file is there, if it has joined */
    int64_t born;             /* the unique file was, if children are to have it */
    bool has_heirs;           /* children may have it, too: whoever removes it takes a turn, */
    struct os_file turn;      /* by a mark on its directory, opened anew for that; else none */
    bool is_lit_by_others;    /* the beacon is, who have it, too: our copy was lost */
    bool is_emptied;          /* it is not owned any more, but the lock directory is there yet */
};

static inline struct files_claim *
files_claim_of(struct claim *claim)
{
    return (struct files_claim *)claim;
}

/* Where those who wait for it leave their marks: the lock file. */
static inline const struct os_file *
place_marked(const struct files_claim *claim)
{
    return os_is_none(&claim->inside) ? &claim->claim.beacon : &claim->inside;
}

static inline struct identity
place_identity(const struct os_file *directory, struct os_inode inode)
{
    return (struct identity){
        .place = {directory->inode.device, directory->inode.number},
        .claim = {inode.device, inode.number},
    };
}

/* ---- What is there ---- */

void place_begin(struct attempt *attempt);
void place_leave_to_parent(struct attempt *attempt);
int place_open(struct attempt *attempt);
void place_close(struct attempt *attempt); /* what is condemned or backs off is ended before */

/* Opens what is at the lock file's name; will_wait: and watches it. FOUND: it is open,
 * to be judged further; FREE, HELD, FAILED: that is the judgement. */
enum outcome place_find(struct attempt *attempt, bool will_wait, struct os_status *status);

struct identity place_recognise(struct attempt *attempt);
int place_identify(const struct os_file *directory, const char *file, struct identity *identity);

/* Does the beacon of what was found, seen on this file, say that its owner lives, or its owners?
 * HELD, SHARED, FAILED; STALE: it is dark, which may prove something. */
enum outcome place_look_at_beacon(struct attempt *attempt, const struct os_file *file);

/* ---- A claim's place ---- */

/* A claim that is not in the table yet; NULL: out of memory, and the report says so. */
struct files_claim *place_new_claim(struct attempt *attempt, const struct shape *shape);
void place_drop(struct files_claim *claim);

/* Do forked children keep the claim, and what it has open? */
void place_share(struct files_claim *claim, bool inheritable);

/* In the table before the lock file is published: whoever of us sees it must not
 * wait for ourselves. inode: the lock file's. False: the process is at its end. */
bool place_enter(struct attempt *attempt, struct files_claim *claim, struct os_inode inode);

/* The same for what has been published; as table_join(). */
enum table_entry place_join(struct attempt *attempt, struct files_claim *claim);

/* It is published: the directory goes to the claim. */
enum outcome place_own(struct attempt *attempt, struct files_claim *claim);

/* Does the path still lead to the directory of what is owned? */
bool place_is_there(const struct files_claim *claim);

/* Opens the directory of what is owned anew, if it is still the one; else ENOENT. */
int place_reopen(struct files_claim *claim);

/* The name of the unique file of what is owned, in this directory; of what is inheritable, it may
 * be the lock file's. ENOENT: it is not there. And opens it anew. */
int place_find_unique(const struct files_claim *claim, const struct os_file *directory,
                      char name[NAME_SIZE]);
int place_open_beacon(const struct files_claim *claim, const struct os_file *directory,
                      struct os_file *file);

/* Lights the beacon of what is owned again, on its unique file in this directory, if that was lost.
 * Refused, another may be proving us dead just now: that is soon over. But what is inheritable
 * others keep lit, and need not be lit twice. */
int place_mend_beacon(struct files_claim *claim, const struct os_file *directory);

/* ---- Others' short work ---- */

/* Refused, a step is tried again for so long. True: it returns LOCK_WAITING. */
bool place_is_patient(struct attempt *attempt, int error);

#endif
