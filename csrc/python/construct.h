/* How a lock object is made: by the constructor, or from a copy or a pickle. */
#ifndef LOCKFILE_CONSTRUCT_H
#define LOCKFILE_CONSTRUCT_H

#include <Python.h>

/* The constructor of all classes. */
int base_init(PyObject *self, PyObject *args, PyObject *kwargs);

PyObject *base_reduce(PyObject *self, PyObject *ignored);

/* Of the module, for pickles. */
extern PyMethodDef construct_functions[];

#endif
