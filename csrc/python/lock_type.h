/* LockBase, the type of all locks, and its methods: what lock.h's outcomes are in Python. */
#ifndef LOCKFILE_LOCK_TYPE_H
#define LOCKFILE_LOCK_TYPE_H

#include <Python.h>

extern PyType_Spec base_spec;

PyObject *base_i_am_locking(PyObject *self, PyObject *ignored);

#endif
