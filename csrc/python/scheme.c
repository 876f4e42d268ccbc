#include "python/scheme.h"

#include "python/body.h"
#include "python/call.h"
#include "python/locking.h"
#include "python/text.h"
#include "python/with.h"

static const char *
name_of_kind(enum owner_kind kind)
{
    switch (kind) {
    case OWNER_PROCESS:
        return "process";
    case OWNER_TASK:
        return "task";
    case OWNER_GREENLET:
        return "greenlet";
    case OWNER_OBJECT:
        return "object";
    default:
        return "thread";
    }
}

PyObject *
base_caller(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct call call;
    char name[NAME_SIZE];
    if (!call_begin_any(self, &call, 0)) {
        return NULL;
    }
    struct owner owner = call.attempt.owner;
    call_unique_name(&call, name);
    PyObject *written = decode(name);
    PyObject *told = written == NULL
                         ? NULL
                         : Py_BuildValue("(KKsOKO)", (unsigned long long)owner.token,
                                         (unsigned long long)owner.caller, name_of_kind(owner.kind),
                                         written, (unsigned long long)os_thread(),
                                         call.lets_others_run ? Py_True : Py_False);
    Py_XDECREF(written);
    return call_end(&call, told);
}

PyObject *
base_caller_token(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct caller caller;
    if (!call_find_caller(self, &caller)) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong((unsigned long long)caller.owner.token);
}

PyObject *
base_note_attempt(PyObject *self, PyObject *acquired)
{
    struct caller caller;
    int truth = PyObject_IsTrue(acquired);
    if (truth < 0 || !call_find_caller(self, &caller)) {
        return NULL;
    }
    if (truth > 0) {
        note_acquired(self, &caller);
    } else {
        note_refused(self, &caller);
    }
    return Py_NewRef(Py_None);
}

PyObject *
base_end_block(PyObject *self, PyObject *owns)
{
    struct caller caller;
    bool outermost;
    int is_own = PyObject_IsTrue(owns);
    if (is_own < 0 || !call_find_caller(self, &caller)) {
        return NULL;
    }
    block_over_by(self, &caller, is_own > 0, &outermost);
    return PyLong_FromUnsignedLongLong((unsigned long long)caller.owner.token);
}

PyObject *
base_raise_after_body(PyObject *self, PyObject *args)
{
    const struct errors *errors = &state_of(self)->errors; /* before an exception is set */
    PyObject *error = PyTuple_Size(args) > 0 ? PyTuple_GetItem(args, 0) : NULL;
    if (error == NULL || !PyExceptionInstance_Check(error)) {
        PyErr_SetString(PyExc_TypeError, "an exception, and the arguments of __exit__()");
        return NULL;
    }
    PyObject *exception = PyTuple_GetSlice(args, 1, PyTuple_Size(args));
    if (exception == NULL) {
        return NULL;
    }
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), Py_NewRef(error),
                  PyException_GetTraceback(error));
    bool told = body_comes_first(errors, exception);
    Py_DECREF(exception);
    return told ? Py_NewRef(Py_None) : NULL;
}
