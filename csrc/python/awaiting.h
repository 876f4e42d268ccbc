/* How a coroutine awaits steps: at once, or by the module of coroutines, lockfile/_waiting.py. */
#ifndef LOCKFILE_AWAITING_H
#define LOCKFILE_AWAITING_H

#include <Python.h>

/* Of steps: __await__(), and the end of what can be done at once. */
PyObject *awaiting_await(PyObject *steps);
PyObject *awaiting_next(PyObject *steps);

/* Methods of locks. */
PyObject *base_acquire_async(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *base_aenter(PyObject *self, PyObject *ignored);
PyObject *base_aexit(PyObject *self, PyObject *exception);
extern const char acquire_async_doc[];

#endif
