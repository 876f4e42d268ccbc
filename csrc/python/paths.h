/* Paths that programs give, as bytes for the file system. */
#ifndef LOCKFILE_PATHS_H
#define LOCKFILE_PATHS_H

#include <Python.h>

#include "python/state.h"

bool is_path(PyObject *value); /* by its type */
bool is_pid_class(const struct lock_class *class);

/* All of these: NULL or false with an exception. name: what the message calls it. */
PyObject *encode_path(PyObject *path, const char *name);

PyObject *make_absolute(const State *state, PyObject *path);

/* abspath(path) + ".lock"; of a PID file the path itself. */
PyObject *make_usual_lock_file(const State *state, const struct lock_class *class, PyObject *path);

/* What was named, absolute. */
PyObject *make_named_lock_file(const State *state, PyObject *given);

/* The same, as a constructor has it; given None: the usual one. */
PyObject *make_lock_file(const State *state, const struct lock_class *class, PyObject *given,
                         PyObject *path);

/* Where the lock is: what was named, absolute; given None: the usual file beside the lock file. */
PyObject *make_store(const struct lock_class *class, PyObject *given, PyObject *lock_file,
                     const State *state);

/* Is what is protected neither the lock file, nor in it? That is removed again. */
bool is_another(const State *state, const char *lock_file, PyObject *path);

/* Does a path end with the name of a file, as far as can be told without a look? No exception. */
bool names_file(const char *path);

#endif
