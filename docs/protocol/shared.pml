/* Shared locks: readers.c and join.c of csrc/mechanisms/files, and what they use there.
 *
 * One atomic step per system call. What link.pml says in full is taken together here: a unique file
 * is made, lit and checked in one step. READERS share, the others want the lock alone. README.rst
 * says what stands for what. */

#ifndef READERS
#define READERS 2
#endif
#ifndef WRITERS
#define WRITERS 1
#endif
#define PROCESSES (READERS + WRITERS)
#define IS_READER(q) ((q) < READERS)
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef REACH
#define REACH 0
#endif
#define REACHED(n) assert(REACH != (n))

mtype = {
    RESTS,
    PUBLISH, LINK, WITHDRAW,
    JOIN, PROBE, PROBE_SEE, REOPEN, MARK, MARK_SEE, PATH,
    LOOK, LOOK_SHARED, LOOK_SEE, LOOK_UNLOCK, FIND_NAME,
    TAKE, BESIDE_MARK, BESIDE_TURN, BESIDE_SEE, BREAK_CHECK, BREAK_UNLINK, BREAK_NAME,
    READS, WRITES, DOWN_MARK, DOWN_SHARE, DOWN_SHARE_2,
    LEAVE, LEAVE_ALONE, UNMARK, SEE, CHECK, UNLINK, NAME,
    LOST, RELIGHT, RELIGHT_SEE, RELIGHT_MARK, RELIGHT_TURN, RELIGHT_SHARE, RELIGHT_PATH,
    CONDEMN, CONDEMN_UNLINK
}
#define SHARED 1
#define ALONE 2

/* Of each process: */
mtype at[4];
byte inode[4];   /* what it has open, or had: of the lock file */
bit is_open[4];
byte beacon[4];  /* its flock on that: 0, SHARED, ALONE */
bit mark[4];     /* its reader's mark, */
bit turn[4];     /* its breaker's mark, */
bit dark[4];     /* and what it saw there */
byte owns[4];    /* 0, SHARED, ALONE */
bit removing[4]; /* the mark of removals on the directory */

/* The directory. An inode's number is used again as soon as nothing has it. */
#define NUMBERS 6
#define FOREIGN 7 /* a lock file of the classic package's */
byte file;
bit named[8];     /* does it have its unique name? */
bit condemning;   /* a break_lock() keeps off removals */
byte crashes;
bit over;         /* all were killed, and one came after them */
bit used;         /* by a classic client */
byte n;

#define HAS(q, p, i, m) ((q) != (p) && is_open[q] && inode[q] == (i) && beacon[q] == (m))
#define ANY(p, i, m) (HAS(0, p, i, m) || HAS(1, p, i, m) || HAS(2, p, i, m) || HAS(3, p, i, m))
#define MAY_SHARE(p) (!ANY(p, inode[p], ALONE))
#define MAY_EXCLUDE(p) (MAY_SHARE(p) && !ANY(p, inode[p], SHARED))
#define BEARS(q, p, m) ((q) != (p) && is_open[q] && inode[q] == inode[p] && m[q])
#define SEES(p, m) (BEARS(0, p, m) || BEARS(1, p, m) || BEARS(2, p, m) || BEARS(3, p, m))
#define IS_USED(q, i) (is_open[q] && inode[q] == (i))
#define IS_FREE(i) \
    (file != (i) && !named[i] && !IS_USED(0, i) && !IS_USED(1, i) && !IS_USED(2, i) && !IS_USED(3, i))
#define IS_REMOVING (removing[0] || removing[1] || removing[2] || removing[3])
#define ALL_REST (at[0] == RESTS && at[1] == RESTS && at[2] == RESTS && at[3] == RESTS)
#define OWN(how) ((owns[0] == how) + (owns[1] == how) + (owns[2] == how) + (owns[3] == how))

inline close(p) {
    is_open[p] = 0;
    inode[p] = 0;
    beacon[p] = 0;
    mark[p] = 0;
    turn[p] = 0;
    dark[p] = 0;
    removing[p] = 0
}
inline rest(p) { close(p); owns[p] = 0; at[p] = RESTS }
inline again(p) { close(p); at[p] = (IS_READER(p) -> JOIN : LOOK) }
inline waits(p) { /* until something else is to be seen */
    assert(!over);  /* whoever is alone finds nothing to wait for */
    again(p)
}
inline own(p, how) {
    owns[p] = how;
    assert(OWN(ALONE) == 0 || (OWN(ALONE) == 1 && OWN(SHARED) == 0));
    assert(file == inode[p] && !used)
}

/* Removes what is at the lock file's name: nobody's who lives, unless it is condemned. */
inline spare(q, p, is_condemned) {
    if
    :: q != p && owns[q] != 0 && inode[q] == file -> assert(is_condemned); owns[q] = 0
    :: else
    fi
}
inline unlink_lock(p, is_condemned) {
    assert(file != FOREIGN);
    spare(0, p, is_condemned);
    spare(1, p, is_condemned);
    spare(2, p, is_condemned);
    spare(3, p, is_condemned);
    file = 0
}

/* Nothing is left without a crash, nor by the one that came after all were killed. A sweep, which is
 * link.pml's affair, removes names that stand alone. */
inline settle() {
    assert(!(ALL_REST && (crashes == 0 || over)) || file == 0 || used);
    n = 1;
    do
    :: n > NUMBERS -> break
    :: else ->
        if
        :: named[n] && file != n && !IS_USED(0, n) && !IS_USED(1, n) && !IS_USED(2, n) && !IS_USED(3, n) ->
#ifndef CONDEMNS
            assert(crashes > 0 || over);
#endif
            named[n] = 0
        :: else
        fi;
        n++
    od;
    n = 0
}

#ifdef NO_DIRECTORY /* wrong: removals and break_lock() do not keep off each other */
#define KEEP_OFF(p) skip
#define MAY_REMOVE true
#else
#define KEEP_OFF(p) removing[p] = 1
#define MAY_REMOVE (!condemning)
#endif
#define IS_BLOCKED(p) \
    (((at[p] == CHECK || at[p] == BREAK_CHECK) && !MAY_REMOVE) || (at[p] == CONDEMN && (condemning || IS_REMOVING)))

#ifdef BESIDE_EARLY /* wrong: one may join between that look and the mark */
#define BESIDE_FIRST BESIDE_SEE
#define AFTER_SEE BESIDE_MARK
#define AFTER_TURN BREAK_CHECK
#else
#define BESIDE_FIRST BESIDE_MARK
#define AFTER_TURN BESIDE_SEE
#define AFTER_SEE BREAK_CHECK
#endif

inline step(p) {
    if
    /* ---- Claim ---- */
    :: at[p] == PUBLISH ->
        n = 1;
        do
        :: !IS_FREE(n) -> n++
        :: else -> break
        od;
        assert(n <= NUMBERS);
        inode[p] = n;
        is_open[p] = 1;
        named[n] = 1;
        n = 0;
        beacon[p] = (IS_READER(p) -> SHARED : ALONE);
        mark[p] = IS_READER(p);
        at[p] = LINK
    :: at[p] == LINK ->
        if
        :: file == 0 ->
            file = inode[p];
            own(p, (IS_READER(p) -> SHARED : ALONE));
            at[p] = (IS_READER(p) -> READS : WRITES)
        :: else -> at[p] = WITHDRAW
        fi
    :: at[p] == WITHDRAW -> named[inode[p]] = 0; again(p)

    /* ---- Join ---- */
    :: at[p] == JOIN ->
        if
        :: file == 0 -> at[p] = PUBLISH
        :: else -> inode[p] = file; is_open[p] = 1; at[p] = PROBE
        fi
    :: at[p] == PROBE ->
        if
        :: MAY_SHARE(p) -> beacon[p] = SHARED; at[p] = PROBE_SEE
        :: else -> waits(p)
        fi
    :: at[p] == PROBE_SEE ->
#ifdef JOIN_UNLOCKED /* wrong: the mark that is seen does not stay */
        beacon[p] = 0;
#endif
        if
#ifdef JOIN_DARK /* wrong: whatever nobody has alone */
        :: at[p] = REOPEN
#else
        :: SEES(p, mark) -> REACHED(1); at[p] = REOPEN
        :: else -> close(p); at[p] = LOOK
#endif
        fi
    :: at[p] == REOPEN ->
        if
        :: file == inode[p] -> at[p] = MARK
        :: else -> again(p)
        fi
    :: at[p] == MARK -> mark[p] = 1; at[p] = MARK_SEE
    :: at[p] == MARK_SEE ->
        if
#ifndef JOIN_BLIND /* wrong: who breaks beside a look has looked for marks already */
        :: SEES(p, turn) -> REACHED(10); waits(p)
#endif
        :: else -> at[p] = PATH
        fi
    :: at[p] == PATH ->
        if
#ifndef NO_PATH_CHECK
        :: file != inode[p] -> REACHED(2); again(p)
        :: else ->
#else /* wrong */
        ::
#endif
            own(p, SHARED);
            at[p] = READS
        fi

    /* ---- Look ---- */
    :: at[p] == LOOK ->
        if
        :: file == 0 -> again(p); at[p] = PUBLISH
        :: else -> inode[p] = file; is_open[p] = 1; at[p] = LOOK_SHARED
        fi
    :: at[p] == LOOK_SHARED ->
        if
        :: MAY_SHARE(p) -> beacon[p] = SHARED; at[p] = LOOK_SEE
        :: else -> waits(p)
        fi
    :: at[p] == LOOK_SEE -> dark[p] = !SEES(p, mark); at[p] = LOOK_UNLOCK
    :: at[p] == LOOK_UNLOCK ->
        beacon[p] = 0;
        if
        :: dark[p] -> at[p] = FIND_NAME
        :: else -> again(p)
        fi
    :: at[p] == FIND_NAME ->
        if
        :: named[inode[p]] -> at[p] = TAKE
        :: !named[inode[p]] && file == inode[p] -> waits(p) /* not made by this protocol */
        :: else -> again(p)
        fi

    /* ---- Break ---- */
    :: at[p] == TAKE ->
        if
#ifdef JUDGE_BY_MARKS /* wrong: no mark, so no reader */
        :: MAY_SHARE(p) -> beacon[p] = SHARED; at[p] = BREAK_CHECK
#else
        :: MAY_EXCLUDE(p) -> beacon[p] = ALONE; at[p] = BREAK_CHECK
#endif
        :: else -> waits(p)
        fi
    :: at[p] == BESIDE_MARK -> turn[p] = 1; at[p] = BESIDE_TURN
    :: at[p] == BESIDE_TURN ->
        if
#ifndef NO_TURN /* wrong: two of them at a time */
        :: SEES(p, turn) -> waits(p)
#endif
        :: else -> at[p] = AFTER_TURN
        fi
    :: at[p] == BESIDE_SEE ->
        if
#ifndef BESIDE_BLIND /* wrong */
        :: SEES(p, mark) -> REACHED(3); waits(p)
#endif
        :: else -> REACHED(4); at[p] = AFTER_SEE
        fi
    :: at[p] == BREAK_CHECK ->
        if
        :: file == inode[p] -> KEEP_OFF(p); at[p] = BREAK_UNLINK
        :: else -> again(p)
        fi
    :: at[p] == BREAK_UNLINK -> REACHED(5); unlink_lock(p, false); at[p] = BREAK_NAME
    :: at[p] == BREAK_NAME -> named[inode[p]] = 0; again(p)

    /* ---- Downgrade ---- */
    :: at[p] == DOWN_MARK -> mark[p] = 1; at[p] = DOWN_SHARE
#ifdef TWO_STEPS /* wrong: as where the kernel first takes away, and then gives */
    :: at[p] == DOWN_SHARE -> beacon[p] = 0; at[p] = DOWN_SHARE_2
    :: at[p] == DOWN_SHARE_2 -> beacon[p] = SHARED; own(p, SHARED); at[p] = READS
#else
    :: at[p] == DOWN_SHARE ->
        beacon[p] = SHARED;
        if
        :: owns[p] != 0 -> own(p, SHARED)
        :: else
        fi;
        at[p] = READS
#endif

    /* ---- Leave ---- */
    :: at[p] == LEAVE ->
        if
#ifdef LEAVE_BY_MARKS /* wrong: no other mark, so nobody else */
        :: SEES(p, mark) -> rest(p)
        :: else -> at[p] = CHECK
#else
#ifdef LEAVE_IN_STEPS /* the kernel first takes away what was shared, and gives then */
        :: beacon[p] = 0; at[p] = LEAVE_ALONE
#else
        :: MAY_EXCLUDE(p) -> beacon[p] = ALONE; at[p] = CHECK
        :: else -> beacon[p] = 0; at[p] = UNMARK
#endif
#endif
        fi
    :: at[p] == LEAVE_ALONE ->
        if
        :: MAY_EXCLUDE(p) -> beacon[p] = ALONE; at[p] = CHECK
        :: else -> REACHED(11); at[p] = UNMARK
        fi
    :: at[p] == UNMARK -> mark[p] = 0; at[p] = SEE
    :: at[p] == SEE ->
        if
        :: SEES(p, mark) -> rest(p)
#ifdef NO_RETRY /* wrong: it was perhaps only a look */
        :: else -> rest(p)
#else
        :: else -> REACHED(6); at[p] = LEAVE
#endif
        fi
    :: at[p] == CHECK ->
        KEEP_OFF(p);
        if
        :: file == inode[p] -> at[p] = UNLINK
        :: else -> REACHED(7); at[p] = NAME
        fi
    :: at[p] == UNLINK -> unlink_lock(p, false); owns[p] = 0; at[p] = NAME
    :: at[p] == NAME -> named[inode[p]] = 0; rest(p)

    /* ---- Lost descriptors ---- */
    :: at[p] == LOST ->
        if
        :: file == inode[p] -> is_open[p] = 1; at[p] = RELIGHT
        :: else -> rest(p)
        fi
    :: at[p] == RELIGHT ->
        if
        :: MAY_EXCLUDE(p) -> beacon[p] = ALONE; at[p] = RELIGHT_MARK
        :: !MAY_EXCLUDE(p) && MAY_SHARE(p) -> beacon[p] = SHARED; at[p] = RELIGHT_SEE
        :: else -> is_open[p] = 0; at[p] = LOST
        fi
    :: at[p] == RELIGHT_SEE ->
        if
        :: SEES(p, mark) -> REACHED(8); at[p] = RELIGHT_MARK
        :: else -> beacon[p] = 0; is_open[p] = 0; at[p] = LOST
        fi
    :: at[p] == RELIGHT_MARK ->
        mark[p] = 1;
        at[p] = (beacon[p] == SHARED -> RELIGHT_TURN : RELIGHT_SHARE)
    :: at[p] == RELIGHT_TURN ->
        if
#ifndef JOIN_BLIND
        :: SEES(p, turn) -> mark[p] = 0; beacon[p] = 0; is_open[p] = 0; at[p] = LOST
#endif
        :: else -> at[p] = RELIGHT_PATH
        fi
    :: at[p] == RELIGHT_SHARE -> beacon[p] = SHARED; at[p] = RELIGHT_PATH
    :: at[p] == RELIGHT_PATH ->
        if
        :: file == inode[p] -> REACHED(9); own(p, SHARED); at[p] = READS
        :: else -> at[p] = LEAVE
        fi

    /* ---- break_lock() ---- */
    :: at[p] == CONDEMN -> condemning = 1; at[p] = CONDEMN_UNLINK
    :: at[p] == CONDEMN_UNLINK ->
        if
        :: file != 0 && file != FOREIGN -> unlink_lock(p, true)
        :: else
        fi;
        condemning = 0;
        again(p)
    fi
}

inline die(p) {
    if
    :: at[p] == CONDEMN_UNLINK -> condemning = 0
    :: else
    fi;
    rest(p)
}

proctype process(byte p) {
end:
    do
    :: d_step {
        at[p] != RESTS && at[p] != READS && at[p] != WRITES && !IS_BLOCKED(p) ->
        step(p);
        settle()
    }
    :: d_step { at[p] == RESTS && !over -> again(p) }
    :: d_step { at[p] == READS -> owns[p] = 0; at[p] = LEAVE }
    :: d_step { at[p] == WRITES -> at[p] = CHECK }
#ifdef DOWNGRADE
    :: d_step { at[p] == WRITES && !over -> at[p] = DOWN_MARK }
#endif
#ifdef BESIDE
    :: d_step { /* it has been refused for long: a look that does not end */
        at[p] == TAKE && !MAY_EXCLUDE(p) && MAY_SHARE(p) && !over ->
        beacon[p] = SHARED;
        at[p] = BESIDE_FIRST
    }
#endif
    :: d_step { /* time is up */
        (at[p] == LOOK || at[p] == JOIN) && !is_open[p] && !over ->
        rest(p)
    }
#ifdef LOSES
    :: d_step {
        at[p] == READS && owns[p] != 0 && !over ->
        owns[p] = 0;
        is_open[p] = 0;
        beacon[p] = 0;
        mark[p] = 0;
        at[p] = LOST
    }
#endif
#ifdef CONDEMNS
    :: d_step { at[p] == LOOK && !IS_READER(p) && !is_open[p] && !over -> at[p] = CONDEMN }
#endif
    :: d_step { at[p] != RESTS && !over && crashes < CRASHES -> crashes++; die(p); settle() }
    :: d_step { /* all are killed, and this one comes alone */
        !over && !used ->
        over = 1;
        die(0);
        die(1);
        die(2);
        die(3);
        again(p);
        settle()
    }
    od
}

#ifdef CLASSIC
proctype classic_client() {
end:
    do
    :: d_step { !over && file == 0 -> file = FOREIGN; used = 1; assert(OWN(ALONE) + OWN(SHARED) == 0) }
    :: d_step { file == FOREIGN -> assert(OWN(ALONE) + OWN(SHARED) == 0); file = 0; used = 0 }
    od
}
#endif

init {
    atomic {
        at[0] = RESTS;
        at[1] = RESTS;
        at[2] = RESTS;
        at[3] = RESTS;
        run process(0);
#if PROCESSES > 1
        run process(1);
#endif
#if PROCESSES > 2
        run process(2);
#endif
#if PROCESSES > 3
        run process(3);
#endif
#ifdef CLASSIC
        run classic_client();
#endif
        skip
    }
}
