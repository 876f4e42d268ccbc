/* What was tried in vain by a lock object: waiting, and breaking. */
#ifndef LOCKFILE_VAIN_H
#define LOCKFILE_VAIN_H

#include "core/attempt.h"

/* ---- Waiting ----
 *
 * What break_lock() may condemn: only a lock that was there during all of the wait.
 * One that came while we waited may be that of another waiter, who has just broken
 * the one that both waited for. Each caller remembers for itself: threads that share
 * a lock object time out, and break, each for itself. */

/* The wait is over; there: what is in the way now. HELD; FAILED: it cannot be remembered, and
 * break_lock() would condemn whatever is there. */
enum outcome vain_remember(struct attempt *attempt, struct identity there);
void vain_forget(struct attempt *attempt);

/* What the caller has waited for in vain, or none: the lock changed hands. False: it has not
 * waited. */
bool vain_recall(struct attempt *attempt, struct identity *waited_for);

/* ---- Breaking ---- */

/* How long that stale lock has refused to be broken, whoever has tried it by this object. */
int64_t vain_refused_for(struct lock *lock, struct identity stale);

void vain_free(struct lock *lock); /* when it is dropped */

#endif
