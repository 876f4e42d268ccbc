/* The GIL, for mechanisms that call Python. A method of a lock gives the GIL up around all that the
 * core does; a mechanism takes it back around what Python does. */
#ifndef LOCKFILE_PYTHON_CALL_H
#define LOCKFILE_PYTHON_CALL_H

#include <Python.h>

/* One call of a method, as far as it concerns Python. */
struct python_call {
    PyThreadState *thread; /* while the GIL is given up */
    void *resource;        /* what the interpreter keeps for the class of the lock; or NULL */
    PyObject *error;       /* what Python code has raised last inside of it; or NULL */
};

/* While an attempt begins, its mechanism finds the call here. Not for longer: greenlets change
 * places on a thread whenever Python code runs. With the GIL. */
void python_call_offer(struct python_call *call);
void python_call_withdraw(void);
struct python_call *
python_call_offered(void); /* NULL: Python does not call, and cannot be called */

/* Gives up the GIL, and takes it back. */
void python_call_leave(struct python_call *call);
void python_call_return(struct python_call *call);

/* Keeps the exception that is set, if any, in the place of the last one. With the GIL. */
PyObject *python_call_take_error(struct python_call *call);

/* Drops the last error, and takes over one that was set aside, or NULL. Without the GIL. */
void python_call_restore_error(struct python_call *call, PyObject *error);

#endif
