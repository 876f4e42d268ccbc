/* MkdirFileLock: mkdir.c and mkdir_claim.c of csrc/mechanisms/files, and what they use there and in csrc/core.
 *
 * The lock directory is made under a unique name and renamed; with IN_PLACE it is made at the lock
 * file's name. One step per system call; between any two, others go on, and a process may be
 * killed. README.rst says what stands for what, and what is left out. */

mtype = {
    DEAD,
    /* make(), publish(), withdraw() */
    MAKE, OPEN_MADE, CREATE, LIGHT, CHECK_FILE, CHECK_DIRECTORY, PUBLISH, WHOSE, WITHDRAW,
    WITHDRAW_NAME, WITHDRAW_FILE, WITHDRAW_UNLINK, WITHDRAW_RMDIR, WITHDRAWN,
    /* claim_in_place(), back_off() */
    LIST_OWN, BACK_OFF, BACK_OFF_UNLINK, BACK_OFF_CLOSE, BACK_OFF_CHECK, BACK_OFF_RMDIR,
    /* files_release() */
    OWNED, CHECK_OWN, RELEASE_OPEN, RELEASE_ASIDE, RELEASE_FILE, RELEASE_UNLINK, RELEASE_CLOSE,
    RELEASE_CHECK, RELEASE_RMDIR, LEAVE,
    /* files_look(), mkdir_judge() */
    LOOK, CHECK_FOUND, LIST_FOUND, NOT_OURS, OPEN_BEACON, LOOK_SHARED, LOOK_UNLOCK, HOLD, WAIT,
    /* files_break_stale() */
    TAKE, TAKE_SHARED, TAKE_UNLOCK, BREAK_FLOCK, BREAK_CHECK, BREAK_OPEN, BREAK_INSIDE, BREAK_ASIDE, BREAK_FILE,
    BREAK_UNLINK, BREAK_CLOSE, BREAK_CHECK_2, BREAK_RMDIR, BREAK_UNFLOCK, BREAK_END,
    /* sweep_all(), sweep_reap(), reap_directory(), reap() */
    SWEEP, REAP, REAP_OPEN, REAP_LIST, REAP_STATUS, REAP_BEACON, REAP_FLOCK, REAP_LINKS, REAP_PLACE,
    REAP_FILE, REAP_UNLINK, REAP_UNLOCK, REAP_CHECK, REAP_RMDIR, REAP_CLOSE,
    /* files_condemn() */
    CONDEMN, CONDEMN_CHECK, CONDEMN_OPEN, CONDEMN_ASIDE, CONDEMN_CLEAR, CONDEMN_RMDIR, CONDEMN_END
}

/* The names in the directory; the unique names in a lock directory are of the same kind. A claim
 * takes any of the first NAMES, so those of two may be equal; with DISTINCT_NAMES every process has
 * its own. The last RANDOM ones stand for names with random numbers, which are always free. */
#ifndef NAMES
#define NAMES 3
#endif
#ifndef RANDOM
#define RANDOM 1
#endif
#define LAST_NAME (NAMES + RANDOM)
#define LOCK 0
#define NEVER 12 /* no number */

byte top[6];        /* the lock directory that each name stands for */
byte parent[NEVER]; /* the directory that each file is in ... */
byte called[NEVER]; /* ... and its name there */
byte home[3];       /* the directory that a process makes, or owns */
byte found[3];      /* another directory that it has open */
byte second[3];     /* a second name at hand: to rename to, or of a file in a directory */
byte script;        /* the directory that a script has made by a plain mkdir, and owns */

#define LOCK_FILE top[LOCK]
#ifdef DISTINCT_NAMES
byte base[3]; /* its unique name, without a number */
#define SWAP_BASE(p, q) SWAP(base, p, q)
#else
#define SWAP_BASE(p, q) skip
#endif
#define DIE_MORE(q) home[q] = 0; found[q] = 0; second[q] = 0
#define SWAP_MORE(p, q) SWAP(home, p, q); SWAP(found, p, q); SWAP(second, p, q); SWAP_BASE(p, q)

#define IS_THERE(d) \
    (top[0] == (d) || top[1] == (d) || top[2] == (d) || top[3] == (d) || top[4] == (d) || \
     top[5] == (d))

/* An open file pins the directory that it was in as well. */
#define PINS(q, d) (home[q] == (d) || found[q] == (d))
#define IS_DIRECTORY(d) (IS_THERE(d) || PINS(0, d) || PINS(1, d) || PINS(2, d) || script == (d))
#define IS_FILE(f) (parent[f] != 0 || IS_OPEN(f))

#define IS_IN(f, d) (parent[f] == (d))
#define COUNT(d) \
    (IS_IN(1, d) + IS_IN(2, d) + IS_IN(3, d) + IS_IN(4, d) + IS_IN(5, d) + IS_IN(6, d) + \
     IS_IN(7, d) + IS_IN(8, d) + IS_IN(9, d) + IS_IN(10, d) + IS_IN(11, d))
#define ONLY(d) \
    (IS_IN(1, d) + 2 * IS_IN(2, d) + 3 * IS_IN(3, d) + 4 * IS_IN(4, d) + 5 * IS_IN(5, d) + \
     6 * IS_IN(6, d) + 7 * IS_IN(7, d) + 8 * IS_IN(8, d) + 9 * IS_IN(9, d) + \
     10 * IS_IN(10, d) + 11 * IS_IN(11, d))
#define IS_CALLED(f, d, n) (parent[f] == (d) && called[f] == (n))
#define FILE(d, n) \
    (IS_CALLED(1, d, n) + 2 * IS_CALLED(2, d, n) + 3 * IS_CALLED(3, d, n) + \
     4 * IS_CALLED(4, d, n) + 5 * IS_CALLED(5, d, n) + 6 * IS_CALLED(6, d, n) + \
     7 * IS_CALLED(7, d, n) + 8 * IS_CALLED(8, d, n) + 9 * IS_CALLED(9, d, n) + \
     10 * IS_CALLED(10, d, n) + 11 * IS_CALLED(11, d, n))

#ifdef IN_PLACE
#define IS_IN_PLACE true
/* Held, even when whoever made it was killed (docs/limits.rst): a directory with no file in it, or
 * more than one. */
#define IS_EXCUSED (top[LOCK] != 0 && COUNT(top[LOCK]) != 1)
#else
#define IS_IN_PLACE false
#define IS_EXCUSED false
#endif

/* Would another look find something else? */
#define IS_CHANGED(q) \
    (top[LOCK] != found[q] || (COUNT(found[q]) == 1 && MAY_SHARE(ONLY(found[q]))))
#define IS_BLOCKED(q) \
    ((at[q] == WAIT && !IS_CHANGED(q) && script == 0 && !IS_EXCUSED) || \
     (at[q] == OWNED && !MAY_REMOVE) || (at[q] == CONDEMN && !MAY_CONDEMN))

/* Between taking a dead owner's beacon and giving it back. */
#define IS_BREAKING(q) \
    (at[q] == BREAK_FLOCK || at[q] == BREAK_CHECK || at[q] == BREAK_OPEN || \
     at[q] == BREAK_INSIDE || at[q] == BREAK_ASIDE || at[q] == BREAK_FILE || \
     at[q] == BREAK_UNLINK || at[q] == BREAK_CLOSE || at[q] == BREAK_CHECK_2 || \
     at[q] == BREAK_RMDIR || at[q] == BREAK_UNFLOCK || at[q] == BREAK_END)

/* What is in more than one way to be done next. */
#define IS_CHOOSING(q) \
    ((at[q] == (IS_IN_PLACE -> CREATE : MAKE) && !again[q]) || (at[q] == SWEEP && !over) || \
     (at[q] == DEAD && over))

/* What is done in one step with the call before it, as nobody else can make a difference in
 * between (README.rst says why). With FINE, nothing. */
#ifdef FINE
#define IS_QUIET(q) false
#else
#define IS_QUIET(q) \
    (at[q] == CHECK_DIRECTORY || at[q] == WITHDRAW || at[q] == WITHDRAW_NAME || \
     at[q] == WITHDRAW_FILE || at[q] == WITHDRAW_UNLINK || at[q] == WITHDRAWN || \
     at[q] == LIST_FOUND || at[q] == BACK_OFF_UNLINK || at[q] == BACK_OFF_CLOSE || \
     at[q] == RELEASE_OPEN || at[q] == RELEASE_UNLINK || at[q] == RELEASE_CLOSE || \
     at[q] == LEAVE || at[q] == CHECK_FOUND || at[q] == OPEN_BEACON || (at[q] == LOOK_UNLOCK && IS_SOON_OVER) || \
     (at[q] == HOLD && IS_SEEING(q)) || at[q] == BREAK_OPEN || at[q] == BREAK_INSIDE || at[q] == BREAK_UNLINK || \
     at[q] == BREAK_CLOSE || at[q] == BREAK_UNFLOCK || at[q] == BREAK_END || \
     at[q] == REAP_OPEN || at[q] == REAP_STATUS || at[q] == REAP_BEACON || at[q] == REAP_PLACE || \
     at[q] == REAP_FILE || \
     at[q] == REAP_UNLINK || at[q] == REAP_UNLOCK || at[q] == REAP_CLOSE || \
     at[q] == CONDEMN_OPEN || at[q] == CONDEMN_END)
#endif
#ifdef BREAK
#define IS_SEEING(q) (seen[q] != 0 || over)
#else
#define IS_SEEING(q) true
#endif


#define IS_RENAMING(q) (at[q] == RELEASE_ASIDE || at[q] == BREAK_ASIDE || at[q] == CONDEMN_ASIDE)

/* What numbers there are does not matter: they are given anew after each step, those of
 * directories in the order of the names and processes that have them, those of files in the order
 * of their directories and names. (Not with FINE, and where break_lock() goes by the number.) */
#if defined(FINE) || defined(NO_BIRTH)
#define SETTLE_MORE() skip
#else
#define SETTLE_MORE() renumber()
#endif
#include "kernel.pml"

#define EXCHANGE(a, i, j) a = (a == (i) -> (j) : (a == (j) -> (i) : a))
inline exchange_directories(i, j) {
    for (new : 0 .. LAST_NAME) {
        EXCHANGE(top[new], i, j)
    }
    for (new : 0 .. 2) {
        EXCHANGE(home[new], i, j);
        EXCHANGE(found[new], i, j);
        EXCHANGE(seen[new], i, j)
    }
    for (new : 1 .. NEVER - 1) {
        EXCHANGE(parent[new], i, j)
    }
    EXCHANGE(script, i, j)
}
inline place(a) {
    if
    :: a > count ->
        count++;
        old = a;
        if
        :: old != count -> exchange_directories(old, count)
        :: else
        fi
    :: else
    fi
}
#define FILE_KEY(f) (parent[f] != 0 -> parent[f] * 8 + called[f] : 255)
inline order_files() {
    count = 1;
    do
    :: count < NEVER - 1 && FILE_KEY(count) > FILE_KEY(count + 1) ->
        SWAP(parent, count, count + 1);
        SWAP(called, count, count + 1);
        for (new : 0 .. 2) {
            EXCHANGE(mine[new], count, count + 1);
            EXCHANGE(other[new], count, count + 1)
        }
        count = (count > 1 -> count - 1 : 1)
    :: count < NEVER - 1 && FILE_KEY(count) <= FILE_KEY(count + 1) -> count++
    :: else -> break
    od
}
byte count;
byte old;
inline renumber() {
    count = 0;
    place(top[0]);
    place(top[1]);
    place(top[2]);
    place(top[3]);
    place(top[4]);
    place(top[5]);
    place(home[0]);
    place(home[1]);
    place(home[2]);
    place(found[0]);
    place(found[1]);
    place(found[2]);
    place(script);
    order_files();
    count = 0;
    old = 0
}

/* Is the lock that was waited for still there? */
#define IS_SEEN (top[LOCK] == seen[self] && !reborn[self])
#ifdef NO_BIRTH /* wrong: known by its number alone */
#define SEEMS_SEEN (top[LOCK] == seen[self])
#else
#define SEEMS_SEEN IS_SEEN
#endif

/* The lock file, or a file in it, is removed: never another's that owns, unless break_lock()
 * condemns it. Who was told that its rename failed, owns all the same. */
#define IS_OWNER(q) (owns[q] || (at[q] == WHOSE && home[q] == top[LOCK]))
inline spare(q, condemning) {
    if
    :: q != self && IS_OWNER(q) && !condemned[q] && home[q] == top[LOCK] ->
        assert(condemning && IS_SEEN);
        condemned[q] = 1
    :: else
    fi
}
inline take_away_lock(condemning) {
    spare(0, condemning);
    spare(1, condemning);
    spare(2, condemning);
    assert(script == 0 || top[LOCK] != script);
    top[LOCK] = 0
}
#define IS_UNTOUCHED(q) (q == self || !owns[q] || condemned[q])
inline unlink_file(f) {
    assert(mine[0] != f || IS_UNTOUCHED(0));
    assert(mine[1] != f || IS_UNTOUCHED(1));
    assert(mine[2] != f || IS_UNTOUCHED(2));
    parent[f] = 0;
    called[f] = 0
}

/* rmdir() of a name that is not the lock file's. */
inline remove_directory(n) {
    if
    :: top[n] != 0 && COUNT(top[n]) == 0 -> top[n] = 0
    :: else
    fi
}
inline remove_lock_directory() {
    if
    :: top[LOCK] != 0 && COUNT(top[LOCK]) == 0 -> take_away_lock(0)
    :: else
    fi
}

/* rename_aside(): to the name given, or to a random one, which no claim ever has. */
#ifdef ASIDE_SMALL /* wrong: it may be another claim's, which has made and lost it */
#define FIRST_ASIDE 1
#else
#define FIRST_ASIDE (NAMES + 1)
#endif
inline rename_aside(n, condemning) {
    second[self] = n;
    if
    :: top[second[self]] != 0 -> second[self] = FIRST_ASIDE
    :: else
    fi;
    do
    :: second[self] <= LAST_NAME && top[second[self]] != 0 -> second[self]++
    :: else -> break
    od;
    top[second[self]] = top[LOCK];
    take_away_lock(condemning)
}

/* More leftovers at random names than there are such in the model: such runs are not followed. */
#define IS_RANDOM_FREE(n) ((n) > NAMES && (n) <= LAST_NAME && top[n] == 0)
#define IS_ROOM (IS_RANDOM_FREE(2) || IS_RANDOM_FREE(3) || IS_RANDOM_FREE(4) || IS_RANDOM_FREE(5))

#ifdef DISTINCT_NAMES /* second: its name was taken */
#define IS_OFFERED(n) \
    (second[self] == 0 -> (n) == base[self] : \
                          IS_RANDOM_FREE(n) && FILE(home[self], n) == 0 && \
                              !((n) > 4 && IS_RANDOM_FREE(4)))
#else
/* Of the names that are free, and that nobody has in mind, the first will do. */
#define IS_FRESH(n) \
    (top[n] == 0 && name[0] != (n) && name[1] != (n) && name[2] != (n) && second[0] != (n) && \
     second[1] != (n) && second[2] != (n))
#define IS_OFFERED(n) \
    ((n) <= NAMES && !(IS_FRESH(n) && ((IS_FRESH(1) && (n) > 1) || (IS_FRESH(2) && (n) > 2))))
#endif

inline claim() {
    close_other();
    found[self] = 0;
    home[self] = 0;
    name[self] = 0;
    second[self] = 0;
    sweeping[self] = 0;
    again[self] = 0;
    at[self] = MAKE
}
inline look() {
    close_other();
    found[self] = 0;
    name[self] = 0;
    second[self] = 0;
    at[self] = LOOK
}
inline next_name() {
    close_mine();
    again[self] = 0;
    name[self] = 0;
#ifdef DISTINCT_NAMES
    second[self] = 1;
#else
    second[self] = 0;
#endif
#ifdef IN_PLACE
    at[self] = CREATE
#else
    home[self] = 0;
    at[self] = MAKE
#endif
}

inline make(n) {
    number(1 + (n), IS_DIRECTORY(new));
    be_born();
    top[n] = new;
    at[self] = OPEN_MADE
}
inline try_make(n) {
    name[self] = n;
    if
    :: top[n] == 0 -> make(n)
    :: top[n] != 0 && !again[self] -> at[self] = REAP
    :: top[n] != 0 && again[self] -> next_name()
    fi
}
inline create(n) {
    name[self] = n;
    if
    :: !IS_THERE(home[self]) && IS_IN_PLACE -> at[self] = BACK_OFF_CHECK
    :: !IS_THERE(home[self]) && !IS_IN_PLACE -> next_name()
    :: IS_THERE(home[self]) && FILE(home[self], n) == 0 ->
        number(home[self], IS_FILE(new));
        mine[self] = new;
        parent[new] = home[self];
        called[new] = n;
        at[self] = LIGHT
    :: IS_THERE(home[self]) && FILE(home[self], n) != 0 ->
        if
        :: IS_IN_PLACE && !again[self] ->
            found[self] = home[self];
            second[self] = n;
            at[self] = REAP_STATUS
        :: else -> next_name()
        fi
    fi
}
inline open_to_reap() {
    found[self] = top[name[self]];
    at[self] = (found[self] != 0 -> REAP_LIST : REAP_CLOSE)
}
inline sweep(n) {
    name[self] = n;
#ifdef FINE
    at[self] = REAP_OPEN
#else
    open_to_reap()
#endif
}

proctype process(byte self) {
end:
    do
    :: d_step {
        !IS_BLOCKED(self) && !IS_CHOOSING(self) && (IS_ROOM || !IS_RENAMING(self)) ->
step:
        if
        /* ---- mkdir_claim(): make() ---- */
#ifdef IN_PLACE
        :: at[self] == MAKE ->
            if
            :: top[LOCK] == 0 -> make(LOCK)
            :: else -> look()
            fi
#else
        :: at[self] == MAKE -> try_make(name[self])
#endif
        :: at[self] == OPEN_MADE ->
            home[self] = top[name[self]];
            if
            :: home[self] == 0 -> REACHED(1); claim()
            :: else -> at[self] = CREATE
            fi
        :: at[self] == CREATE -> create(name[self])

        /* unique_light() */
        :: at[self] == LIGHT ->
            if
            :: MAY_EXCLUDE(mine[self]) -> lit[self] = 1; at[self] = CHECK_FILE
            :: else -> REACHED(2); next_name()
            fi
        :: at[self] == CHECK_FILE ->
            if
#ifdef ROW_2_NAME /* wrong: the names are believed to be ours still */
            :: at[self] = (IS_IN_PLACE -> LIST_OWN : PUBLISH)
#else
            :: FILE(home[self], name[self]) == mine[self] ->
                at[self] = (IS_IN_PLACE -> LIST_OWN : CHECK_DIRECTORY)
            :: else -> REACHED(3); next_name()
#endif
            fi
        :: at[self] == CHECK_DIRECTORY ->
            if
            :: top[name[self]] == home[self] -> at[self] = PUBLISH
            :: else -> REACHED(4); next_name()
            fi

        /* publish() */
        :: at[self] == PUBLISH ->
            if
            :: top[name[self]] != 0 && top[LOCK] == 0 ->
                top[LOCK] = top[name[self]];
                top[name[self]] = 0;
                own()
#ifdef RENAME_REPLACES /* wrong: it swallows what is empty */
            :: top[name[self]] != 0 && top[LOCK] != 0 && COUNT(top[LOCK]) == 0 ->
                take_away_lock(0);
                top[LOCK] = top[name[self]];
                top[name[self]] = 0;
                own()
#endif
            :: else -> at[self] = WHOSE
            fi
        :: at[self] == WHOSE ->
            if
            :: top[LOCK] == home[self] -> REACHED(5); own()
            :: else -> at[self] = WITHDRAW
            fi

        /* withdraw() */
        :: at[self] == WITHDRAW ->
            at[self] = (top[LOCK] == home[self] -> WITHDRAWN : WITHDRAW_NAME)
        :: at[self] == WITHDRAW_NAME ->
            at[self] = (top[name[self]] == home[self] -> WITHDRAW_FILE : WITHDRAWN)
        :: at[self] == WITHDRAW_FILE ->
            at[self] =
                (FILE(home[self], name[self]) == mine[self] -> WITHDRAW_UNLINK : WITHDRAW_RMDIR)
        :: at[self] == WITHDRAW_UNLINK -> unlink_file(mine[self]); at[self] = WITHDRAW_RMDIR
        :: at[self] == WITHDRAW_RMDIR -> remove_directory(name[self]); at[self] = WITHDRAWN
        :: at[self] == WITHDRAWN -> close_mine(); home[self] = 0; again[self] = 0; look()

        /* ---- claim_in_place(): is_all_ours() ---- */
        :: at[self] == LIST_OWN ->
            if
#ifdef ROW_5 /* wrong: by what is open; and what was removed lists as empty */
            :: COUNT(home[self]) - (parent[mine[self]] == home[self]) == 0 -> own()
#else
            :: top[LOCK] == home[self] && COUNT(home[self]) == 1 && ONLY(home[self]) == mine[self] ->
                own()
#endif
            :: else -> REACHED(6); at[self] = BACK_OFF
            fi

        /* back_off() */
        :: at[self] == BACK_OFF ->
            at[self] =
                (FILE(home[self], name[self]) == mine[self] -> BACK_OFF_UNLINK : BACK_OFF_CLOSE)
        :: at[self] == BACK_OFF_UNLINK -> unlink_file(mine[self]); at[self] = BACK_OFF_CLOSE
        :: at[self] == BACK_OFF_CLOSE -> close_mine(); at[self] = BACK_OFF_CHECK
        :: at[self] == BACK_OFF_CHECK ->
            if
            :: top[LOCK] == home[self] -> at[self] = BACK_OFF_RMDIR
            :: else -> home[self] = 0; again[self] = 0; look()
            fi
        :: at[self] == BACK_OFF_RMDIR ->
            REACHED(7);
            remove_lock_directory();
            home[self] = 0;
            again[self] = 0;
            look()

        /* ---- files_release() ---- */
        :: at[self] == OWNED -> flocked[self] = SHARED; at[self] = CHECK_OWN
        :: at[self] == CHECK_OWN ->
            if
#ifdef NO_INODE_CHECK_IN_RELEASE
            :: at[self] = RELEASE_OPEN
#else
            :: top[LOCK] == home[self] -> at[self] = RELEASE_OPEN
            :: else -> REACHED(8); assert(condemned[self]); at[self] = LEAVE
#endif
            fi
        /* mkdir_remove(), rename_aside(), remove_in_place() */
        :: at[self] == RELEASE_OPEN ->
            found[self] = top[LOCK];
            at[self] =
                (found[self] == 0 -> LEAVE : (IS_IN_PLACE -> RELEASE_FILE : RELEASE_ASIDE))
        :: at[self] == RELEASE_ASIDE ->
            if
            :: top[LOCK] == 0 -> at[self] = LEAVE
            :: else ->
                rename_aside(name[self], 0);
                owns[self] = 0;
                condemned[self] = 0;
                at[self] = RELEASE_FILE
            fi
        :: at[self] == RELEASE_FILE ->
            at[self] =
                (FILE(found[self], name[self]) == mine[self] -> RELEASE_UNLINK : RELEASE_CLOSE)
        :: at[self] == RELEASE_UNLINK ->
            unlink_file(mine[self]);
            at[self] = (IS_IN_PLACE -> RELEASE_CLOSE : RELEASE_RMDIR)
        :: at[self] == RELEASE_CLOSE ->
            owns[self] = 0;
            condemned[self] = 0;
            close_mine();
            at[self] = (IS_IN_PLACE -> RELEASE_CHECK : RELEASE_RMDIR)
        :: at[self] == RELEASE_CHECK ->
            at[self] = (top[LOCK] == found[self] -> RELEASE_RMDIR : LEAVE)
        :: at[self] == RELEASE_RMDIR ->
#ifdef IN_PLACE
            remove_lock_directory();
#else
            remove_directory(second[self]);
#endif
            at[self] = LEAVE
        :: at[self] == LEAVE -> /* place_drop() */
            owns[self] = 0;
            condemned[self] = 0;
            close_mine();
            flocked[self] = NONE;
            claim();
            if
            :: over -> sweeping[self] = 1; at[self] = SWEEP
            :: else
            fi

        /* ---- files_look(), mkdir_judge() ---- */
        :: at[self] == LOOK ->
            if
            :: top[LOCK] == 0 -> claim()
            :: else -> found[self] = top[LOCK]; at[self] = CHECK_FOUND
            fi
        :: at[self] == CHECK_FOUND ->
            if
            :: top[LOCK] == found[self] -> at[self] = LIST_FOUND
            :: else -> look()
            fi
        :: at[self] == LIST_FOUND -> /* search_inside() */
            if
            :: COUNT(found[self]) == 1 ->
                name[self] = called[ONLY(found[self])];
                at[self] = OPEN_BEACON
            :: else -> at[self] = NOT_OURS
            fi
        :: at[self] == NOT_OURS -> /* judge_foreign() */
            if
            :: top[LOCK] == found[self] -> at[self] = HOLD
            :: else -> claim()
            fi
        :: at[self] == OPEN_BEACON ->
            other[self] = FILE(found[self], name[self]);
            if
            :: other[self] == 0 -> claim()
            :: else -> at[self] = LOOK_SHARED
            fi
        :: at[self] == LOOK_SHARED ->
            if
            :: MAY_SHARE(other[self]) -> locked[self] = SHARED; at[self] = LOOK_UNLOCK
            :: else -> at[self] = HOLD
            fi
        :: at[self] == LOOK_UNLOCK -> locked[self] = NONE; at[self] = TAKE

        /* ---- files_break_stale(): unique_take_beacon() ---- */
        :: at[self] == TAKE ->
            if
            :: MAY_EXCLUDE(other[self]) -> locked[self] = EXCLUSIVE; at[self] = BREAK_FLOCK
            :: else -> at[self] = TAKE_SHARED
            fi
        :: at[self] == TAKE_SHARED ->
            if
            :: MAY_SHARE(other[self]) -> locked[self] = SHARED; at[self] = TAKE_UNLOCK
            :: else -> at[self] = HOLD
            fi
        :: at[self] == TAKE_UNLOCK -> locked[self] = NONE; at[self] = TAKE

        /* remove_stale(), mkdir_remove() */
        :: at[self] == BREAK_FLOCK ->
            if
            :: MAY_REMOVE -> flocked[self] = SHARED; at[self] = BREAK_CHECK
            :: else -> REACHED(9); locked[self] = NONE; at[self] = HOLD
            fi
        :: at[self] == BREAK_CHECK ->
            if
#ifdef NO_INODE_CHECK_IN_BREAK
            :: at[self] = BREAK_OPEN
#else
            :: top[LOCK] == found[self] -> at[self] = BREAK_OPEN
            :: else -> REACHED(10); at[self] = BREAK_UNFLOCK
#endif
            fi
        :: at[self] == BREAK_OPEN ->
            found[self] = top[LOCK];
            at[self] =
                (found[self] == 0 -> BREAK_UNFLOCK : (IS_IN_PLACE -> BREAK_FILE : BREAK_INSIDE))
        :: at[self] == BREAK_INSIDE -> /* the directory may have been used again, by a namesake */
            if
#ifdef NO_FILE_CHECK_IN_BREAK
            :: at[self] = BREAK_ASIDE
#else
            :: FILE(found[self], name[self]) == other[self] -> at[self] = BREAK_ASIDE
            :: else -> REACHED(17); at[self] = BREAK_UNFLOCK
#endif
            fi
        :: at[self] == BREAK_ASIDE ->
            if
            :: top[LOCK] == 0 -> at[self] = BREAK_UNFLOCK
            :: top[LOCK] != 0 ->
                REACHED(11);
                rename_aside(name[self], 0);
                at[self] = BREAK_FILE
            fi
        :: at[self] == BREAK_FILE -> /* entry_remove_dead() */
            if
            :: FILE(found[self], name[self]) == other[self] -> at[self] = BREAK_UNLINK
            :: else -> at[self] = (IS_IN_PLACE -> BREAK_UNFLOCK : BREAK_RMDIR)
            fi
        :: at[self] == BREAK_UNLINK ->
            unlink_file(other[self]);
            at[self] = (IS_IN_PLACE -> BREAK_CLOSE : BREAK_RMDIR)
        :: at[self] == BREAK_CLOSE -> close_other(); at[self] = BREAK_CHECK_2
        :: at[self] == BREAK_CHECK_2 ->
            at[self] = (top[LOCK] == found[self] -> BREAK_RMDIR : BREAK_UNFLOCK)
        :: at[self] == BREAK_RMDIR ->
#ifdef IN_PLACE
            REACHED(11);
            remove_lock_directory();
#else
            remove_directory(second[self]);
#endif
            at[self] = BREAK_UNFLOCK
        :: at[self] == BREAK_UNFLOCK -> flocked[self] = NONE; at[self] = BREAK_END
        :: at[self] == BREAK_END -> claim(); sweeping[self] = 1; at[self] = SWEEP

        /* ---- sweep_all(); the last one takes all names ---- */
        :: at[self] == SWEEP ->
            name[self]++;
            if
            :: name[self] > LAST_NAME -> die(self)
            :: name[self] <= LAST_NAME && top[name[self]] != 0 -> at[self] = REAP_OPEN
            :: else
            fi

        /* ---- sweep_reap(): reap_directory(), reap() ---- */
        :: at[self] == REAP ->
            if
            :: top[name[self]] != 0 -> at[self] = REAP_OPEN
            :: else -> next_name()
            fi
        :: at[self] == REAP_OPEN -> open_to_reap()
        :: at[self] == REAP_LIST ->
            if
            :: COUNT(found[self]) == 0 -> at[self] = REAP_CHECK
            :: COUNT(found[self]) == 1 ->
                second[self] = called[ONLY(found[self])];
                at[self] = REAP_STATUS
            :: else -> at[self] = REAP_CLOSE
            fi
        :: at[self] == REAP_STATUS ->
            at[self] = (FILE(found[self], second[self]) != 0 -> REAP_BEACON : REAP_CLOSE)
        :: at[self] == REAP_BEACON ->
            other[self] = FILE(found[self], second[self]);
            at[self] = (other[self] != 0 -> REAP_FLOCK : REAP_CLOSE)
        :: at[self] == REAP_FLOCK ->
            if
            :: MAY_EXCLUDE(other[self]) -> locked[self] = EXCLUSIVE; at[self] = REAP_LINKS
            :: else -> at[self] = REAP_CLOSE
            fi
        :: at[self] == REAP_LINKS ->
            at[self] = (parent[other[self]] != 0 -> REAP_PLACE : REAP_CLOSE)
        :: at[self] == REAP_PLACE -> /* the directory may be a lock file by now */
            if
#ifdef SWEEP_BLIND
            :: at[self] = REAP_FILE
#else
            :: home[self] != 0 || top[name[self]] == found[self] -> at[self] = REAP_FILE
            :: else -> REACHED(16); at[self] = REAP_CLOSE
#endif
            fi
        :: at[self] == REAP_FILE ->
            at[self] =
                (FILE(found[self], second[self]) == other[self] -> REAP_UNLINK : REAP_CLOSE)
        :: at[self] == REAP_UNLINK ->
            REACHED(12);
            unlink_file(other[self]);
            at[self] = REAP_UNLOCK
        :: at[self] == REAP_UNLOCK ->
            close_other();
            if
            :: home[self] != 0 -> again[self] = 1; at[self] = REAP_CLOSE
            :: else -> at[self] = REAP_CHECK
            fi
        :: at[self] == REAP_CHECK ->
            at[self] = (top[name[self]] == found[self] -> REAP_RMDIR : REAP_CLOSE)
        :: at[self] == REAP_RMDIR ->
            again[self] = !sweeping[self] && COUNT(top[name[self]]) == 0;
            remove_directory(name[self]);
            at[self] = REAP_CLOSE
        :: at[self] == REAP_CLOSE ->
            close_other();
            found[self] = 0;
            second[self] = 0;
            assert(!over || !sweeping[self] || top[name[self]] == 0);
            if
            :: sweeping[self] ->
                name[self] = (over -> name[self] : 0);
                at[self] = SWEEP
            :: !sweeping[self] && again[self] -> at[self] = (IS_IN_PLACE -> CREATE : MAKE)
            :: !sweeping[self] && !again[self] -> next_name()
            fi

        /* ---- acquire() sleeps, or is out of time; then comes break_lock() ---- */
        :: at[self] == HOLD ->
            close_other();
            name[self] = 0;
#ifdef BREAK
            if
            :: seen[self] == 0 && !over -> seen[self] = (top[LOCK] != 0 -> top[LOCK] : NEVER)
            :: else
            fi;
#endif
            at[self] = WAIT
        :: at[self] == WAIT -> look()

#ifdef BREAK
        /* files_condemn(), mkdir_condemn() */
        :: at[self] == CONDEMN -> flocked[self] = EXCLUSIVE; at[self] = CONDEMN_CHECK
        :: at[self] == CONDEMN_CHECK ->
            sweeping[self] = top[LOCK] != 0;
            if
            :: top[LOCK] == 0 -> at[self] = CONDEMN_END
#ifdef ROW_4_CONDEMN /* wrong: whatever is there now */
            :: top[LOCK] != 0 -> at[self] = CONDEMN_OPEN
#else
            :: top[LOCK] != 0 && SEEMS_SEEN -> at[self] = CONDEMN_OPEN
            :: top[LOCK] != 0 && !SEEMS_SEEN -> REACHED(13); at[self] = CONDEMN_END
#endif
            fi
        :: at[self] == CONDEMN_OPEN ->
            found[self] = top[LOCK];
            at[self] =
                (found[self] == 0 -> CONDEMN_END : (IS_IN_PLACE -> CONDEMN_CLEAR : CONDEMN_ASIDE))
        :: at[self] == CONDEMN_ASIDE ->
            if
            :: top[LOCK] == 0 -> at[self] = CONDEMN_END
            :: else -> REACHED(14); rename_aside(FIRST_ASIDE, 1); at[self] = CONDEMN_CLEAR
            fi
        :: at[self] == CONDEMN_CLEAR ->
            if
            :: COUNT(found[self]) == 0 -> at[self] = CONDEMN_RMDIR
            :: else ->
                new = 1;
                do
                :: parent[new] == found[self] -> break
                :: else -> new++
                od;
#ifdef IN_PLACE
                spare(0, 1);
                spare(1, 1);
                spare(2, 1);
#endif
                unlink_file(new)
            fi
        :: at[self] == CONDEMN_RMDIR ->
#ifdef IN_PLACE
            REACHED(14);
            if
            :: top[LOCK] != 0 && COUNT(top[LOCK]) == 0 -> take_away_lock(1)
            :: else
            fi;
#else
            remove_directory(second[self]);
#endif
            at[self] = CONDEMN_END
        :: at[self] == CONDEMN_END ->
            flocked[self] = NONE;
            forget_seen();
            if
            :: sweeping[self] -> claim(); sweeping[self] = 1; at[self] = SWEEP
            :: else -> claim()
            fi
#endif

        :: at[self] == DEAD -> claim()
        fi;
        if
        :: IS_QUIET(self) -> goto step
        :: else
        fi;
        settle()
    }

    /* ---- What may happen in more than one way ---- */

    /* make(), or unique_make() in the lock directory */
#ifdef IN_PLACE
#define TRY(n) d_step { at[self] == CREATE && !again[self] && IS_OFFERED(n) -> create(n); settle() }
#else
#define TRY(n) d_step { at[self] == MAKE && !again[self] && IS_OFFERED(n) -> try_make(n); settle() }
#endif
    :: TRY(1)
    :: TRY(2)
    :: TRY(3)
#ifdef DISTINCT_NAMES
    :: TRY(4)
    :: TRY(5)
#endif

    /* sweep_all(): any names, in any order */
#define TRY_SWEEP(n) d_step { at[self] == SWEEP && !over && (n) <= LAST_NAME && top[n] != 0 -> sweep(n); settle() }
    :: TRY_SWEEP(1)
    :: TRY_SWEEP(2)
    :: TRY_SWEEP(3)
    :: TRY_SWEEP(4)
    :: TRY_SWEEP(5)
    :: d_step { at[self] == SWEEP && !over -> claim(); settle() }

#ifdef LOST_REPLY
    :: d_step {
        at[self] == PUBLISH && top[name[self]] != 0 && top[LOCK] == 0 ->
        top[LOCK] = top[name[self]];
        top[name[self]] = 0;
        at[self] = WHOSE;
        settle()
    }
#endif

    :: d_step { /* take_beacon_beside_a_look(): that one does not end */
        at[self] == TAKE_UNLOCK && MAY_TAKE_TURN -> REACHED(16);
        at[self] = BREAK_FLOCK;
        settle()
    }

#ifdef BREAK
    :: d_step { /* LockTimeout, and remember_waited_for() */
        at[self] == WAIT && !over ->
        if
        :: SEEMS_SEEN
        :: else -> seen[self] = NEVER; reborn[self] = 0
        fi;
        found[self] = 0;
        at[self] = CONDEMN;
        settle()
    }
#endif

    :: d_step { IS_ALIVE(self) && !over && crashes < CRASHES -> crashes++; die(self); settle() }
    :: d_step { /* all are killed, and one comes after */
        !over && self == 0 && script == 0 ->
        REACHED(15);
        over = 1;
        crashes = 0;
        die(0);
        die(1);
        die(2);
        claim();
        settle()
    }
    od
}

#ifdef WITH_SCRIPT
/* until mkdir LOCK; do sleep 1; done; ...; rmdir LOCK */
proctype plain_mkdir() {
end:
    do
    :: d_step {
        !over && script == 0 && top[LOCK] == 0 ->
        new = NAMES;
        do
        :: IS_DIRECTORY(new) -> new++
        :: else -> break
        od;
        assert(new < NEVER && OWNERS == 0);
        script = new;
        top[LOCK] = new;
        new = 0
    }
    :: d_step { script != 0 -> assert(top[LOCK] == script && OWNERS == 0); top[LOCK] = 0; script = 0 }
    od
}
#endif

init {
    atomic {
        if
        :: skip
        :: top[LOCK] = 1; parent[1] = 1; called[1] = 1 /* the lock of one long dead */
        fi;
        at[0] = DEAD;
        at[1] = DEAD;
        at[2] = DEAD;
#ifdef DISTINCT_NAMES
        base[0] = 1;
        base[1] = 2;
        base[2] = 3;
#endif
        run process(0);
        run process(1);
#if PROCESSES == 3
        run process(2);
#endif
#ifdef WITH_SCRIPT
        run plain_mkdir();
#endif
        skip
    }
}
