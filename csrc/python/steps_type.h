/* Steps, the objects: their methods and attributes. */
#ifndef LOCKFILE_STEPS_TYPE_H
#define LOCKFILE_STEPS_TYPE_H

#include <Python.h>

extern PyType_Spec steps_spec;

/* Methods of locks that make some. */
PyObject *base_acquire_in_steps(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *base_enter_in_steps(PyObject *self, PyObject *timeout);
PyObject *base_exit_in_steps(PyObject *self, PyObject *exception);
extern const char acquire_in_steps_doc[], enter_in_steps_doc[];

#endif
