/* with blocks, which nest: only the end of the outermost one releases. */
#ifndef LOCKFILE_WITH_H
#define LOCKFILE_WITH_H

#include <Python.h>

#include "python/caller.h"
#include "python/state.h"

PyObject *base_enter(PyObject *self, PyObject *ignored);

/* Of a lock that a subclass has acquired; grants: how often ours had, before, or None: it is owned.
 * False: ours has, and another caller of the same owner has released it meanwhile. */
PyObject *base_begin_block(PyObject *self, PyObject *grants);

PyObject *base_enter_acquired(PyObject *self, PyObject *ignored); /* what was just acquired */
PyObject *base_exit(PyObject *self, PyObject *exception);

/* For an object that goes away. */
void forget_nestings(LockObject *object);

/* ---- For blocks that are entered and left in steps ---- */

/* What remembers a block; made before the lock is acquired, since nothing may fail once it is.
 * NULL with an exception. */
struct nesting *nesting_new(void);
void nesting_free(struct nesting *nesting);

/* Begins a block with what acquire() of this object has just acquired, of a lock that its owner
 * cannot acquire twice: with lock.acquire(timeout=5). OWNED; FREE: there is nothing of the kind;
 * INTERRUPTED with an exception. */
enum outcome block_enter_acquired(PyObject *self, const struct caller *caller);

/* Counts a block. OWNED; FREE: another caller of the same owner has released meanwhile;
 * INTERRUPTED with an exception. */
enum outcome block_count(PyObject *self, const struct caller *caller);

/* Remembers who began it: uses fresh up. */
void block_begun(PyObject *self, const struct caller *caller, struct nesting *fresh);

/* Forgets it. The caller becomes who began it; outermost: of that one's, by this object. */
void block_over(PyObject *self, struct caller *caller, bool *outermost);

/* The same by a subclass's own scheme. owns_lock: who owns the lock itself ends its own block,
 * though it was begun otherwise. */
void block_over_by(PyObject *self, struct caller *caller, bool owns_lock, bool *outermost);

/* Counts one block less. OWNED: it was the outermost, and what is left to do is to release;
 * RELEASED: it was not; INTERRUPTED with an exception. */
enum outcome block_leave(PyObject *self, const struct caller *caller, bool outermost);

#endif
