#include "python/steps_type.h"

#include "python/awaiting.h"
#include "python/locking.h"
#include "python/steps.h"
#include "python/watch.h"
#include "python/with.h"

/* ---- Steps ---- */

PyDoc_STRVAR(step_doc,
             "step($self, /)\n--\n\n"
             "Go on.\n"
             "\n"
             "Returns None when it is done: the lock is owned. Else the seconds after which\n"
             "to call it again, or earlier, when fileno() is readable. Raises what acquire()\n"
             "raises.");

static PyObject *
tell_outcome(const StepsObject *steps, enum outcome outcome)
{
    return outcome == LOCK_INTERRUPTED ? NULL
           : outcome == LOCK_WAITING   ? steps_seconds_to_wait(steps)
                                       : Py_NewRef(Py_None);
}

static PyObject *
step(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    StepsObject *steps = (StepsObject *)self;
    return tell_outcome(steps, steps_take(steps));
}

PyDoc_STRVAR(run_doc,
             "_run($self, /)\n--\n\n"
             "All of them, where there is no loop. Does nothing if they are over already.");

static PyObject *
run(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return steps_run((StepsObject *)self) == LOCK_INTERRUPTED ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(limit_doc, "_limit($self, timeout, /)\n--\n\n"
                        "Another timeout than the one they were made with, before they begin.");

static PyObject *
limit(PyObject *self, PyObject *timeout)
{
    struct timeout *ours = &((StepsObject *)self)->timeout;
    return read_timeout(timeout, &ours->given, &ours->seconds) ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(join_doc,
             "_join($self, ahead, /)\n--\n\n"
             "step(), but it does not claim the lock, for which the other one waits: None if\n"
             "it is the owner's already.");

static PyObject *
join(PyObject *self, PyObject *ahead)
{
    StepsObject *steps = (StepsObject *)self, *other = (StepsObject *)ahead;
    if (!PyObject_TypeCheck(ahead, Py_TYPE(self)) || other->stage != STEPS_UNDER_WAY ||
        steps->stage == STEPS_DONE || steps->kind == STEPS_EXIT) {
        PyErr_SetString(PyExc_TypeError, "it takes steps that wait");
        return NULL;
    }
    return tell_outcome(steps, steps_join(steps, other));
}

PyDoc_STRVAR(follow_doc,
             "_follow($self, ahead, /)\n--\n\n"
             "The other one was the first in line before: to whom it has given way already,\n"
             "it is not given way to once more.");

static PyObject *
follow(PyObject *self, PyObject *ahead)
{
    if (!PyObject_TypeCheck(ahead, Py_TYPE(self))) {
        PyErr_SetString(PyExc_TypeError, "it takes steps");
        return NULL;
    }
    lock_follow(&((StepsObject *)self)->call.attempt, &((StepsObject *)ahead)->call.attempt);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(end_doc,
             "end($self, /)\n--\n\n"
             "Leave nothing behind: end the wait, and release the lock if these steps have\n"
             "acquired it.");

static PyObject *
end(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return steps_end((StepsObject *)self, true) ? Py_NewRef(Py_None) : NULL;
}

/* ---- What to wait for ---- */

/* The loop's watch, from the next step on. */
static PyObject *
share_watch(PyObject *self, PyObject *watch)
{
    StepsObject *steps = (StepsObject *)self;
    if (!PyObject_TypeCheck(watch, state_of(steps->lock)->Watch) || steps->watch != NULL) {
        PyErr_SetString(PyExc_TypeError, "it takes one Watch");
        return NULL;
    }
    steps->watch = Py_NewRef(watch);
    steps->is_awaited = true;
    if (steps->stage == STEPS_UNDER_WAY) {
        wait_share(&steps->call.attempt.wait, watch_of(watch));
    }
    return Py_NewRef(Py_None);
}

static PyObject *
tell_event(PyObject *self, PyObject *args)
{
    StepsObject *steps = (StepsObject *)self;
    int closed, gone;
    struct os_event event;
    if (!PyArg_ParseTuple(args, "ipp:_tell", &event.watched, &closed, &gone)) {
        return NULL;
    }
    event.closed = closed != 0;
    event.gone = gone != 0;
    if (steps->stage == STEPS_UNDER_WAY) {
        wait_tell(&steps->call.attempt.wait, &event);
    }
    return Py_NewRef(Py_None);
}

static PyObject *
get_watched(PyObject *self, void *Py_UNUSED(closure))
{
    const StepsObject *steps = (StepsObject *)self;
    const struct waiter *wait = &steps->call.attempt.wait;
    bool waits = steps->stage == STEPS_UNDER_WAY && wait_descriptor(wait) >= 0;
    return PyLong_FromLong(waits && wait->shared != NULL ? wait->watch_number : -1);
}

static PyObject *
fileno_of(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const StepsObject *steps = (StepsObject *)self;
    bool waits = steps->stage == STEPS_UNDER_WAY;
    return PyLong_FromLong(waits ? wait_descriptor(&steps->call.attempt.wait) : -1);
}

static PyObject *
remaining(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const struct waiter *wait = &((StepsObject *)self)->call.attempt.wait;
    bool calls_back = wait->call_back_at < wait->deadline;
    return PyFloat_FromDouble(call_seconds_until(calls_back ? wait->call_back_at : wait->deadline));
}

/* For who waits in line, and takes no step yet: True, if remaining() was until a notice. */
static PyObject *
notice(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    StepsObject *steps = (StepsObject *)self;
    bool due = steps->stage == STEPS_UNDER_WAY && wait_is_to_call_back(&steps->call.attempt.wait);
    return steps_see_to_notices(steps) ? PyBool_FromLong(due) : NULL;
}

/* ---- The object's end ---- */

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((StepsObject *)self)->lock);
    Py_VISIT(((StepsObject *)self)->watch);
    Py_VISIT(((StepsObject *)self)->exception);
    Py_VISIT(((StepsObject *)self)->on_wait);
    Py_VISIT(((StepsObject *)self)->call.notice.on_wait);
    return 0;
}

static int
clear(PyObject *self)
{
    Py_CLEAR(((StepsObject *)self)->exception);
    Py_CLEAR(((StepsObject *)self)->on_wait);
    return 0;
}

/* A lock that was granted stays the owner's: steps may well go away before it. */
static void
leave_nothing(StepsObject *steps)
{
    PyObject *kind, *value, *traceback;
    PyErr_Fetch(&kind, &value, &traceback);
    if (!steps_end(steps, false)) {
        PyErr_WriteUnraisable(steps->lock);
    }
    PyErr_Restore(kind, value, traceback);
}

static void
dealloc(PyObject *self)
{
    StepsObject *steps = (StepsObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    leave_nothing(steps);
    nesting_free(steps->fresh);
    Py_CLEAR(steps->watch);
    Py_CLEAR(steps->exception);
    Py_CLEAR(steps->on_wait);
    Py_CLEAR(steps->lock);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

/* ---- Attributes ---- */

static PyObject *
get_value(PyObject *self, void *Py_UNUSED(closure))
{
    StepsObject *steps = (StepsObject *)self;
    return Py_NewRef(steps->kind == STEPS_EXIT ? Py_None : steps->lock);
}

static PyObject *
get_owner(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((StepsObject *)self)->caller.owner.token);
}

/* Only who acquires waits in line; who would share the lock, in another line: they are let in
 * together. */
static PyObject *
get_key(PyObject *self, void *Py_UNUSED(closure))
{
    const StepsObject *steps = (StepsObject *)self;
    PyObject *place = steps->kind != STEPS_EXIT ? get_place(steps->lock, NULL) : NULL;
    if (place == NULL) {
        return steps->kind != STEPS_EXIT ? NULL : Py_NewRef(Py_None);
    }
    int shares = steps_share(steps);
    PyObject *key = shares < 0 ? NULL : Py_BuildValue("(OO)", place, shares ? Py_True : Py_False);
    Py_DECREF(place);
    return key;
}

static PyMethodDef steps_methods[] = {
    {"step", step, METH_NOARGS, step_doc},
    {"_join", join, METH_O, join_doc},
    {"_follow", follow, METH_O, follow_doc},
    {"_limit", limit, METH_O, limit_doc},
    {"_run", run, METH_NOARGS, run_doc},
    {"_share", share_watch, METH_O, PyDoc_STR("For coroutines: a Watch.")},
    {"_tell", tell_event, METH_VARARGS, PyDoc_STR("For coroutines: what a Watch has read.")},
    {"fileno", fileno_of, METH_NOARGS,
     PyDoc_STR("fileno($self, /)\n--\n\nWhat to wait for until it is readable; -1: only time.")},
    {"remaining", remaining, METH_NOARGS,
     PyDoc_STR("remaining($self, /)\n--\n\nSeconds until the deadline, or a notice.")},
    {"_notice", notice, METH_NOARGS,
     PyDoc_STR("_notice($self, /)\n--\n\nCall on_wait if it is time, and say whether it was.")},
    {"end", end, METH_NOARGS, end_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef steps_attributes[] = {
    {"value", get_value, NULL, PyDoc_STR("What they come to: the lock."), NULL},
    {"_watched", get_watched, NULL, PyDoc_STR("What its Watch is to tell of; -1: nothing."), NULL},
    {"_owner", get_owner, NULL, PyDoc_STR("Whose they are: a number."), NULL},
    {"_key", get_key, NULL, PyDoc_STR("Which lock; None: no line."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(steps_doc, "acquire() in steps, for an event loop.");

static PyType_Slot steps_slots[] = {
    {Py_tp_doc, (void *)steps_doc},  {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},      {Py_tp_clear, clear},
    {Py_tp_methods, steps_methods},  {Py_tp_getset, steps_attributes},
    {Py_am_await, awaiting_await},   {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, awaiting_next}, {0, NULL},
};

PyType_Spec steps_spec = {
    .name = "lockfile.Steps",
    .basicsize = sizeof(StepsObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = steps_slots,
};

/* ---- Methods of locks ---- */

const char acquire_in_steps_doc[] =
    "acquire_in_steps($self, /, timeout=None, *, on_wait=None, shared=None)\n--\n\n"
    "acquire() for an event loop that is not asyncio's.\n"
    "\n"
    "Returns an object that has begun nothing yet. Its step() goes on, and says when\n"
    "to call it again, until it returns None; end() gives up.";

PyObject *
base_acquire_in_steps(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct timeout timeout = {.argument = Py_None};
    return parse_timeout(args, kwargs, "|O$OO:acquire_in_steps", &timeout)
               ? (PyObject *)steps_to_acquire(self, STEPS_ACQUIRE, timeout)
               : NULL;
}

const char enter_in_steps_doc[] = "_enter_in_steps($self, timeout, /)\n--\n\n"
                                  "acquire_in_steps(), and a block of the lock.";

PyObject *
base_enter_in_steps(PyObject *self, PyObject *timeout)
{
    return (PyObject *)steps_to_acquire(self, STEPS_ENTER, (struct timeout){.argument = timeout});
}

PyObject *
base_exit_in_steps(PyObject *self, PyObject *exception)
{
    return (PyObject *)steps_to_exit(self, exception);
}
