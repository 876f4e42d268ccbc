/* Debug lines of the logger "lockfile", if the program has loaded logging and wants them. */
#ifndef LOCKFILE_LOG_H
#define LOCKFILE_LOG_H

#include <Python.h>

#include <stdbool.h>

/* 1, 0; -1 with an exception: a signal's handler has raised. */
int log_is_wanted(void);

/* A wait begins to be long. False with an exception. */
bool log_wait(const char *path, PyObject *owner);

#endif
