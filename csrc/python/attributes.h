/* The attributes of lock objects. */
#ifndef LOCKFILE_ATTRIBUTES_H
#define LOCKFILE_ATTRIBUTES_H

#include <Python.h>

#include "python/state.h"

extern PyGetSetDef base_attributes[];

/* Each a new reference; NULL with an exception. closure: the name, where it may be assigned. */
PyObject *get_path(PyObject *self, void *closure);
PyObject *get_lock_file(PyObject *self, void *closure);
PyObject *get_store(PyObject *self, void *closure); /* "" where the class has none */
PyObject *get_unique_name(PyObject *self, void *closure);
PyObject *get_threaded(PyObject *self, void *closure);

/* The timeout that the constructor was given, whatever was assigned since. */
PyObject *constructor_timeout(const LockObject *object);

/* A timeout as an argument: seconds, or None. False with an exception. */
bool read_timeout(PyObject *value, bool *given, double *seconds);

#endif
