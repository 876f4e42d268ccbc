/* What all files of this floor share: the module's state, and the lock object.
 *
 * A class of locks is LockBase with another mechanism, so all methods are LockBase's. */
#ifndef LOCKFILE_STATE_H
#define LOCKFILE_STATE_H

#include <Python.h>

#include "core/lock.h"
#include "python/errors.h"

typedef struct {
    struct errors errors;
    PyTypeObject *Owner;
    PyTypeObject *LockBase, *LinkFileLock, *MkdirFileLock, *SQLiteFileLock;
    PyObject *abspath;
    PyObject *timeout; /* the attribute's name */
    PyObject *remake;
    PyObject *pool; /* of connections to databases, the interpreter's */
} State;

/* By its definition the module's state is found: it is given here when the module is made. */
void state_register(const PyModuleDef *definition);

/* The module's state, from any object of its types or of subclasses. */
State *state_of(PyObject *self);

/* ---- Lock objects ---- */

typedef struct {
    PyObject_HEAD
    PyObject *dict;
    PyObject *weak_references;
    /* Guarded by os_lock(), as is all below; NULL until __init__ was called. */
    struct lock *lock;
    bool has_timeout;
    double timeout;
    /* with blocks of a subclass in Python that brings its own acquire and release */
    struct nesting *nestings;
} LockObject;

#endif
