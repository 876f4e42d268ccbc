/* The attributes of lock objects. */
#ifndef LOCKFILE_ATTRIBUTES_H
#define LOCKFILE_ATTRIBUTES_H

#include <Python.h>

#include "python/state.h"

extern PyGetSetDef base_attributes[];

/* Each a new reference; NULL with an exception. closure: the name, where it may be assigned. */
PyObject *get_store(PyObject *self, void *closure); /* "" where the class has none */
PyObject *get_unique_name(PyObject *self, void *closure);
PyObject *get_place(PyObject *self, void *closure); /* whatever a subclass's attributes say */
PyObject *path_text(PyObject *self);                /* as messages have it */

/* The timeout that the constructor was given, whatever was assigned since. */
PyObject *constructor_timeout(const LockObject *object);

/* Is it None, or something that can be called? False with an exception. */
bool check_on_wait(PyObject *value);
PyObject *get_on_wait(PyObject *self, void *closure);

/* A timeout as an argument: seconds, or None. False with an exception. */
bool read_timeout(PyObject *value, bool *given, double *seconds);

/* What the caller of acquire() or try_acquire() says, and what that comes to: None and True are as
 * the object's attribute says. False with an exception. */
struct timeout {
    PyObject *argument; /* NULL: none was given, and the caller does not wait */
    PyObject *on_wait;  /* another argument: whom to tell of the wait; NULL or None: as for None */
    PyObject *shared;   /* and another: whether to share the lock; the same */
    int shares;         /* what that comes to; -1: what the lock object says */
    bool given;         /* false: for ever */
    double seconds;
};
bool timeout_settle(PyObject *self, struct timeout *timeout);
int64_t timeout_deadline(const struct timeout *timeout);

#endif
