#include "python/call.h"

#include "python/state.h"

#include <math.h>

/* The longest wait that select() takes. */
#define LONGEST (24 * 60 * 60.0)

/* Raises a message about the object's type. */
static void
complain(PyObject *exception, PyObject *self, const char *format, const char *method)
{
    PyObject *name = PyType_GetName(Py_TYPE(self));
    if (name != NULL) {
        PyErr_Format(exception, format, name, method);
        Py_DECREF(name);
    }
}

/* Shared, since __init__ may be called again meanwhile. */
struct lock *
share_lock(PyObject *self)
{
    os_mutex_lock();
    struct lock *lock = ((LockObject *)self)->lock;
    if (lock != NULL) {
        lock_share(lock);
    }
    os_mutex_unlock();
    if (lock == NULL) {
        complain(PyExc_RuntimeError, self, "%U.__init__() was not called", "");
    }
    return lock;
}

static void *
pointer_in(PyObject *capsule)
{
    return capsule != NULL ? PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)) : NULL;
}

bool
call_begin_any(PyObject *self, struct call *call, int64_t deadline)
{
    State *state = state_of(self);
    struct lock *lock = share_lock(self);
    struct owner owner;
    enum caller_kind kind;
    if (lock == NULL) {
        return false;
    }
    if (!caller_find(&state->finder, lock->threaded, &owner, &kind)) {
        lock_drop(lock);
        return false;
    }
    PyObject *resource = state_resource(state, lock->mechanism);
    call->python = (struct python_call){.resource = pointer_in(resource)};
    python_call_offer(&call->python);
    attempt_begin(&call->attempt, lock, owner, deadline);
    python_call_withdraw();
    call->attempt.stops_thread = kind == CALLER_TASK;
    call->lets_others_run = kind == CALLER_GREENLET;
    return true;
}

bool
call_find_token(PyObject *self, uint64_t *token)
{
    struct owner owner;
    enum caller_kind kind;
    os_mutex_lock();
    const struct lock *lock = ((LockObject *)self)->lock;
    bool threaded = lock == NULL || lock->threaded;
    os_mutex_unlock();
    if (!caller_find(&state_of(self)->finder, threaded, &owner, &kind)) {
        return false;
    }
    *token = owner.token;
    return true;
}

bool
call_begin(PyObject *self, struct call *call, const char *method, int64_t deadline)
{
    if (!call_begin_any(self, call, deadline)) {
        return false;
    }
    if (call->attempt.lock->mechanism == NULL) {
        complain(PyExc_NotImplementedError, self, "%U does not implement %s()", method);
        call_end(call, NULL);
        return false;
    }
    return true;
}

PyObject *
call_end(struct call *call, PyObject *result)
{
    PyObject *error = call->python.error;
    if (result == NULL && error != NULL && !PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error); /* KeyboardInterrupt is no failure */
    }
    Py_CLEAR(call->python.error);
    lock_drop(call->attempt.lock);
    return result;
}

double
call_seconds_until(int64_t time)
{
    int64_t now = os_now();
    return time == OS_NEVER ? INFINITY : time > now ? (double)(time - now) / (double)OS_SECOND : 0;
}

/* What is to be waited for goes to the patched select(), which lets other greenlets run. False with
 * an exception. */
static bool
select_patched(const struct waiter *wait)
{
    PyObject *select = PyImport_ImportModule("select");
    int descriptor = wait_descriptor(wait);
    double seconds = call_seconds_until(wait_until(wait));
    PyObject *readable = descriptor >= 0 ? Py_BuildValue("[i]", descriptor) : PyList_New(0);
    PyObject *ready = select != NULL && readable != NULL
                          ? PyObject_CallMethod(select, "select", "O[][]d", readable,
                                                seconds < LONGEST ? seconds : LONGEST)
                          : NULL;
    Py_XDECREF(select);
    Py_XDECREF(readable);
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

static enum outcome
run_in_greenlet(struct call *call, lock_operation *operation)
{
    enum outcome outcome;
    while ((outcome = call_step(call, operation)) == LOCK_WAITING &&
           select_patched(&call->attempt.wait)) {
    }
    python_call_leave(&call->python);
    attempt_end(&call->attempt);
    python_call_return(&call->python);
    return outcome == LOCK_WAITING ? LOCK_INTERRUPTED : outcome;
}

enum outcome
call_run(struct call *call, lock_operation *operation)
{
    struct attempt *attempt = &call->attempt;
    enum outcome outcome;
    bool raised = false;
    if (call->lets_others_run) {
        return run_in_greenlet(call, operation);
    }
    do {
        python_call_leave(&call->python);
        outcome = lock_run(attempt, operation);
        if (outcome != LOCK_INTERRUPTED) {
            attempt_end(attempt);
        }
        python_call_return(&call->python);
        if (outcome == LOCK_INTERRUPTED && PyErr_CheckSignals() != 0) {
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
