/* Waiting until a claim that is in the way changes, or the deadline.
 *
 * The kernel tells of a change: when it is released, the lock file's links are counted
 * down, or what is in it is removed; and when its owner dies, the owner's descriptor is
 * closed for writing. A watch is set before the look that finds the lock held, so no
 * event between the look and the sleep is missed.
 *
 * The kernel tells of an owner's death a moment before it frees the beacon.
 * After such an event the waits are 0.1 ms and then twice as long each, up to
 * 100 ms; otherwise the first is 2 ms and the others a second, in case an event
 * was lost. Where there are no events, waits grow from 1 to 50 ms.
 *
 * The eldest watch, the others nap. Who waits marks what is in the way, by a byte lock that
 * says since when; so each can see how many have waited for longer. Three of them
 * are enough to be woken by a release: the others keep no watch, but sleep for a while
 * and look again. A mark is the open file's: it goes with whoever is killed, and who is stopped
 * leaves none on the next lock.
 *
 * Calling sequence. A step that cannot go on says what for, by one of the wait_for_ functions, and
 * returns. Then either wait_sleep() sleeps, or the caller does so in its own way: until
 * wait_descriptor() is readable, or it is wait_until(). lock_acquire() asks wait_goes_on() first;
 * the other steps do not wait for changes, and try again when they are called.
 */
#ifndef LOCKFILE_WAIT_H
#define LOCKFILE_WAIT_H

#include "core/table.h"

enum wait_kind {
    WAIT_FOR_NOTHING, /* go on at once; but a signal that comes from here on ends the next sleep */
    WAIT_FOR_MOMENT,  /* others will be done in no time, and nothing will tell */
    WAIT_FOR_CALL,    /* until another call of the same owner has changed the table */
    WAIT_FOR_CHANGE,  /* until the claim in the way changes */
};

struct waiter {
    int64_t deadline; /* by os_now(); OS_NEVER: none; not above 0: it does not wait at all */
    enum wait_kind kind;
    int64_t until;        /* when to go on at the latest; for a change: when to look again */
    uint64_t changes;     /* of the table, so far */
    int64_t call_back_at; /* when wait_sleep() ends for the caller's sake; OS_NEVER: it does not */
    bool interrupted;     /* the sleep, for signals or the caller to be seen to: it is not over */
    bool prepared;        /* signals could be held off since they were last let in */

    int64_t since;       /* since when, by os_date(); 0: it does not wait yet */
    bool hurried;        /* what is waited for is about to happen */
    int64_t pause;       /* from which the next sleep's length follows */
    int64_t ahead;       /* how long the sleep will be that is to begin; 0: it has begun */
    bool signals_first;  /* see to signals before it begins */
    int64_t signals_at;  /* when to see to signals that another thread may have taken, */
    int64_t signals_was; /* when that was last done, */
    bool signals_seen;   /* and whether in a sleep since the claim is there */

    struct identity claim; /* what is in the way */
    int64_t found_at;      /* when it was first seen, */
    int64_t stayed;        /* for how long, */
    int64_t stays;         /* and how long it, or the one before it, was there at least */

    bool lost;                    /* it has changed hands: the others may be many */
    bool queued;                  /* it was marked when it was last looked at */
    const struct os_file *marked; /* on this file, */
    uint64_t queue;               /* in this queue */
    unsigned elders;              /* so many have waited for longer, up to enough ... */
    bool behind;                  /* ... which they are */
    bool napping;                 /* so this one does not even watch */
    bool gives_start;             /* it sleeps on for the elders' sake, though it was woken */
    int64_t nap;                  /* how long it did not, last; 0: it is one of the eldest */

    struct os_file watch;         /* none: it naps or polls */
    int watch_number;             /* of what it watches; -1: nothing */
    const struct os_file *shared; /* the watch of many, of which that is a copy; NULL: its own */
    bool was_closed;              /* as those who read that one have told */
    struct identity watched;
    struct os_signals signals; /* held off from before the look to the end, but in the sleep */
};

void wait_begin(struct waiter *wait, int64_t deadline);

/* Has it use a watch that serves many, which lives longer, or is none; NULL: one of its own. Who
 * reads that watch tells of each event by wait_tell(). */
void wait_share(struct waiter *wait, const struct os_file *watch);
void wait_tell(struct waiter *wait, const struct os_event *event);
void wait_end(struct waiter *wait);

/* ---- While it looks ---- */

/* Around each look by who would wait. */
void wait_begin_look(struct waiter *wait);
void wait_end_look(struct waiter *wait);

/* What is in the way now: another claim starts the pauses anew. */
void wait_meet(struct waiter *wait, struct identity claim);

/* Marks the file that is in the way, or that stands for it. Whether to watch it. Those who would
 * share it are let in together, so none of them waits for elders. */
bool wait_in_queue(struct waiter *wait, const struct os_file *file, uint64_t queue, bool shares);

/* Watches what path names, which is that claim unless it was replaced. May fail: then waiting for
 * a change is polling. Watching ends with wait_unwatch(). */
void wait_watch(struct waiter *wait, const char *path, enum os_kind kind, struct identity claim);
void wait_unwatch(struct waiter *wait);

/* Who owns what is watched, as a hint. */
bool wait_wants_owner(const struct waiter *wait);
void wait_watch_owner(struct waiter *wait, int process);

/* What is in the way will be gone in a moment, though no event will say so. */
void wait_hurry(struct waiter *wait);

bool wait_is_wanted(const struct waiter *wait); /* or the lock now, or not at all */
bool wait_is_over(const struct waiter *wait);

/* Would it look again and again, without being told of anything? */
bool wait_polls(const struct waiter *wait);

/* ---- Why a step cannot go on ---- */

void wait_for_nothing(struct waiter *wait);
void wait_for_moment(struct waiter *wait, int64_t pause);
void wait_for_call(struct waiter *wait, uint64_t changes, int64_t until);
void wait_for_change(struct waiter *wait, int64_t most); /* looks again after so long at most */

/* ---- Sleeping ---- */

/* Does what was waited for still keep it from going on? Takes note of what has happened. */
bool wait_goes_on(struct waiter *wait);

/* For who sleeps in its own way. No descriptor: -1. */
int wait_descriptor(const struct waiter *wait);
int64_t wait_until(const struct waiter *wait); /* or until it is to call back */
bool wait_is_to_call_back(const struct waiter *wait);

/* The one place that sleeps. 0; EINTR: a signal came, or may have come: another thread may have
 * taken it while this one held signals off; or wait_is_to_call_back(). Then let them in by
 * wait_admit_signals(), see to them, and go on with the next step. */
int wait_sleep(struct waiter *wait);
void wait_admit_signals(struct waiter *wait);

#endif
