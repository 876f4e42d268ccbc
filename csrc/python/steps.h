/* acquire() in steps, for an event loop: an object that says what to wait for. */
#ifndef LOCKFILE_STEPS_H
#define LOCKFILE_STEPS_H

#include <Python.h>

extern PyType_Spec steps_spec;

/* Begins to acquire the lock, for the calling owner. NULL with an exception. */
PyObject *steps_begin(PyObject *lock, PyObject *timeout);

#endif
