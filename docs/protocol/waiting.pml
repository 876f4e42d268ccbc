/* Waiting: the eldest watch, the others nap (csrc/core/wait.c), whatever the lock is made of.
 *
 * Time goes on in ticks, and only while everybody sleeps, is stopped, or owns: what is awake acts
 * before. Nothing is lost if a free lock that is wanted is taken within the longest nap
 * (wanted()), whoever is stopped or killed meanwhile; and if nobody sleeps longer than that who
 * is not told of a change. So the turns that a napping waiter misses are those that fit into
 * one nap; then it is one of the eldest, or there are as many who have waited longer.
 *
 * In place of the looks after a second, which would hide what is wrong, there are none here. */

#ifndef PROCESSES
#define PROCESSES 4
#endif
#ifndef STOPS
#define STOPS 2 /* how often anybody is stopped */
#endif
#ifndef ELDEST
#define ELDEST 2
#endif
#define NAP 2
#define NOBODY PROCESSES

#ifndef REACH
#define REACH 0
#endif
#define REACHED(place) assert(REACH != (place))

#define FOR_ALL(i) for (i : 0 .. PROCESSES - 1)

byte owner = NOBODY;
byte idle;                      /* ticks for which the lock is free, and wanted */
bool stopped[PROCESSES];
bool asleep[PROCESSES];
bool waits[PROCESSES];
bool has_lost[PROCESSES];       /* a race for the lock: it does not count its elders before */
byte elders[PROCESSES];         /* those who have waited for longer, a bit each */

/* Of the lock file that is there now. */
bool opened[PROCESSES];
bool marked[PROCESSES];
bool watched[PROCESSES];

bool told[PROCESSES];           /* of a change of what it watched */
byte timer[PROCESSES];          /* of its nap; 0: it does not nap */

inline begin_wait(me) {
    FOR_ALL(other) {
        if
        :: waits[other] -> elders[me] = elders[me] | (1 << other)
        :: else
        fi
    }
    waits[me] = true
}

inline end_wait(me) {
    FOR_ALL(other) { elders[other] = elders[other] & ~(1 << me) }
    waits[me] = false;
    elders[me] = 0;
    has_lost[me] = false;
    opened[me] = false;
    marked[me] = false;
    watched[me] = false;
    told[me] = false;
    timer[me] = 0
}

/* The lock file goes, and with it all marks and watches; who watched it is told. */
inline release() {
    owner = NOBODY;
    FOR_ALL(other) {
        told[other] = told[other] || watched[other];
        opened[other] = false;
        marked[other] = false;
        watched[other] = false
    };
    other = 0
}

inline count_elders(me, count) {
    count = 0;
    FOR_ALL(other) {
        if
        :: marked[other] && (elders[me] & (1 << other)) -> count++
        :: else
        fi
    };
    other = 0
}

proctype Waiter(byte me) {
    byte count, other;
out:
    if
    :: d_step { !stopped[me] -> begin_wait(me) }
    fi;
look:
    if
    :: d_step { !stopped[me] && owner == NOBODY -> owner = me; idle = 0; end_wait(me) }; goto own
    :: d_step { !stopped[me] && owner != NOBODY -> opened[me] = true; told[me] = false }
    fi;
    d_step { !stopped[me]; marked[me] = opened[me] };
    d_step {
        !stopped[me];
        count_elders(me, count);
        if
        :: has_lost[me] && count >= ELDEST -> REACHED(1); timer[me] = NAP
        :: else -> timer[me] = 0
        fi
    };
    if
    :: timer[me] == 0 -> d_step { !stopped[me]; watched[me] = opened[me] }
    :: else
    fi;
#ifndef NO_NAME_CHECK
    if
    :: d_step { !stopped[me] && !opened[me] -> REACHED(2); has_lost[me] = true; timer[me] = 0 }; goto look
    :: !stopped[me] && opened[me]
    fi;
#endif
    d_step { !stopped[me]; asleep[me] = true };
#ifdef NAP_TO_THE_EVENT
    /* Napping until one of the elders goes on would do, if none of them was ever stopped. */
    d_step { !stopped[me] && (told[me] || (timer[me] != 0 && elders[me] == 0)); asleep[me] = false };
#else
    d_step { !stopped[me] && (told[me] || timer[me] == 1); asleep[me] = false };
#endif
    if
    :: timer[me] != 0 && owner == NOBODY -> REACHED(3)
    :: else
    fi;
    has_lost[me] = has_lost[me] || !opened[me];
    timer[me] = 0;
    goto look;
own:
    if
    :: d_step { !stopped[me] -> release() }
    fi;
    goto out
}

/* Time. */
#define CAN_SLEEP_ON(i)                                                                            \
    (stopped[i] || owner == i || !waits[i] || (asleep[i] && !told[i] && timer[i] != 1))

proctype Clock() {
    bool all_sleep, is_wanted;
    byte i;
    do
    :: atomic {
           all_sleep = true;
           is_wanted = false;
           FOR_ALL(i) {
               all_sleep = all_sleep && CAN_SLEEP_ON(i);
               is_wanted = is_wanted || (waits[i] && !stopped[i])
           };
           if
           :: all_sleep ->
#ifndef NAP_TO_THE_EVENT
               FOR_ALL(i) {
                   if
                   :: timer[i] > 1 && asleep[i] -> timer[i]--
                   :: else
                   fi
               };
#endif
               idle = (owner == NOBODY && is_wanted -> idle + 1 : 0);
               assert(idle <= NAP)
           :: else
           fi;
           all_sleep = false;
           is_wanted = false;
           i = 0
       }
    od
}

/* Whoever stops the others, and lets them go on, or never does: killed. */
proctype Hand() {
    byte i, stops;
    do
    :: atomic {
           select(i : 0 .. PROCESSES - 1);
           if
           :: stops < STOPS && !stopped[i] && owner != i -> stopped[i] = true; stops++
           :: stopped[i] -> stopped[i] = false
           :: else
           fi;
           i = 0
       }
    od
}

init {
    byte i;
    atomic {
        FOR_ALL(i) { run Waiter(i) };
        run Clock();
        run Hand()
    }
}
