/* Modules that the program has loaded: nothing is imported. */
#ifndef LOCKFILE_MODULES_H
#define LOCKFILE_MODULES_H

#include <Python.h>

/* modules: sys.modules, or NULL at the interpreter's end, when finalizers call. A new reference,
 * since another thread may unload it; NULL, without an exception: it is not loaded. */
PyObject *loaded_module(PyObject *modules, PyObject *name);

#endif
