#include "python/call.h"

#include "python/meaning.h"

#include <math.h>

/* The longest wait that select() takes. */
#define LONGEST (24 * 60 * 60.0)

static void *
pointer_in(PyObject *capsule)
{
    return capsule != NULL ? PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)) : NULL;
}

bool
call_find_caller(PyObject *self, struct caller *caller)
{
    struct lock *lock = share_lock(self);
    bool found = lock != NULL && caller_find(&state_of(self)->finder, lock, caller);
    if (lock != NULL) {
        lock_drop(lock);
    }
    return found;
}

/* Takes the lock over. */
static void
begin(struct call *call, struct lock *lock, void *resource, const struct caller *caller,
      int64_t deadline)
{
    call->python = (struct python_call){.resource = resource};
    python_call_offer(&call->python);
    attempt_begin(&call->attempt, lock, caller->owner, deadline);
    python_call_withdraw();
    call->notice = (struct notice){.on_wait = NULL};
    call->call_back = NULL;
    call->attempt.stops_thread = !caller->lets_others_run;
    call->lets_others_run = caller->lets_others_run;
}

void
call_begin_on(PyObject *self, struct call *call, struct lock *lock, const struct caller *caller,
              int64_t deadline)
{
    PyObject *resource = state_resource(state_of(self), lock->mechanism);
    begin(call, lock, pointer_in(resource), caller, deadline);
}

bool
call_begin_as(PyObject *self, struct call *call, const struct caller *caller, int64_t deadline)
{
    struct lock *lock = share_lock(self);
    if (lock != NULL) {
        call_begin_on(self, call, lock, caller, deadline);
    }
    return lock != NULL;
}

void
call_begin_beside(struct call *call, const struct call *other)
{
    struct caller caller = {other->attempt.owner, other->lets_others_run};
    os_mutex_lock();
    struct lock *lock = lock_share(other->attempt.lock);
    os_mutex_unlock();
    begin(call, lock, other->python.resource, &caller, 0);
}

bool
call_begin_any(PyObject *self, struct call *call, int64_t deadline)
{
    struct caller caller;
    return call_find_caller(self, &caller) && call_begin_as(self, call, &caller, deadline);
}

bool
call_is_implemented(PyObject *self, struct call *call, const char *method)
{
    if (call->attempt.lock->mechanism == NULL) {
        complain(PyExc_NotImplementedError, self, "%U does not implement %s()", method);
        call_end(call, NULL);
        return false;
    }
    return true;
}

bool
call_begin(PyObject *self, struct call *call, const char *method, int64_t deadline)
{
    return call_begin_any(self, call, deadline) && call_is_implemented(self, call, method);
}

PyObject *
call_end(struct call *call, PyObject *result)
{
    PyObject *error = call->python.error;
    if (result == NULL && error != NULL && !PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error); /* KeyboardInterrupt is no failure */
    }
    Py_CLEAR(call->python.error);
    Py_CLEAR(call->notice.on_wait);
    lock_drop(call->attempt.lock);
    return result;
}

double
call_seconds_until(int64_t time)
{
    int64_t now = os_now();
    return time == OS_NEVER ? INFINITY : time > now ? (double)(time - now) / (double)OS_SECOND : 0;
}

/* By the patched poll(), where there is one: select() takes no descriptor above 1,023. */
static PyObject *
poll_patched(PyObject *select, int descriptor, double seconds)
{
    PyObject *readable = PyObject_GetAttrString(select, "POLLIN");
    PyObject *poll = readable != NULL ? PyObject_CallMethod(select, "poll", NULL) : NULL;
    PyObject *registered =
        poll != NULL ? PyObject_CallMethod(poll, "register", "iO", descriptor, readable) : NULL;
    PyObject *ready =
        registered != NULL ? PyObject_CallMethod(poll, "poll", "d", seconds * 1000) : NULL;
    Py_XDECREF(readable);
    Py_XDECREF(poll);
    Py_XDECREF(registered);
    return ready;
}

static PyObject *
select_patched(PyObject *select, int descriptor, double seconds)
{
    PyObject *readable = descriptor >= 0 ? Py_BuildValue("[i]", descriptor) : PyList_New(0);
    PyObject *ready = readable != NULL
                          ? PyObject_CallMethod(select, "select", "O[][]d", readable, seconds)
                          : NULL;
    Py_XDECREF(readable);
    return ready;
}

/* Lets other greenlets run, until what is waited for. False with an exception. */
static bool
wait_in_greenlet(const struct waiter *wait)
{
    PyObject *select = PyImport_ImportModule("select");
    int descriptor = wait_descriptor(wait);
    double seconds = call_seconds_until(wait_until(wait));
    seconds = seconds < LONGEST ? seconds : LONGEST;
    bool polls = descriptor >= 0 && select != NULL && PyObject_HasAttrString(select, "poll");
    PyObject *ready = select == NULL ? NULL
                      : polls        ? poll_patched(select, descriptor, seconds)
                                     : select_patched(select, descriptor, seconds);
    Py_XDECREF(select);
    Py_XDECREF(ready);
    return ready != NULL;
}

enum outcome
call_step(struct call *call, lock_operation *operation)
{
    enum outcome outcome;
    python_call_leave(&call->python);
    do {
        outcome = operation(&call->attempt);
    } while (outcome == LOCK_WAITING && call->attempt.wait.kind == WAIT_FOR_NOTHING);
    python_call_return(&call->python);
    return outcome;
}

void
call_end_attempt(struct call *call)
{
    python_call_leave(&call->python);
    attempt_end(&call->attempt);
    python_call_return(&call->python);
}

bool
call_back(struct call *call)
{
    return call->call_back == NULL || call->call_back(call);
}

/* Only acquire() waits for others than this owner's own calls, and holds nothing meanwhile. */
static enum outcome
run_in_greenlet(struct call *call, lock_operation *operation)
{
    enum outcome outcome;
    while ((outcome = call_step(call, operation)) == LOCK_WAITING &&
           wait_in_greenlet(&call->attempt.wait) && call_back(call)) {
    }
    call_end_attempt(call);
    return outcome == LOCK_WAITING ? LOCK_INTERRUPTED : outcome;
}

enum outcome
call_run(struct call *call, lock_operation *operation)
{
    struct attempt *attempt = &call->attempt;
    enum outcome outcome;
    bool raised = false;
    if (call->lets_others_run && operation == lock_acquire) {
        return run_in_greenlet(call, operation);
    }
    do {
        python_call_leave(&call->python);
        outcome = lock_run(attempt, operation);
        if (outcome != LOCK_INTERRUPTED) {
            attempt_end(attempt);
        }
        python_call_return(&call->python);
        if (outcome == LOCK_INTERRUPTED && (PyErr_CheckSignals() != 0 || !call_back(call))) {
            attempt_end(attempt);
            raised = true;
        }
    } while (outcome == LOCK_INTERRUPTED && !raised);
    return outcome;
}

bool
call_unique_name(struct call *call, char name[NAME_SIZE])
{
    python_call_leave(&call->python);
    bool inside = lock_unique_name(&call->attempt, name);
    attempt_end(&call->attempt);
    python_call_return(&call->python);
    return inside;
}

int
call_descriptor(struct call *call)
{
    python_call_leave(&call->python);
    int descriptor = lock_descriptor(&call->attempt); /* which may look again */
    attempt_end(&call->attempt);
    python_call_return(&call->python);
    return descriptor;
}

unsigned
call_list_readers(struct call *call, struct os_reader readers[], unsigned most)
{
    python_call_leave(&call->python);
    unsigned count = lock_list_readers(&call->attempt, readers, most);
    attempt_end(&call->attempt);
    python_call_return(&call->python);
    return count;
}
