/* acquire(), try_acquire() and release(), for who calls them and for with blocks. */
#ifndef LOCKFILE_LOCKING_H
#define LOCKFILE_LOCKING_H

#include <Python.h>

#include "python/attributes.h"
#include "python/call.h"
#include "python/state.h"

PyObject *base_acquire(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *base_try_acquire(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *base_release(PyObject *self, PyObject *ignored);
extern const char acquire_doc[], try_acquire_doc[], release_doc[];

/* The arguments timeout, on_wait and shared. False with an exception. */
bool parse_timeout(PyObject *args, PyObject *kwargs, const char *format, struct timeout *timeout);

/* What is told of sharing goes before what the lock object says. */
void share_as_told(struct call *call, const struct timeout *timeout);

/* For who is known to call. False with an exception. leaving: the end of a block. */
bool release_as(PyObject *self, const struct caller *caller, bool leaving);

/* What a call of lock_release() has come to. False with an exception. */
bool tell_released(PyObject *self, struct call *call, enum outcome outcome);

/* While an exception is set: what this raises is told to sys.unraisablehook. */
void release_quietly(PyObject *self, const struct caller *caller);

/* For an object that goes away, or is made anew: what it owns for itself by that lock, nobody else
 * can release; but who has inherited it keeps it. has_moved: it has meant others. */
void release_forgotten(PyObject *self, struct lock *lock, bool has_moved);

/* A call by this object begins, and is in vain until it has acquired, however it ends: its caller
 * may call __exit__() all the same. */
void note_refused(PyObject *self, const struct caller *caller);
void note_acquired(PyObject *self, const struct caller *caller);
void forget_refusal_locked(LockObject *object, const struct caller *caller);

/* If its owner cannot acquire it twice: a with block may begin with it. */
void note_sole(PyObject *self, const struct caller *caller, const struct call *call);

/* By the object's acquire() and release(), which may be a subclass's. False with an exception.
 * acquired: by ours. */
bool acquire_for_block(PyObject *self, const struct caller *caller, bool *acquired);
bool release_for_block(PyObject *self, const struct caller *caller);

/* Is the object's method of that name ours, neither a subclass's nor patched? -1 with an exception.
 */
int has_base_method(PyObject *self, PyObject *name, PyCFunction function);

#endif
