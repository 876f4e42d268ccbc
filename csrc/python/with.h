/* with blocks, which nest: only the end of the outermost one releases. */
#ifndef LOCKFILE_WITH_H
#define LOCKFILE_WITH_H

#include <Python.h>

#include "python/state.h"

PyObject *base_enter(PyObject *self, PyObject *ignored);
/* Whether it was counted: another thread of the same owner may have left, and released. */
PyObject *base_count_block(PyObject *self, PyObject *ignored);
PyObject *base_exit(PyObject *self, PyObject *exception);

/* For an object that goes away. */
void forget_nestings(LockObject *object);

/* Whether with has called this release(): true for the first call on that object only. */
bool is_called_by_with(const PyObject *self);

/* acquire() has acquired. */
void remember_acquired(const PyObject *self);

#endif
