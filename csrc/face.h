/* What the files that know Python share: the module's state, and its one base type.
 *
 * Mechanisms differ below lock.h; in Python, a lock class is LockBase with another
 * mechanism, so all methods are LockBase's (base.c). */
#ifndef LOCKFILE_FACE_H
#define LOCKFILE_FACE_H

#include <Python.h>

#include "errors.h"
#include "lock.h"

typedef struct {
    struct errors errors;
    PyTypeObject *Owner;
    PyTypeObject *LockBase, *LinkFileLock, *MkdirFileLock, *SQLiteFileLock;
    PyObject *abspath;
    PyObject *databases; /* NULL until there is a lock that wants them */
} State;

/* The module's state, from any object of its types or of subclasses. */
State *state_of(PyObject *self);

extern PyType_Spec base_spec;

/* What LockBase has for SQLiteFileLock alone. */
int sqlite_init(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *get_database(PyObject *self, void *closure);

#endif
