/* Debug lines of the logger "lockfile", if the program has loaded logging and wants them. */
#ifndef LOCKFILE_LOG_H
#define LOCKFILE_LOG_H

#include <Python.h>

#include <stdbool.h>

/* modules: see modules.h. 1, 0; -1 with an exception: a signal's handler has raised. */
int log_is_wanted(PyObject *modules);

/* A wait begins to be long. False with an exception. */
bool log_wait(PyObject *modules, const char *path, PyObject *owner);

#endif
