/* What the kernel keeps for the processes of both models: their open files, the locks on
 * these, and the flock of the directory. link.pml and mkdir.pml include it.
 *
 * Inodes are numbers from 1 on; 0 is none. At any time a process has at most two files open
 * that matter: its own unique file, and another, which it judges or sweeps. Whether a lock is to
 * be had, or a number is free, is seen by looking at all processes: nothing is kept twice.
 * Arrays have room for three; a process that is not there is dead. */

#ifndef PROCESSES
#define PROCESSES 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef REACH
#define REACH 0
#endif

#define NONE 0
#define SHARED 1
#define EXCLUSIVE 2

mtype at[3];     /* the system call that it makes next */
byte name[3];    /* the unique name at hand; 0: none */
byte mine[3];    /* its own unique file, open */
bit lit[3];      /* the beacon: an exclusive flock on it */
byte other[3];   /* another open file: one that was found, or is to be swept */
byte locked[3];  /* the flock on that */
byte flocked[3]; /* the flock on the directory */
bit sweeping[3]; /* reaps one name after another; else: only the one that its claim found taken */
bit again[3];    /* that one has been reaped */

/* Which lock break_lock() may condemn: the number of the one that was waited for. */
byte seen[3];
bit reborn[3]; /* that number belongs to another inode by now, born at another time */

/* For the assertions. */
bit owns[3];      /* acquire() has returned, and release() has not removed the lock file yet */
bit condemned[3]; /* break_lock() has removed its lock */
bit over;         /* all were killed; one is started once more, and left in peace */
byte crashes;

#define IS_ALIVE(q) (at[q] != DEAD)

#define OPEN_BY(q, i) (mine[q] == (i) || other[q] == (i))
#define LIT_BY(q, i) (lit[q] && mine[q] == (i))
#define LOCKED_BY(q, i, mode) (other[q] == (i) && locked[q] == (mode))

#define IS_OPEN(i) (OPEN_BY(0, i) || OPEN_BY(1, i) || OPEN_BY(2, i))
#define IS_LIT(i) (LIT_BY(0, i) || LIT_BY(1, i) || LIT_BY(2, i))
#define IS_LOCKED(i, mode) \
    (LOCKED_BY(0, i, mode) || LOCKED_BY(1, i, mode) || LOCKED_BY(2, i, mode))

/* Would a flock on a file be granted to who has none on it yet? */
#define MAY_SHARE(i) (!IS_LIT(i) && !IS_LOCKED(i, EXCLUSIVE))
#define MAY_EXCLUDE(i) (MAY_SHARE(i) && !IS_LOCKED(i, SHARED))

/* ... and on the directory? */
#define IS_FLOCKED(mode) (flocked[0] == (mode) || flocked[1] == (mode) || flocked[2] == (mode))
#ifdef ROW_4_FLOCK /* wrong: nobody asks for it */
#define MAY_REMOVE true
#define MAY_CONDEMN true
#else
#define MAY_REMOVE (!IS_FLOCKED(EXCLUSIVE))
#define MAY_CONDEMN (!IS_FLOCKED(EXCLUSIVE) && !IS_FLOCKED(SHARED))
#endif

/* A look may take its time: then others break beside it, with the beacon shared, one at a time. */
#ifdef SLOW_LOOK
#define IS_SOON_OVER false
#define IS_BESIDE(q) \
    (q != self && other[q] == other[self] && locked[q] == SHARED && IS_BREAKING(q))
#ifdef NO_TURN /* wrong: all who share it */
#define MAY_TAKE_TURN true
#else
#define MAY_TAKE_TURN (!IS_BESIDE(0) && !IS_BESIDE(1) && !IS_BESIDE(2))
#endif
#else
#define IS_SOON_OVER true
#define MAY_TAKE_TURN false
#endif

/* A new inode gets a number that nothing has: numbers are used again at once. Which of the free
 * ones it gets makes no difference: every number that is compared is pinned by something open,
 * but for the one that break_lock() remembers. So it is the first from a certain one on. */
byte new;
inline number(first, is_used) {
    new = first;
    do
    :: is_used -> new++
    :: else -> break
    od;
    assert(new < NEVER)
}
inline be_born() {
    reborn[0] = reborn[0] || seen[0] == new;
    reborn[1] = reborn[1] || seen[1] == new;
    reborn[2] = reborn[2] || seen[2] == new
}

inline close_mine() {
    mine[self] = 0;
    lit[self] = 0
}

inline close_other() {
    other[self] = 0;
    locked[self] = NONE
}

inline forget_seen() {
    seen[self] = 0;
    reborn[self] = 0
}

/* What the kernel does at a death: all files are closed, all locks given back. */
inline die(q) {
    at[q] = DEAD;
    name[q] = 0;
    mine[q] = 0;
    lit[q] = 0;
    other[q] = 0;
    locked[q] = NONE;
    flocked[q] = NONE;
    sweeping[q] = 0;
    again[q] = 0;
    seen[q] = 0;
    reborn[q] = 0;
    owns[q] = 0;
    condemned[q] = 0;
    DIE_MORE(q)
}

/* acquire() returns. */
#define OWNERS \
    ((owns[0] && !condemned[0]) + (owns[1] && !condemned[1]) + (owns[2] && !condemned[2]))
inline own() {
    owns[self] = 1;
    condemned[self] = 0;
    forget_seen();
    again[self] = 0;
    at[self] = OWNED;
    assert(OWNERS <= 1)
}

/* A place that must be reachable: with REACH set to its number, coming here is an error. */
#define REACHED(place) assert(REACH != (place))

/* All processes are alike, so it does not matter which is which: they are kept in order. */
#define KEY(q) (((at[q] * 32 + mine[q]) * 32 + other[q]) * 8 + name[q])
#define SWAP(a, p, q) new = a[p]; a[p] = a[q]; a[q] = new
inline order(p, q) {
    if
    :: KEY(p) < KEY(q) ->
        SWAP(at, p, q);
        SWAP(name, p, q);
        SWAP(mine, p, q);
        SWAP(lit, p, q);
        SWAP(other, p, q);
        SWAP(locked, p, q);
        SWAP(flocked, p, q);
        SWAP(sweeping, p, q);
        SWAP(again, p, q);
        SWAP(seen, p, q);
        SWAP(reborn, p, q);
        SWAP(owns, p, q);
        SWAP(condemned, p, q);
        SWAP_MORE(p, q)
    :: else
    fi
}
#define IS_FREE(q) (IS_ALIVE(q) && !IS_BLOCKED(q))
#if defined(FINE) || defined(NO_BIRTH)
#define FORGET_GONE(q) skip
#else /* what is not at the lock file's name any more never comes back */
#define FORGET_GONE(q) seen[q] = (seen[q] == 0 || seen[q] == LOCK_FILE -> seen[q] : NEVER)
#endif
inline settle() {
    FORGET_GONE(0);
    FORGET_GONE(1);
    FORGET_GONE(2);
#ifndef UNORDERED
    order(0, 1);
#if PROCESSES == 3
    order(1, 2);
    order(0, 1);
#endif
#endif
    SETTLE_MORE();
    new = 0;
    /* Whoever waits, waits for somebody who goes on. */
    assert(IS_FREE(0) || IS_FREE(1) || IS_FREE(2) || !(IS_ALIVE(0) || IS_ALIVE(1) || IS_ALIVE(2)))
}
