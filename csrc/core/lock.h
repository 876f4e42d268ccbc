/* What a lock does, whatever it is made of.
 *
 * A lock protects a path, which need not exist, by a lock file, abspath(path) + ".lock" unless
 * another is named, or by what a mechanism has in its place. The file system, or the database,
 * grants it: whoever makes the lock file owns. The kernel says whether its owner lives (proof.h),
 * and waiters are told of changes (wait.h).
 *
 * Calling sequence, for every method of a lock:
 *
 *     struct attempt attempt;
 *     attempt_begin(&attempt, lock, owner, deadline);
 *     outcome = lock_run(&attempt, lock_acquire);      (or another of the operations below)
 *     attempt_end(&attempt);
 *
 * An operation is a step, and a step never sleeps: LOCK_WAITING asks to be called again when
 * attempt.wait is over. lock_run() does that, and sleeps in between. Whoever has other things to do
 * meanwhile calls the steps himself, as wait.h says: soon, since lock_break() keeps off others from
 * one step to the next. An attempt is not moved while it is one.
 *
 * None of this knows Python, and none needs the GIL. lock_run() returns LOCK_INTERRUPTED when a
 * signal came, or may have come, while it slept. Nothing is held then, so handlers may run and may
 * use the same lock; call it again to go on.
 */
#ifndef LOCKFILE_LOCK_H
#define LOCKFILE_LOCK_H

#include "core/attempt.h"

typedef enum outcome lock_operation(struct attempt *attempt);

enum outcome lock_run(struct attempt *attempt, lock_operation *operation);

/* What else they may return is WAITING. */
lock_operation lock_acquire; /* OWNED, HELD, FAILED */
lock_operation lock_release; /* RELEASED, FREE, HELD, FAILED */
lock_operation lock_look;    /* OWNED, FREE, STALE, HELD, FAILED */
lock_operation lock_break;   /* FREE, FAILED */

/* The first step, for who lets another do the waiting, who is ahead of it in a line: OWNED, it is
 * the owner's already; else WAITING. The next one may be lock_acquire(). */
enum outcome lock_join(struct attempt *attempt, const struct attempt *ahead);

/* Another was ahead in that line until now: what it has given way to is not given way to again. */
void lock_follow(struct attempt *attempt, const struct attempt *ahead);

/* Like lock_look(), and says who owns. */
lock_operation lock_identify;

/* Has others share what the owner has exclusively: OWNED; FAILED; else as lock_identify(). */
lock_operation lock_downgrade;

/* Why what is made so cannot be shared; NULL: it can. On no system, or not on this one. */
const char *lock_never_shares(const struct mechanism *mechanism);
const char *lock_cannot_share(const struct mechanism *mechanism);

/* After lock_identify(), of what is shared: those who do, up to most; how many. */
unsigned lock_list_readers(struct attempt *attempt, struct os_reader readers[], unsigned most);

/* Has forked children keep what the owner has, too, or not any more, as the attempt says: OWNED;
 * FAILED; else as lock_identify(). */
lock_operation lock_share_with_children;

/* with blocks nest. lock_enter() counts one more: OWNED; FREE: the lock is not owned, since
 * another thread of the same owner has left its block meanwhile, or it is not attempt.entering.
 * lock_leave() counts one less: RELEASED; OWNED: it does not, since this is the outermost; then
 * lock_release() with attempt.leaving ends it, and releases unless another thread has entered
 * meanwhile. */
lock_operation lock_enter;
lock_operation lock_leave;

/* A block is over though its end was interrupted: it does not count any more. */
void lock_end_block(struct attempt *attempt);

/* The owner's unique name for this lock: the real one while it owns, by whichever class and
 * path. Whether it is inside the lock file, or beside it. */
bool lock_unique_name(struct attempt *attempt, char name[NAME_SIZE]);

/* After lock_acquire() of a lock that its owner cannot acquire twice: which claim that is. 0: it is
 * another lock. */
uint64_t lock_sole_serial(const struct attempt *attempt);

/* Does it keep its owner out, too? */
bool lock_excludes_owner(const struct lock *lock);

/* The beacon's descriptor; -1: not owned. */
int lock_descriptor(struct attempt *attempt);

/* Some lock that an object owns, whichever it means by now; to be dropped. NULL: none, or there is
 * no memory. */
struct lock *lock_owned_by(struct owner owner);

/* At exit: releases all that this process owns and that needs no Python any more. */
void lock_release_all(void);

#endif
