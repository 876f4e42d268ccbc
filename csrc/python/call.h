/* One call of a lock's method.
 *
 *     struct call call;
 *     if (!call_begin(self, &call, "release", 0)) {
 *         return NULL;
 *     }
 *     outcome = call_run(&call, lock_release);
 *     return call_end(&call, ...what the method returns, or NULL with an exception...);
 *
 * All of this is called with the GIL, which is given up while lock.h's functions run.
 */
#ifndef LOCKFILE_CALL_H
#define LOCKFILE_CALL_H

#include <Python.h>

#include "core/lock.h"
#include "python/caller.h"
#include "python/errors.h"

/* Shares the object's lock until call_end(). False with an exception: it has none, or a
 * subclass in Python had to bring this method. */
bool call_begin(PyObject *self, struct call *call, const char *method, int64_t deadline);

/* The same for what such a subclass has as well. */
bool call_begin_any(PyObject *self, struct call *call, int64_t deadline);

/* The same for a caller who is known; and who calls. False with an exception. */
bool call_begin_as(PyObject *self, struct call *call, const struct caller *caller,
                   int64_t deadline);
void call_begin_on(PyObject *self, struct call *call, struct lock *lock,
                   const struct caller *caller, int64_t deadline); /* takes the lock over */
bool call_find_caller(PyObject *self, struct caller *caller);

/* One more, by the same caller, on the lock of another that is under way. */
void call_begin_beside(struct call *call, const struct call *other);

/* False with an exception, and the call has ended: a subclass in Python had to bring the method. */
bool call_is_implemented(PyObject *self, struct call *call, const char *method);

/* Passes the result on, or sets the exception that is more urgent than the one that is set. */
PyObject *call_end(struct call *call, PyObject *result);

/* Does what lock.h offers, again after each signal. LOCK_INTERRUPTED with an exception: a
 * signal's handler has raised, or what was called back. */
enum outcome call_run(struct call *call, lock_operation *operation);

/* One step of it, that is not waiting for nothing. */
enum outcome call_step(struct call *call, lock_operation *operation);

/* Between two steps, with nothing held. False with an exception. */
bool call_back(struct call *call);

void call_end_attempt(struct call *call);

double call_seconds_until(int64_t time); /* infinity: for ever */

/* lock_unique_name(), lock_descriptor() and lock_list_readers(). */
bool call_unique_name(struct call *call, char name[NAME_SIZE]);
int call_descriptor(struct call *call);
unsigned call_list_readers(struct call *call, struct os_reader readers[], unsigned most);

#endif
