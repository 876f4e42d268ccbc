/* acquire(), and the two ends of a block, in steps: objects that say what to wait for, and that can
 * be awaited. */
#ifndef LOCKFILE_STEPS_H
#define LOCKFILE_STEPS_H

#include <Python.h>

extern PyType_Spec steps_spec;

PyObject *base_acquire_in_steps(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *base_enter_in_steps(PyObject *self, PyObject *timeout);
PyObject *base_acquire_async(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *base_aenter(PyObject *self, PyObject *ignored);
PyObject *base_exit_in_steps(PyObject *self, PyObject *exception);
PyObject *base_aexit(PyObject *self, PyObject *exception);
extern const char acquire_in_steps_doc[], enter_in_steps_doc[], acquire_async_doc[];

#endif
