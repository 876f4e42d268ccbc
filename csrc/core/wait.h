/* Waiting until an inode changes, or the deadline.
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
 */
#ifndef LOCKFILE_WAIT_H
#define LOCKFILE_WAIT_H

#include "platform/os.h"

struct wait {
    int64_t deadline; /* by os_now(); OS_NEVER: none */
    int64_t since;    /* since when, by os_date(); 0: it does not wait yet */
    bool hurried;     /* what is waited for is about to happen */

    int64_t pause;      /* from which the next sleep's length follows */
    int64_t ahead;      /* how long the one will be that is to begin; 0: none is */
    int64_t look_at;    /* when the one ends that has begun; 0: none has */
    int64_t check_at;   /* when to see to signals that another thread may have taken, */
    int64_t checked_at; /* when it did, */
    bool checked;       /* and whether it did in a sleep since what is waited for is there */

    struct os_inode inode; /* what is waited for */
    int64_t found_at;      /* when it was first seen, */
    int64_t stayed;        /* for how long, */
    int64_t stays;         /* and how long it, or the one before it, was there at least */

    bool lost;       /* it has changed hands: the others may be many */
    bool queued;     /* it was marked when it was last looked at */
    uint64_t queue;  /* where the marks are */
    unsigned elders; /* so many have waited for longer, up to enough ... */
    bool behind;     /* ... which they are */
    bool napping;    /* so this one does not even watch */
    int64_t nap;     /* how long it did not, last; 0: it is one of the eldest */

    struct os_file watch; /* descriptor -1: none, so it naps or polls */
    int watched;          /* -1: nothing */
    struct os_inode watched_inode;
    struct os_signals signals; /* held off while we look, admitted while we sleep */
};

void wait_begin(struct wait *wait, int64_t deadline);
void wait_end(struct wait *wait);

/* Around each look by who would wait. */
void wait_begin_look(struct wait *wait);
void wait_end_look(struct wait *wait);

/* What is waited for now: another inode starts the pauses anew. */
void wait_for_inode(struct wait *wait, struct os_inode inode);

/* Marks the file that is in the way, or that stands for it. Whether to watch it. */
bool wait_in_queue(struct wait *wait, const struct os_file *file, uint64_t queue);

/* Watches what path names, which is inode unless it was replaced. May fail: then
 * wait_for_change() polls. Watching ends with wait_unwatch(). */
void wait_watch(struct wait *wait, const char *path, enum os_kind kind, struct os_inode inode);
void wait_unwatch(struct wait *wait);

/* What is in the way will be gone in a moment, though no event will say so. */
void wait_hurry(struct wait *wait);

bool wait_is_over(const struct wait *wait);

/* Does it look again and again, without being told of anything? */
bool wait_polls(const struct wait *wait);

/* Sleeps. 0: it is worth another look. EINTR: a signal came, or may have come: another thread
 * may have taken it while we held signals off. Then see to it, and call again to sleep on, if
 * wait_stands(). file: what was marked. */
int wait_for_change(struct wait *wait, const struct os_file *file);
bool wait_stands(const struct wait *wait);

#endif
