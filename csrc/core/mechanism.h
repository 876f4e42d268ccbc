/* What a scheme of locks offers. The core puts these together, once for all of them, to what a lock
 * does (lock.h).
 *
 * None of these functions sleeps, but for one that must wait for another thread of its own
 * (SQLite's, for a connection that is in use). An outcome may be LOCK_WAITING: then the function
 * has said what for, and is called again. What it keeps until then in the place, close() gives up;
 * what in the claim that is being released, stop_release().
 */
#ifndef LOCKFILE_MECHANISM_H
#define LOCKFILE_MECHANISM_H

#include "core/attempt.h"

struct mechanism {
    bool unique_file_is_inside; /* the lock file, or beside it */
    bool excludes_owner;        /* to acquire what one owns already is refused */
    bool shares_beacon;         /* those who share it have one beacon together: os_can_share */

    /* Prepares attempt->place, which holds zeros. */
    void (*begin)(struct attempt *attempt);

    /* In a forked child: what the place holds is the parent's, and its descriptors are closed. */
    void (*leave_to_parent)(struct attempt *attempt);

    /* Reaches the place where the lock is, and leaves it. 0 or an errno value. */
    int (*open)(struct attempt *attempt);
    void (*close)(struct attempt *attempt);

    /* Tries once to make the lock ours: OWNED, HELD, FAILED, WAITING; FREE: what it worked on was
     * removed meanwhile, so open the place anew; FOUND: it is the owner's already. */
    enum outcome (*claim)(struct attempt *attempt);

    /* Judges what is there: OWNED, FREE, STALE, HELD, SHARED, FAILED, WAITING. will_wait: sets the
     * watch first, and lets the owner know that somebody waits. */
    enum outcome (*look)(struct attempt *attempt, bool will_wait);

    /* Is there a lock at all? Cheaper than a look; false, if that could not be seen just now. */
    bool (*is_there)(struct attempt *attempt);

    /* Tries once to share what is there with others: OWNED, FREE, FAILED, WAITING; HELD: they do
     * not share it, or it is given way to one who waits, as attempt->gives_way wants, and
     * attempt->has_given_way says; FOUND: it is the owner's already. NULL: none can be shared. */
    enum outcome (*join)(struct attempt *attempt);

    /* Lets others share what is owned exclusively, without a moment of freedom: OWNED; FAILED: it
     * is exclusive still; WAITING. */
    enum outcome (*downgrade)(struct attempt *attempt, struct claim *claim);

    /* Those who share what is there, up to most: how many. */
    unsigned (*list_readers)(struct attempt *attempt, struct os_reader readers[], unsigned most);

    /* Says all that can be known about who holds what was looked at, for messages. */
    void (*identify)(struct attempt *attempt);

    /* Which lock it is that is there now, or none. */
    struct identity (*recognise)(struct attempt *attempt);

    /* Removes the lock that was found stale: FREE, HELD, FAILED, WAITING. */
    enum outcome (*break_stale)(struct attempt *attempt);

    /* Is a claim of the table still true? OWNED, BROKEN, FAILED, WAITING; FREE: it is, but the
     * lock's path leads to another place by now. */
    enum outcome (*confirm)(struct attempt *attempt, struct claim *claim);

    /* Drops a claim that is not true any more, and what is left of it, if that can be reached. */
    void (*discard)(struct claim *claim);

    /* RELEASED, BROKEN: the claim is gone; WAITING; FAILED: if the report says owned, it is still
     * there, and in use. has_waiters: whether others wait for it. */
    enum outcome (*release)(struct attempt *attempt, struct claim *claim, bool *has_waiters);

    /* A release in course is given up: keeps the claim, unless it is not owned any more. */
    void (*stop_release)(struct claim *claim);

    /* Drops a claim without a word: to others, its owner is dead. */
    void (*abandon)(struct claim *claim);

    /* Has forked children, and what they become, keep the claim, too, or not any more: 0 or an
     * errno value. NULL: they cannot. */
    int (*share)(struct claim *claim, bool inheritable);

    /* Does nobody else keep it, so that it is to be released at the process's end? */
    bool (*is_last)(struct claim *claim);

    /* Removes the lock whoever owns it: the one that was waited for, else the one there now. FREE,
     * FAILED, WAITING. attempt->condemned: what this process had of it, all of attempt->
     * condemned_claim up to that serial, which is discarded next; 0: nothing. Then tidies up. */
    enum outcome (*condemn)(struct attempt *attempt, const struct identity *waited_for);
    void (*tidy)(struct attempt *attempt);
};

#endif
