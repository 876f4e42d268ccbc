/* What a scheme of locks that is written in Python asks of LockBase, so that it has the same
 * owners, and blocks that are whose they are. */
#ifndef LOCKFILE_SCHEME_H
#define LOCKFILE_SCHEME_H

#include <Python.h>

/* Who calls: (what owns, who calls, which of "process", "thread", "task", "greenlet" and "object"
 * owns, HOST-THREAD-PID, its thread, whether its waits let others of that run). Numbers of owners
 * and callers are never used again; of what owns, 0 is the process. */
PyObject *base_caller(PyObject *self, PyObject *ignored);

/* What owns, as above: of who calls, it is asked for most. */
PyObject *base_caller_token(PyObject *self, PyObject *ignored);

/* A call of acquire() by this object begins; true: it has acquired. */
PyObject *base_note_attempt(PyObject *self, PyObject *acquired);

/* The end of a block, which is the owner's who began it: what owns. owns: whether the caller owns
 * the lock itself. */
PyObject *base_end_block(PyObject *self, PyObject *owns);

/* Raises the exception, unless the body of the block has raised: then it is told in a note.
 * Arguments: the exception, and those of __exit__(). */
PyObject *base_raise_after_body(PyObject *self, PyObject *args);

#endif
