/* Which lock an object means.
 *
 * The one that its constructor has made; unless path, lock_file, hostname or unique_name were
 * assigned, as programs do with the classic package's, or a subclass has a lock_file of its own. It
 * is asked at each call, so that it may be a property.
 */
#ifndef LOCKFILE_MEANING_H
#define LOCKFILE_MEANING_H

#include <Python.h>

#include "python/state.h"

/* The lock, to be dropped. NULL with an exception: __init__() was not called, or what was told is
 * no good. */
struct lock *share_lock(PyObject *self);

/* The one that its constructor has made, and the path that this was given. */
struct lock *share_made(PyObject *self);
PyObject *constructor_path(PyObject *self);

/* Where it is, as bytes, unless a subclass says otherwise. NULL with an exception. */
PyObject *own_lock_file(PyObject *self);

/* What a constructor has made, and from what. */
struct construction {
    struct lock *lock;
    PyObject *path; /* as given */
    bool names_lock_file, names_store;
};

/* Has the object mean that from now on. Takes over the lock. Returns the one that it meant before,
 * to be dropped; NULL: none. */
struct lock *settle_anew(LockObject *object, const struct construction *made);

/* Forgets what was assigned before the constructor was called, which says all of it. -1 with an
 * exception. */
int forget_assigned(PyObject *self);

/* What was assigned, in the object's __dict__. NULL, perhaps with an exception: nothing. */
PyObject *assigned(PyObject *self, const char *name);

/* Assigns, or deletes, if value is NULL. -1 with an exception: all is as before. */
int assign(PyObject *self, PyObject *value, void *name);

/* The same, for what changes which lock it is. */
int assign_and_settle(PyObject *self, PyObject *value, void *name);

/* Raises a message about the object's type. */
void complain(PyObject *exception, PyObject *self, const char *format, const char *method);

#endif
