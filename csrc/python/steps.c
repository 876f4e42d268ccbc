#include "python/steps.h"

#include "python/attributes.h"
#include "python/call.h"
#include "python/state.h"

typedef struct {
    PyObject_HEAD
    PyObject *lock; /* NULL: it has ended */
    struct timeout timeout;
    struct call call;
} StepsObject;

PyObject *
steps_begin(PyObject *lock, PyObject *timeout)
{
    struct timeout settled = {.argument = timeout};
    if (!timeout_settle(lock, &settled)) {
        return NULL;
    }
    PyTypeObject *type = state_of(lock)->Steps;
    StepsObject *steps = (StepsObject *)PyType_GenericAlloc(type, 0);
    if (steps == NULL ||
        !call_begin(lock, &steps->call, "acquire_async", timeout_deadline(&settled))) {
        Py_XDECREF((PyObject *)steps);
        return NULL;
    }
    steps->call.attempt.stops_thread = false; /* it lets the others run */
    steps->timeout = settled;
    steps->lock = Py_NewRef(lock);
    return (PyObject *)steps;
}

/* Nothing of it is left, but a lock that it has acquired. */
static void
end(StepsObject *steps)
{
    PyObject *lock = steps->lock;
    if (lock != NULL) {
        steps->lock = NULL;
        python_call_leave(&steps->call.python);
        attempt_end(&steps->call.attempt);
        python_call_return(&steps->call.python);
        call_end(&steps->call, Py_None);
        Py_DECREF(lock);
    }
}

static void
steps_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject *kind, *value, *traceback;
    PyErr_Fetch(&kind, &value, &traceback);
    end((StepsObject *)self);
    PyErr_Restore(kind, value, traceback);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(step_doc,
             "step($self, /)\n--\n\n"
             "Goes on. None: the lock is owned; else seconds to wait, or until fileno() is\n"
             "readable. Raises what acquire() raises.");

static PyObject *
raise_outcome(const StepsObject *steps, enum outcome outcome)
{
    return raise_not_acquired(&state_of(steps->lock)->errors, &steps->call, outcome,
                              steps->timeout.given ? &steps->timeout.seconds : NULL);
}

static PyObject *
steps_step(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    StepsObject *steps = (StepsObject *)self;
    if (steps->lock == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "it has ended");
        return NULL;
    }
    switch (call_step(&steps->call, lock_acquire)) {
    case LOCK_OWNED:
        return Py_NewRef(Py_None);
    case LOCK_WAITING:
        return PyFloat_FromDouble(call_seconds_until(wait_until(&steps->call.attempt.wait)));
    case LOCK_FAILED:
        return raise_outcome(steps, LOCK_FAILED);
    default:
        return raise_outcome(steps, LOCK_HELD);
    }
}

static PyObject *
steps_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const StepsObject *steps = (StepsObject *)self;
    return PyLong_FromLong(steps->lock != NULL ? wait_descriptor(&steps->call.attempt.wait) : -1);
}

static PyObject *
steps_remaining(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    int64_t deadline = ((StepsObject *)self)->call.attempt.wait.deadline;
    return PyFloat_FromDouble(call_seconds_until(deadline));
}

static PyObject *
steps_end(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    end((StepsObject *)self);
    return Py_NewRef(Py_None);
}

static PyMethodDef steps_methods[] = {
    {"step", steps_step, METH_NOARGS, step_doc},
    {"fileno", steps_fileno, METH_NOARGS,
     PyDoc_STR("fileno($self, /)\n--\n\nWhat to wait for until it is readable; -1: only time.")},
    {"remaining", steps_remaining, METH_NOARGS,
     PyDoc_STR("remaining($self, /)\n--\n\nSeconds until the deadline.")},
    {"end", steps_end, METH_NOARGS,
     PyDoc_STR("end($self, /)\n--\n\nGives up what is not owned yet.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot steps_slots[] = {
    {Py_tp_doc, (void *)"acquire() in steps, for an event loop."},
    {Py_tp_dealloc, steps_dealloc},
    {Py_tp_methods, steps_methods},
    {0, NULL},
};

PyType_Spec steps_spec = {
    .name = "lockfile._lockfile.Steps",
    .basicsize = sizeof(StepsObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = steps_slots,
};
