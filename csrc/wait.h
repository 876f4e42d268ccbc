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
 */
#ifndef LOCKFILE_WAIT_H
#define LOCKFILE_WAIT_H

#include "os.h"

struct wait {
    int64_t deadline;      /* by os_now(); OS_NEVER: none */
    int64_t pause;         /* how long the next sleep may be */
    bool hurried;          /* what is waited for is about to happen */
    struct os_inode inode; /* what is waited for */
    struct os_file watch;  /* descriptor -1: none, so we poll */
    int watched;
    struct os_signals signals; /* held off while we look, admitted while we sleep */
};

void wait_begin(struct wait *wait, int64_t deadline);
void wait_end(struct wait *wait);

/* Watches what path names, which is inode unless it was replaced. May fail: then
 * wait_for_change() polls. Watching ends with wait_unwatch(). */
void wait_watch(struct wait *wait, const char *path, enum os_kind kind);
void wait_unwatch(struct wait *wait);

/* What is waited for now: another inode starts the pauses anew. */
void wait_for_inode(struct wait *wait, struct os_inode inode);

/* What is in the way will be gone in a moment, though no event will say so. */
void wait_hurry(struct wait *wait);

bool wait_is_over(const struct wait *wait);

/* Sleeps; returns when it is worth another look. EINTR: a signal came. */
int wait_for_change(struct wait *wait);

#endif
