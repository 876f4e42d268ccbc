/* LinkFileLock: link.c of csrc/mechanisms/files, and what it uses there and in csrc/core.
 *
 * One atomic step per system call; between any two, others go on, and a process may be killed.
 * README.rst says what stands for what, and what is left out. */

mtype = {
    DEAD,
    CREATE, LIGHT, CHECK_NAME, PUBLISH, WHOSE, WITHDRAW, REMOVE, REMOVE_2, CLOSE,
    OWNED, CHECK_OWN, UNLINK, DISCARD, DISCARD_2, RELEASED, LEAVE,
    LOOK, CHECK_FOUND, LOOK_SHARED, LOOK_UNLOCK, FIND, NOT_FOUND, HOLD, WAIT,
    TAKE, TAKE_SHARED, TAKE_UNLOCK, BREAK_FLOCK, BREAK_CHECK, BREAK_UNLINK, BREAK_NAME,
    BREAK_NAME_2, BREAK_UNFLOCK, BREAK_CLOSE,
    SWEEP, REAP, REAP_OPEN, REAP_FLOCK, REAP_COUNT, REAP_CHECK, REAP_UNLINK, REAP_CLOSE,
    CONDEMN, CONDEMN_CHECK, CONDEMN_UNLINK, CONDEMN_END
}

/* The names in the directory. A process takes any unique name: those of two may be equal. */
#ifndef NAMES
#define NAMES 3
#endif
#define LOCK 0
#define BACKUP 5 /* a link that somebody's backup makes */
byte entry[6];   /* the inode of each name */

#define LINKS(i) \
    ((entry[0] == (i)) + (entry[1] == (i)) + (entry[2] == (i)) + (entry[3] == (i)) + \
     (entry[4] == (i)) + (entry[5] == (i)))
#define IS_USED(i) (LINKS(i) != 0 || IS_OPEN(i))
#define NEVER 31 /* no number */
#define LOCK_FILE entry[LOCK]
#define SETTLE_MORE() skip
#define DIE_MORE(q) skip
#define SWAP_MORE(p, q) skip

#define HAS_UNIQUE_NAME(i) (LINKS(i) - (entry[LOCK] == (i)) - (entry[BACKUP] == (i)) > 0)
#define IS_ABANDONED(n) (entry[n] != 0 && LINKS(entry[n]) == 1)

/* Would another look find something else? */
#define IS_CHANGED(q) \
    (entry[LOCK] != other[q] || (MAY_SHARE(other[q]) && HAS_UNIQUE_NAME(other[q])))
#define IS_BLOCKED(q) \
    ((at[q] == WAIT && !IS_CHANGED(q)) || (at[q] == OWNED && !MAY_REMOVE) || \
     (at[q] == CONDEMN && !MAY_CONDEMN))


/* Between taking a dead owner's beacon and giving it back. */
#define IS_BREAKING(q) \
    (at[q] == BREAK_FLOCK || at[q] == BREAK_CHECK || at[q] == BREAK_UNLINK || \
     at[q] == BREAK_NAME || at[q] == BREAK_NAME_2 || at[q] == BREAK_UNFLOCK || \
     at[q] == BREAK_CLOSE)

/* What is in more than one way to be done next. */
#define IS_CHOOSING(q) \
    ((at[q] == CREATE && !again[q]) || (at[q] == SWEEP && !over) || (at[q] == DEAD && over))

/* What is done in one step with the call before it, since nobody else can make a difference in
 * between (README.rst says why). With FINE, nothing. */
#ifdef FINE
#define IS_QUIET(q) false
#else
#define IS_QUIET(q) \
    (at[q] == WITHDRAW || at[q] == REMOVE_2 || at[q] == CLOSE || at[q] == DISCARD_2 || \
     at[q] == RELEASED || at[q] == LEAVE || at[q] == CHECK_FOUND || (at[q] == LOOK_UNLOCK && IS_SOON_OVER) || \
     (at[q] == HOLD && IS_SEEING(q)) || at[q] == BREAK_NAME_2 || at[q] == BREAK_UNFLOCK || \
     at[q] == BREAK_CLOSE || at[q] == REAP_OPEN || at[q] == REAP_CHECK || at[q] == REAP_UNLINK || \
     at[q] == REAP_CLOSE || at[q] == CONDEMN_END)
#endif
#ifdef BREAK
#define IS_SEEING(q) (seen[q] != 0 || over)
#else
#define IS_SEEING(q) true
#endif

#include "kernel.pml"

/* Is the lock that was waited for still there? */
#define IS_SEEN (entry[LOCK] == seen[self] && !reborn[self])
#ifdef NO_BIRTH /* wrong: known by its number alone */
#define SEEMS_SEEN (entry[LOCK] == seen[self])
#else
#define SEEMS_SEEN IS_SEEN
#endif

/* Removes the lock file: never another's that lives, unless break_lock() condemns it. */
inline spare(q, condemning) {
    if
    :: q != self && IS_ALIVE(q) && mine[q] == entry[LOCK] ->
        assert(condemning && IS_SEEN);
        condemned[q] = 1
    :: else
    fi
}
inline unlink_lock(condemning) {
    if
    :: entry[LOCK] != 0 ->
        spare(0, condemning);
        spare(1, condemning);
        spare(2, condemning);
        entry[LOCK] = 0
    :: else
    fi
}

/* Any name. Of those that are free, and that nobody has in mind, the first will do. */
#define IS_FRESH(n) (entry[n] == 0 && name[0] != (n) && name[1] != (n) && name[2] != (n))
#define IS_OFFERED(n) \
    ((n) <= NAMES && !(IS_FRESH(n) && ((IS_FRESH(1) && (n) > 1) || (IS_FRESH(2) && (n) > 2) || \
                                       (IS_FRESH(3) && (n) > 3))))
inline claim() {
    close_other();
    name[self] = 0;
    sweeping[self] = 0;
    again[self] = 0;
    at[self] = CREATE
}
inline open_to_reap() {
    if
    :: entry[name[self]] != 0 -> other[self] = entry[name[self]]; at[self] = REAP_FLOCK
    :: else -> at[self] = REAP_CLOSE
    fi
}
inline sweep(n) {
    name[self] = n;
#ifdef FINE
    at[self] = REAP_OPEN
#else
    open_to_reap()
#endif
}
inline next_name() {
    close_mine();
    claim()
}
inline create(n) {
    name[self] = n;
    if
    :: entry[n] == 0 ->
        number(n, IS_USED(new));
        be_born();
        entry[n] = new;
        mine[self] = new;
        at[self] = LIGHT
#ifdef SAME_NAMES_TRUSTED /* wrong: who is called like us is us */
    :: entry[n] != 0 ->
        mine[self] = entry[n];
        lit[self] = 1;
        at[self] = PUBLISH
#else
    :: entry[n] != 0 && !again[self] -> at[self] = REAP
    :: entry[n] != 0 && again[self] -> next_name()
#endif
    fi
}

inline look() {
    close_other();
    name[self] = 0;
    at[self] = LOOK
}

proctype process(byte self) {
end:
    do
    :: d_step {
        !IS_BLOCKED(self) && !IS_CHOOSING(self) ->
step:
        if
        /* ---- link_claim(): unique_make(), unique_light() ---- */
        :: at[self] == CREATE -> create(name[self])
        :: at[self] == LIGHT ->
            if
            :: MAY_EXCLUDE(mine[self]) -> lit[self] = 1; at[self] = CHECK_NAME
            :: else ->
                REACHED(1);
#ifdef ROW_2_REFUSED /* wrong: refused, the name is removed */
                entry[name[self]] = 0;
#endif
                next_name()
            fi
        :: at[self] == CHECK_NAME ->
#ifdef ROW_2_NAME /* wrong: the name is believed to be ours still */
            at[self] = PUBLISH
#else
            if
            :: entry[name[self]] == mine[self] -> at[self] = PUBLISH
            :: else -> REACHED(2); next_name()
            fi
#endif

        /* publish() */
        :: at[self] == PUBLISH ->
            if
            :: entry[name[self]] != 0 && entry[LOCK] == 0 -> entry[LOCK] = entry[name[self]]; own()
            :: else -> at[self] = WHOSE
            fi
        :: at[self] == WHOSE ->
            if
#ifdef LINK_COUNTING /* wrong: who has two links owns */
            :: LINKS(mine[self]) == 2 -> own()
#else
            :: entry[LOCK] == mine[self] -> REACHED(3); own()
#endif
            :: else -> at[self] = WITHDRAW
            fi

        /* withdraw() */
        :: at[self] == WITHDRAW ->
            at[self] = (entry[LOCK] == mine[self] -> CLOSE : REMOVE)
        :: at[self] == REMOVE ->
            at[self] = (entry[name[self]] == mine[self] -> REMOVE_2 : CLOSE)
        :: at[self] == REMOVE_2 -> entry[name[self]] = 0; at[self] = CLOSE
        :: at[self] == CLOSE -> close_mine(); again[self] = 0; look()

        /* ---- files_release() ---- */
        :: at[self] == OWNED && MAY_REMOVE ->
            flocked[self] = SHARED;
            at[self] = CHECK_OWN
        :: at[self] == CHECK_OWN ->
            if
#ifdef NO_INODE_CHECK_IN_RELEASE
            :: at[self] = UNLINK
#else
            :: entry[LOCK] == mine[self] -> at[self] = UNLINK
            :: else -> REACHED(4); assert(condemned[self]); at[self] = DISCARD
#endif
            fi
#ifdef UNIQUE_FILE_FIRST /* wrong: killed in between, the lock file is nobody's */
        :: at[self] == UNLINK && entry[name[self]] == mine[self] -> entry[name[self]] = 0
#endif
        :: at[self] == UNLINK ->
            unlink_lock(0);
            owns[self] = 0;
            condemned[self] = 0;
            at[self] = DISCARD
        :: at[self] == DISCARD ->
            owns[self] = 0;
            condemned[self] = 0;
            at[self] = (entry[name[self]] == mine[self] -> DISCARD_2 : RELEASED)
        :: at[self] == DISCARD_2 -> entry[name[self]] = 0; at[self] = RELEASED
        :: at[self] == RELEASED -> close_mine(); at[self] = LEAVE
        :: at[self] == LEAVE ->
            flocked[self] = NONE;
            if
            :: over -> assert(entry[LOCK] == 0); name[self] = 0; sweeping[self] = 1; at[self] = SWEEP
            :: else -> claim()
            fi

        /* ---- files_look(), link_judge() ---- */
        :: at[self] == LOOK ->
            if
            :: entry[LOCK] == 0 -> claim()
            :: else -> other[self] = entry[LOCK]; at[self] = CHECK_FOUND
            fi
        :: at[self] == CHECK_FOUND ->
            if
            :: entry[LOCK] == other[self] -> at[self] = LOOK_SHARED
            :: else -> look()
            fi
        :: at[self] == LOOK_SHARED ->
            if
            :: MAY_SHARE(other[self]) -> locked[self] = SHARED; at[self] = LOOK_UNLOCK
            :: else -> at[self] = HOLD
            fi
        :: at[self] == LOOK_UNLOCK -> locked[self] = NONE; at[self] = FIND
        :: at[self] == FIND -> /* search_unique_name(); an inode has one unique name, or none any more */
            new = 1;
            do
            :: new <= NAMES && entry[new] != other[self] -> new++
            :: else -> break
            od;
            if
            :: new <= NAMES -> name[self] = new; at[self] = TAKE
            :: else -> at[self] = NOT_FOUND
            fi;
            new = 0
        :: at[self] == NOT_FOUND ->
            if
            :: entry[LOCK] == other[self] -> at[self] = HOLD
            :: else -> claim()
            fi

        /* ---- files_break_stale(): unique_take_beacon() ---- */
        :: at[self] == TAKE ->
            if
            :: MAY_EXCLUDE(other[self]) -> locked[self] = EXCLUSIVE; at[self] = BREAK_FLOCK
            :: else -> at[self] = TAKE_SHARED
            fi
        :: at[self] == TAKE_SHARED ->
            if
            :: MAY_SHARE(other[self]) -> REACHED(5); locked[self] = SHARED; at[self] = TAKE_UNLOCK
            :: else -> name[self] = 0; at[self] = HOLD
            fi
        :: at[self] == TAKE_UNLOCK -> locked[self] = NONE; at[self] = TAKE

        /* remove_stale() */
        :: at[self] == BREAK_FLOCK ->
            if
            :: MAY_REMOVE -> flocked[self] = SHARED; at[self] = BREAK_CHECK
            :: else -> REACHED(6); locked[self] = NONE; name[self] = 0; at[self] = HOLD
            fi
        :: at[self] == BREAK_CHECK ->
            if
#ifdef NO_INODE_CHECK_IN_BREAK
            :: at[self] = BREAK_UNLINK
#else
            :: entry[LOCK] == other[self] -> at[self] = BREAK_UNLINK
            :: else -> REACHED(7); at[self] = BREAK_UNFLOCK
#endif
            fi
        :: at[self] == BREAK_UNLINK -> REACHED(8); unlink_lock(0); at[self] = BREAK_NAME
        :: at[self] == BREAK_NAME ->
            at[self] = (entry[name[self]] == other[self] -> BREAK_NAME_2 : BREAK_UNFLOCK)
        :: at[self] == BREAK_NAME_2 -> entry[name[self]] = 0; at[self] = BREAK_UNFLOCK
        :: at[self] == BREAK_UNFLOCK -> flocked[self] = NONE; at[self] = BREAK_CLOSE
        :: at[self] == BREAK_CLOSE ->
            close_other();
            name[self] = 0;
            sweeping[self] = 1;
            at[self] = SWEEP

        /* ---- sweep_all(): any names, in any order; the last one takes all ---- */
        :: at[self] == SWEEP && over ->
            name[self]++;
            if
            :: name[self] > NAMES -> die(self)
            :: name[self] <= NAMES && IS_ABANDONED(name[self]) -> at[self] = REAP_OPEN
            :: else ->
                assert(entry[name[self]] == 0 || entry[name[self]] == entry[BACKUP]);
            fi

        /* sweep_reap(), reap() */
        :: at[self] == REAP ->
            if
            :: IS_ABANDONED(name[self]) -> at[self] = REAP_OPEN
            :: else -> next_name()
            fi
        :: at[self] == REAP_OPEN -> open_to_reap()
        :: at[self] == REAP_FLOCK ->
            if
            :: MAY_EXCLUDE(other[self]) -> locked[self] = EXCLUSIVE; at[self] = REAP_COUNT
            :: else -> at[self] = REAP_CLOSE
            fi
        :: at[self] == REAP_COUNT ->
            if
#ifdef ROW_2_LINKS /* wrong: they were counted before the grant only */
            :: at[self] = REAP_CHECK
#else
            :: LINKS(other[self]) == 1 -> at[self] = REAP_CHECK
            :: else -> REACHED(9); at[self] = REAP_CLOSE
#endif
            fi
        :: at[self] == REAP_CHECK ->
            at[self] = (entry[name[self]] == other[self] -> REAP_UNLINK : REAP_CLOSE)
        :: at[self] == REAP_UNLINK ->
            REACHED(10);
            entry[name[self]] = 0;
            again[self] = !sweeping[self];
            at[self] = REAP_CLOSE
        :: at[self] == REAP_CLOSE ->
            close_other();
            assert(!over || entry[name[self]] == 0);
            if
            :: sweeping[self] -> at[self] = SWEEP
            :: !sweeping[self] && again[self] -> at[self] = CREATE
            :: !sweeping[self] && !again[self] -> next_name()
            fi

        /* ---- acquire() sleeps, or is out of time; then comes break_lock() ---- */
        :: at[self] == HOLD ->
#ifdef BREAK
            if
            :: seen[self] == 0 && !over -> seen[self] = (entry[LOCK] != 0 -> entry[LOCK] : NEVER)
            :: else
            fi;
#endif
            at[self] = WAIT
        :: at[self] == WAIT && IS_CHANGED(self) -> look()

#ifdef BREAK
        /* files_condemn() */
        :: at[self] == CONDEMN && MAY_CONDEMN ->
            flocked[self] = EXCLUSIVE;
            at[self] = CONDEMN_CHECK
        :: at[self] == CONDEMN_CHECK ->
            sweeping[self] = entry[LOCK] != 0;
            if
            :: entry[LOCK] == 0 -> at[self] = CONDEMN_END
#ifdef ROW_4_CONDEMN /* wrong: whatever is there now */
            :: entry[LOCK] != 0 -> at[self] = CONDEMN_UNLINK
#else
            :: entry[LOCK] != 0 && SEEMS_SEEN -> at[self] = CONDEMN_UNLINK
            :: entry[LOCK] != 0 && !SEEMS_SEEN -> REACHED(11); at[self] = CONDEMN_END
#endif
            fi
        :: at[self] == CONDEMN_UNLINK -> REACHED(12); unlink_lock(1); at[self] = CONDEMN_END
        :: at[self] == CONDEMN_END ->
            flocked[self] = NONE;
            forget_seen();
            if
            :: sweeping[self] -> at[self] = SWEEP
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

    /* unique_make() */
    :: d_step { at[self] == CREATE && !again[self] && IS_OFFERED(1) -> create(1); settle() }
    :: d_step { at[self] == CREATE && !again[self] && IS_OFFERED(2) -> create(2); settle() }
    :: d_step { at[self] == CREATE && !again[self] && IS_OFFERED(3) -> create(3); settle() }
    :: d_step { at[self] == CREATE && !again[self] && IS_OFFERED(4) -> create(4); settle() }

    /* sweep_all(): any names, in any order */
    :: d_step { at[self] == SWEEP && !over && IS_ABANDONED(1) -> sweep(1); settle() }
    :: d_step { at[self] == SWEEP && !over && IS_ABANDONED(2) -> sweep(2); settle() }
    :: d_step { at[self] == SWEEP && !over && IS_ABANDONED(3) -> sweep(3); settle() }
    :: d_step { at[self] == SWEEP && !over && IS_ABANDONED(4) -> sweep(4); settle() }
    :: d_step { at[self] == SWEEP && !over -> claim(); settle() }

#ifdef LOST_REPLY
    :: d_step {
        at[self] == PUBLISH && entry[name[self]] != 0 && entry[LOCK] == 0 ->
        entry[LOCK] = entry[name[self]];
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
        close_other();
        at[self] = CONDEMN;
        settle()
    }
#endif

    :: d_step { IS_ALIVE(self) && !over && crashes < CRASHES -> crashes++; die(self); settle() }
    :: d_step { /* all are killed, and one comes after */
        !over && self == 0 ->
        REACHED(13);
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

#ifdef WITH_BACKUP
/* Links what is in the directory, and removes the link again. */
#define TRY_BACKUP(n) \
    d_step { !over && entry[BACKUP] == 0 && entry[n] != 0 -> entry[BACKUP] = entry[n] }
proctype backup() {
end:
    do
    :: TRY_BACKUP(1)
    :: TRY_BACKUP(2)
    :: TRY_BACKUP(3)
    :: d_step { !over && entry[BACKUP] != 0 -> entry[BACKUP] = 0 }
    od
}
#endif

init {
    atomic {
        if
        :: skip
        :: entry[LOCK] = 1; entry[1] = 1 /* the lock of one long dead */
        fi;
        at[0] = DEAD;
        at[1] = DEAD;
        at[2] = DEAD;
        run process(0);
        run process(1);
#if PROCESSES == 3
        run process(2);
#endif
#ifdef WITH_BACKUP
        run backup();
#endif
        skip
    }
}
