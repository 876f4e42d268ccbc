#include "python/awaiting.h"

#include "python/locking.h"
#include "python/steps.h"

/* ---- The module of coroutines ---- */

/* Of several threads that are the first, one's is kept. Takes both over, which may be NULL. */
static void
keep_waiting(State *state, PyObject *module, PyObject *waits_in)
{
    os_mutex_lock();
    if (state->waiting == NULL && waits_in != NULL) {
        state->waiting = module;
        state->waits_in = waits_in;
        module = waits_in = NULL;
    }
    os_mutex_unlock();
    Py_XDECREF(module);
    Py_XDECREF(waits_in);
}

static PyObject *
kept_waiting(const State *state)
{
    os_mutex_lock();
    PyObject *module = state->waiting;
    os_mutex_unlock();
    return module;
}

/* The module of coroutines, which the state keeps; NULL with an exception. */
static PyObject *
import_waiting(State *state)
{
    if (kept_waiting(state) == NULL) {
        PyObject *module = PyImport_ImportModule("lockfile._waiting");
        keep_waiting(state, module,
                     module != NULL ? PyObject_GetAttrString(module, "waits_in") : NULL);
    }
    return kept_waiting(state);
}

/* ---- Awaiting them ---- */

/* Do others of the loop wait in line for this lock, or is the loop busy with steps? 1, 0; -1 with
 * an exception. */
static int
must_join(StepsObject *steps)
{
    const State *state = state_of(steps->lock);
    PyObject *waiting = kept_waiting(state);
    if (steps->stage != STEPS_NEW || waiting == NULL || PyObject_IsTrue(state->waits_in) == 0) {
        return 0;
    }
    steps->is_awaited = true;
    PyObject *answer = PyObject_CallMethod(waiting, "must_join", "O", (PyObject *)steps);
    int joins = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return joins;
}

/* What goes on with the steps whenever the loop says so. seconds: to wait at first; None: they have
 * not begun. */
static PyObject *
wait_in_loop(StepsObject *steps, PyObject *seconds)
{
    PyObject *waiting = import_waiting(state_of(steps->lock));
    PyObject *coroutine =
        waiting != NULL ? PyObject_CallMethod(waiting, "wait", "OO", (PyObject *)steps, seconds)
                        : NULL;
    PyObject *iterator =
        coroutine != NULL ? PyObject_CallMethod(coroutine, "__await__", NULL) : NULL;
    Py_XDECREF(coroutine);
    return iterator;
}

/* What can be done at once needs no code of Python's, in which a signal's handler might raise: no
 * lock is lost that was just granted. */
PyObject *
awaiting_await(PyObject *self)
{
    StepsObject *steps = (StepsObject *)self;
    int joins = steps->kind == STEPS_EXIT ? 0 : must_join(steps);
    if (joins != 0) {
        return joins > 0 ? wait_in_loop(steps, Py_None) : NULL;
    }
    steps->is_awaited = true;
    bool has_begun = steps->kind == STEPS_EXIT && steps->stage != STEPS_NEW;
    enum outcome outcome = !has_begun                   ? steps_take(steps)
                           : steps->stage == STEPS_DONE ? LOCK_RELEASED
                                                        : LOCK_WAITING;
    if (outcome != LOCK_WAITING) {
        return outcome == LOCK_INTERRUPTED ? NULL : Py_NewRef(self);
    }
    PyObject *seconds = steps_seconds_to_wait(steps);
    PyObject *iterator = seconds != NULL ? wait_in_loop(steps, seconds) : NULL;
    Py_XDECREF(seconds);
    return iterator;
}

/* Of awaited steps that are done: ends with what they have come to. */
PyObject *
awaiting_next(PyObject *self)
{
    StepsObject *steps = (StepsObject *)self;
    PyObject *value = steps->kind == STEPS_EXIT ? Py_None : steps->lock;
    PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, value, NULL);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

/* ---- Methods of locks ---- */

const char acquire_async_doc[] =
    "acquire_async($self, /, timeout=None, *, on_wait=None, shared=None)\n--\n\n"
    "Await it: acquire(), letting other tasks run while it waits.\n"
    "\n"
    "The arguments, what it returns and what it raises are those of acquire(). The\n"
    "owner is the task that calls, whichever awaits: asyncio.wait_for() may, too.\n"
    "Cancelled, it leaves nothing behind.";

PyObject *
base_acquire_async(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct timeout timeout = {.argument = Py_None};
    PyObject *waiting = import_waiting(state_of(self));
    if (waiting == NULL || !parse_timeout(args, kwargs, "|O$OO:acquire_async", &timeout)) {
        return NULL;
    }
    PyObject *steps = (PyObject *)steps_to_acquire(self, STEPS_ACQUIRE, timeout);
    PyObject *coroutine = steps != NULL ? PyObject_CallMethod(waiting, "finish", "O", steps) : NULL;
    Py_XDECREF(steps);
    return coroutine;
}

/* A subclass's acquire_async() is asked, as its acquire() is by with. */
PyObject *
base_aenter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    int is_ours = has_base_method(self, state_of(self)->acquire_async,
                                  (PyCFunction)(void (*)(void))base_acquire_async);
    if (is_ours != 0) {
        struct timeout timeout = {.argument = Py_None};
        return is_ours > 0 ? (PyObject *)steps_to_acquire(self, STEPS_ENTER, timeout) : NULL;
    }
    PyObject *waiting = import_waiting(state_of(self));
    return waiting != NULL ? PyObject_CallMethod(waiting, "enter", "O", self) : NULL;
}

/* It begins at once: after this call, and before the steps are awaited, a signal's handler may
 * raise. */
PyObject *
base_aexit(PyObject *self, PyObject *exception)
{
    StepsObject *steps = steps_to_exit(self, exception);
    if (steps != NULL && steps_take(steps) == LOCK_INTERRUPTED) {
        Py_CLEAR(steps);
    }
    return (PyObject *)steps;
}
