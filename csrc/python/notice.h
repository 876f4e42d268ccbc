/* Tells who waits whom it waits for: on_wait(owner), when a wait has lasted for a tenth of a
 * second, and then ever more rarely.
 *
 * It is called between two steps of the call that waits (call_back()), with nothing held: it
 * may do whatever a signal's handler may, and what it raises ends the wait. */
#ifndef LOCKFILE_NOTICE_H
#define LOCKFILE_NOTICE_H

#include <Python.h>

#include "python/attributes.h"
#include "python/call.h"

/* What to call, if anything: what the caller says, or else the object's attribute. A new reference;
 * NULL: nothing. False with an exception. */
bool notice_settle(PyObject *self, const struct timeout *timeout, PyObject **on_wait);

/* Of a call that has begun. on_wait: NULL: nothing. call_end() ends it. */
void notice_begin(struct call *call, PyObject *self, PyObject *on_wait);

#endif
