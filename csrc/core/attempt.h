/* One call of a method of a lock, by one owner: what the core and a mechanism tell each other. */
#ifndef LOCKFILE_ATTEMPT_H
#define LOCKFILE_ATTEMPT_H

#include "core/wait.h"

#include <stddef.h>

enum outcome {
    LOCK_OWNED,       /* by the owner that calls */
    LOCK_RELEASED,    /* by this call */
    LOCK_FREE,        /* there is no lock file */
    LOCK_FOUND,       /* there is one: judge it */
    LOCK_SHARED,      /* by others, whom the caller may join */
    LOCK_STALE,       /* its owner is proven dead */
    LOCK_HELD,        /* by somebody else, or by nobody knows whom */
    LOCK_BROKEN,      /* it was ours, and somebody has removed it */
    LOCK_WAITING,     /* call again when attempt.wait is over */
    LOCK_INTERRUPTED, /* a signal came, or may have come: see to it, and call again */
    LOCK_FAILED       /* the report says why */
};

/* ---- Lock objects ---- */

enum ownership { OWNED_BY_CALLER, OWNED_BY_THREAD, OWNED_BY_PROCESS, OWNED_BY_OBJECT };

/* Never changes once made, but for what was tried in vain. Shared by counting. */
struct lock {
    const struct mechanism *mechanism; /* NULL: a subclass in Python brings its own */
    enum ownership ownership;
    bool is_shared;     /* what acquire() asks for, unless it is told otherwise */
    uint64_t token;     /* of the object, if that owns */
    struct vain *waits; /* waited for in vain (vain.h); guarded by the mutex, as is the next: */
    struct identity refused; /* a stale lock that could not be broken yet ... */
    int64_t refused_since;   /* ... since then */
    int references;
    char host[OS_HOST_SIZE];
    char chosen_name[NAME_SIZE]; /* what a link's unique file is called; "": after its owner */
    char *path;                  /* as given */
    char *directory;             /* the lock file's, absolute, with a separator at its end */
    const char *file;            /* the lock file's name in it */
    char *store; /* what keeps the lock: "": its directory; else what the mechanism makes of it */
    char lock_file[];
};

/* NULL: out of memory. lock_file is absolute. */
struct lock *lock_new(const struct mechanism *mechanism, const char *path, const char *lock_file,
                      const char *store, enum ownership ownership, bool is_shared);

/* For a lock just made: what its names say of this host, and what its unique file is called: an
 * absolute path, which counts if it is one in the lock file's directory. */
void lock_name_host(struct lock *lock, const char *host);
void lock_choose_name(struct lock *lock, const char *path);

struct lock *lock_share(struct lock *lock);
void lock_drop(struct lock *lock);

/* Who owns by this lock, when that one calls, in that thread. */
struct owner owner_of(const struct lock *lock, struct owner calling, struct owner thread);

/* What a reader's mark says; and is it one of that host, as far as can be told? */
struct os_reader lock_reader(const char *host, struct owner owner);
bool lock_is_host(const char *host, struct os_reader reader);

/* May several callers be one owner? */
static inline bool
lock_is_common(const struct lock *lock)
{
    return lock->ownership == OWNED_BY_PROCESS || lock->ownership == OWNED_BY_OBJECT;
}

static inline struct table_name
lock_name(const struct lock *lock)
{
    return (struct table_name){lock->lock_file, lock->store};
}

/* ---- What is told ---- */

enum life { LIFE_UNKNOWN, LIFE_ALIVE, LIFE_DEAD };

struct holder {
    bool known;   /* whether a name of our form says who it is */
    bool sibling; /* it is of this process, as its kind says ... */
    enum owner_kind kind;
    bool beside;      /* ... and runs in the calling thread */
    bool is_shared;   /* others may hold it, too; */
    unsigned readers; /* so many do; 0: unknown */
    struct name name;
    enum life life;
    int64_t since;          /* when its lock came to be, by the system's date; 0: unknown */
    struct os_inode beacon; /* what its process has open; 0: unknown */
};

/* What an exception's message is made of. */
struct report {
    int error;          /* why it failed; 0: it did not */
    const char *doing;  /* what failed then */
    const char *reason; /* why a lock is held though no live owner is in sight */
    bool mine;          /* it is held, and says that this process holds it, unproven */
    bool upgrades;      /* what failed is to have alone what the caller shares */
    bool raised;        /* Python code that the mechanism has called has raised, and knows more */
    bool releasing;     /* what failed was a release ... */
    bool owned;         /* ... and the caller still owns */
    struct holder holder;
};

/* ---- One call ---- */

/* What the next step of acquire() begins with. */
enum stage {
    STAGE_OWN,   /* is it the owner's already? */
    STAGE_CLAIM, /* try to make it ours */
    STAGE_LOOK,  /* it was held: look before claiming again */
};

/* Room for what a mechanism keeps as long as a call lasts: the place that it has reached, and what
 * it has found there. It begins with zeros. */
union place {
    max_align_t aligned;
    unsigned char bytes[1024];
};

struct attempt {
    /* The call. */
    struct lock *lock;
    struct owner owner;
    struct waiter wait;
    struct report report;
    bool claiming;     /* it is acquire(): it waits for the lock, or not at all */
    bool shares;       /* ... and wants to share it */
    bool leaving;      /* it is release(), for the end of a with block */
    bool forsaking;    /* it is release(), but whoever has inherited the lock keeps it */
    bool inheritable;  /* it is set_inheritable(): what is to be */
    uint64_t entering; /* it begins a block with the claim of that serial; 0: with any */
    bool incurious;    /* it does not want to know who holds the lock that it does not get */
    bool stops_thread; /* a wait stops all who share the thread, an owner among them */

    /* From one step to the next. */
    enum stage stage;
    uint64_t generation;      /* the process that the place and the claims are of */
    bool runs;                /* lock_run() calls the steps: no code of the program in between */
    bool reached;             /* the place is open */
    bool yielded;             /* courtesy was asked for ... */
    int64_t yield_until;      /* ... and is paid until then */
    unsigned rounds;          /* without sleep */
    int64_t call_patience;    /* how long to wait for another call of the owner, next time, */
    int64_t call_until;       /* until when it does just now; 0: it does not, */
    int64_t call_waited;      /* and how long it has */
    bool was_patient;         /* this step waits for others' short work ... */
    int64_t patient_since;    /* ... since when steps have; 0: they have not */
    int64_t patience_limit;   /* until when they may, in all of the call; 0: for ever */
    int64_t unanswered_since; /* since when nobody could even be asked; 0: somebody could */
    bool granted;             /* acquire() has made the claim, which the owner had not */
    bool has_met;             /* the lock was held, and the caller would wait ... */
    struct identity met;      /* ... and this is what for, at first */
    struct claim *releasing;  /* what this call has begun to release */
    bool is_owned_shared;     /* what the owner was found to have is shared */
    bool cannot_join;         /* acquire() would share it, but waits until all others have left */
    bool gives_way;           /* acquire() lets in who waits for it exclusively ... */
    int64_t gives_way_until;  /* ... until then; 0: it has not met any */
    bool has_given_way;       /* so it has, when it last tried to join, */
    bool owes_way;            /* and before, so that the other comes first once the lock is free */
    bool has_waited;          /* it has waited for one who had it alone: now it is its turn */
    uint64_t condemned;       /* the youngest serial of what this process had of a broken lock, */
    struct identity condemned_claim; /* which is that */
    int64_t condemned_until; /* until when another call is waited for that uses that claim */
    bool broken;             /* release() has found that the owner owns nothing; break_lock() is
                              * done with what was there */

    /* What the mechanism has found. */
    struct identity found; /* which claim, when last looked at */
    struct ground ground;
    union place place;
};

void attempt_begin(struct attempt *attempt, struct lock *lock, struct owner owner,
                   int64_t deadline);
void attempt_end(struct attempt *attempt);
struct table_key attempt_key(const struct attempt *attempt); /* of what was found */

/* Does it want to share the lock, so that it may join others? */
static inline bool
attempt_may_join(const struct attempt *attempt)
{
    return attempt->claiming && attempt->shares;
}

/* Opens the place, unless it is open; and leaves it. 0 or an errno value. */
int attempt_reach(struct attempt *attempt);
void attempt_leave_place(struct attempt *attempt);
enum outcome attempt_cannot_reach(struct attempt *attempt, int error); /* FAILED */

/* Is a path of the lock's longer than the system takes? What it leads to may be there all the same,
 * for who has a shorter one. */
bool attempt_is_beyond_paths(const struct attempt *attempt);

/* FOUND: there may be a lock. To whoever does not want to make a lock file, a missing directory
 * holds none: FREE; FAILED. */
enum outcome attempt_reach_to_look(struct attempt *attempt);

/* Others keep what is needed, for a moment only, unless they are stopped, or mean ill. True: the
 * step returns LOCK_WAITING, and is called again after that pause; false: it has been so for too
 * long. */
bool attempt_is_patient(struct attempt *attempt, int64_t patience, int64_t pause);

/* Others' work is over, and what comes next has its patience for itself. */
void attempt_renew_patience(struct attempt *attempt);

/* Around each step. In a forked child what the attempt had is its parent's. Patience begins anew
 * when a step has not asked for it. The end passes the outcome on. */
void attempt_begin_step(struct attempt *attempt);
enum outcome attempt_end_step(struct attempt *attempt, enum outcome outcome);

#endif
