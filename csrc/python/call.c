#include "python/call.h"

#include "python/state.h"

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
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return false;
    }
    PyObject *resource = state_resource(state_of(self), lock->mechanism);
    call->python = (struct python_call){.resource = pointer_in(resource)};
    python_call_offer(&call->python);
    attempt_begin(&call->attempt, lock, owner_calling(lock->threaded), deadline);
    python_call_withdraw();
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

enum outcome
call_run(struct call *call, lock_operation *operation)
{
    struct attempt *attempt = &call->attempt;
    enum outcome outcome;
    bool raised = false;
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
