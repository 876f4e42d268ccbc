/* A watch that serves all who wait in an event loop: the loop waits for one descriptor. */
#ifndef LOCKFILE_PYTHON_WATCH_H
#define LOCKFILE_PYTHON_WATCH_H

#include <Python.h>

#include "platform/os.h"

extern PyType_Spec watch_spec;

/* NULL: there is none yet, and so nothing is watched. */
const struct os_file *watch_of(PyObject *watch);

#endif
