#include "python/steps.h"

#include "python/attributes.h"
#include "python/body.h"
#include "python/call.h"
#include "python/locking.h"
#include "python/notice.h"
#include "python/watch.h"
#include "python/with.h"

#include <stdatomic.h>

/* How far it is. */
enum stage_of_steps {
    STEPS_NEW,
    STEPS_UNDER_WAY, /* there is a call */
    STEPS_DONE,
};

enum kind_of_steps { STEPS_ACQUIRE, STEPS_ENTER, STEPS_EXIT };

typedef struct {
    PyObject_HEAD
    PyObject *lock;
    PyObject *exception; /* the arguments of __aexit__(); NULL: it is no block's end */
    enum kind_of_steps kind;
    enum stage_of_steps stage;
    struct timeout timeout;
    PyObject *on_wait; /* NULL: nobody wants to know */
    struct caller caller;
    PyObject *watch;       /* the one that the loop reads; NULL: none */
    bool is_awaited;       /* so a watch is the loop's, or there is none yet */
    struct nesting *fresh; /* of a block that is entered; NULL: it is used up */
    atomic_bool in_use;    /* by a thread, which may have given up the GIL */
    bool granted;          /* what is to be given back if nobody takes it */
    bool acquired;         /* the lock, which its owner had not before */
    struct call call;
} StepsObject;

static const struct errors *
errors_of(const StepsObject *steps)
{
    return &state_of(steps->lock)->errors;
}

/* ---- Begin ---- */

/* The owner is who calls now, not who awaits: asyncio.wait_for() and gather() make tasks of their
 * own. NULL with an exception. */
static StepsObject *
steps_new(PyObject *lock, enum kind_of_steps kind)
{
    struct caller caller;
    if (!call_find_caller(lock, &caller)) {
        return NULL;
    }
    StepsObject *steps = (StepsObject *)PyType_GenericAlloc(state_of(lock)->Steps, 0);
    if (steps != NULL) {
        steps->lock = Py_NewRef(lock);
        steps->kind = kind;
        steps->caller = caller;
    }
    return steps;
}

static StepsObject *
new_acquire(PyObject *lock, enum kind_of_steps kind, struct timeout timeout)
{
    StepsObject *steps = steps_new(lock, kind);
    if (steps != NULL) {
        if (!timeout_settle(lock, &timeout) || !notice_settle(lock, &timeout, &steps->on_wait)) {
            Py_CLEAR(steps);
            return NULL;
        }
        steps->timeout = (struct timeout){.given = timeout.given, .seconds = timeout.seconds};
    }
    return steps;
}

/* False with an exception. */
static bool
begin_call(StepsObject *steps, const char *method)
{
    int64_t deadline = steps->kind == STEPS_EXIT ? 0 : timeout_deadline(&steps->timeout);
    if (!call_begin_as(steps->lock, &steps->call, &steps->caller, deadline) ||
        !call_is_implemented(steps->lock, &steps->call, method)) {
        return false;
    }
    steps->call.attempt.stops_thread = false; /* it lets the others run */
    steps->call.attempt.leaving = steps->kind == STEPS_EXIT;
    if (steps->is_awaited) {
        wait_share(&steps->call.attempt.wait, watch_of(steps->watch));
    }
    notice_begin(&steps->call, steps->lock, steps->on_wait);
    steps->stage = STEPS_UNDER_WAY;
    return true;
}

static void
end_attempt(StepsObject *steps)
{
    call_end_attempt(&steps->call);
}

/* done: no exception is set. */
static void
end_call(StepsObject *steps, bool done)
{
    steps->stage = STEPS_DONE;
    call_end(&steps->call, done ? Py_None : NULL);
}

/* ---- Acquire, and enter ---- */

/* Whoever awaits outside of any task has made it before there was a task. False with an exception.
 */
static bool
begin_acquire(StepsObject *steps, const char *method)
{
    bool known =
        steps->caller.owner.kind != OWNER_THREAD || call_find_caller(steps->lock, &steps->caller);
    if (known && steps->kind == STEPS_ENTER && steps->fresh == NULL) {
        steps->fresh = nesting_new();
        known = steps->fresh != NULL;
    }
    if (known) {
        note_refused(steps->lock, &steps->caller);
    }
    return known && begin_call(steps, method);
}

/* Of a lock that was just acquired. OWNED; FREE: it was released meanwhile; INTERRUPTED. */
static enum outcome
enter(StepsObject *steps)
{
    enum outcome outcome =
        steps->kind == STEPS_ENTER ? block_count(steps->lock, &steps->caller) : LOCK_OWNED;
    if (steps->kind == STEPS_ENTER && outcome == LOCK_OWNED) {
        block_begun(steps->lock, &steps->caller, steps->fresh);
        steps->fresh = NULL;
        steps->granted = true;
    }
    if (outcome == LOCK_INTERRUPTED && steps->granted) {
        steps->granted = false;
        release_quietly(steps->lock, &steps->caller);
    }
    return outcome;
}

/* What acquire() has come to. OWNED, WAITING; FREE: once more; INTERRUPTED with an exception. */
static enum outcome
settle_acquire(StepsObject *steps, enum outcome outcome)
{
    if (outcome == LOCK_WAITING) {
        return outcome;
    }
    end_attempt(steps);
    steps->acquired = steps->call.attempt.granted;
    steps->granted = steps->acquired;
    if (outcome != LOCK_OWNED && outcome != LOCK_INTERRUPTED) {
        raise_not_acquired(errors_of(steps), &steps->call, outcome,
                           steps->timeout.given ? &steps->timeout.seconds : NULL);
    }
    end_call(steps, outcome == LOCK_OWNED);
    if (outcome == LOCK_OWNED) {
        note_acquired(steps->lock, &steps->caller);
    }
    return outcome == LOCK_OWNED ? enter(steps) : LOCK_INTERRUPTED;
}

/* OWNED, WAITING; INTERRUPTED with an exception. */
static enum outcome
acquire_step(StepsObject *steps)
{
    enum outcome outcome;
    do {
        if (steps->stage != STEPS_UNDER_WAY && !begin_acquire(steps, "acquire_async")) {
            return LOCK_INTERRUPTED;
        }
        outcome = settle_acquire(steps, call_step(&steps->call, lock_acquire));
    } while (outcome == LOCK_FREE);
    return outcome;
}

/* Where there is no loop: waits as acquire() does. OWNED; INTERRUPTED with an exception. */
static enum outcome
acquire_run(StepsObject *steps)
{
    enum outcome outcome;
    do {
        if (!begin_acquire(steps, "acquire")) {
            return LOCK_INTERRUPTED;
        }
        steps->call.attempt.stops_thread = !steps->caller.lets_others_run;
        outcome = settle_acquire(steps, call_run(&steps->call, lock_acquire));
    } while (outcome == LOCK_FREE);
    return outcome;
}

/* WAITING: it is in line, behind the other. */
static enum outcome
join_call(StepsObject *steps, const StepsObject *other)
{
    python_call_leave(&steps->call.python);
    enum outcome outcome = lock_join(&steps->call.attempt, &other->call.attempt);
    python_call_return(&steps->call.python);
    return outcome;
}

/* ---- Exit ---- */

/* RELEASED: there is nothing more to do; WAITING: it is under way; INTERRUPTED with an exception.
 */
static enum outcome
begin_exit(StepsObject *steps)
{
    bool outermost;
    steps->stage = STEPS_DONE;
    block_over(steps->lock, &steps->caller, &outermost);
    enum outcome outcome = block_leave(steps->lock, &steps->caller, outermost);
    if (outcome != LOCK_OWNED) {
        return outcome;
    }
    int is_ours = has_base_method(steps->lock, state_of(steps->lock)->release, base_release);
    if (is_ours == 0) {
        bool released = release_for_block(steps->lock, &steps->caller);
        return released ? LOCK_RELEASED : LOCK_INTERRUPTED;
    }
    return is_ours > 0 && begin_call(steps, "release") ? LOCK_WAITING : LOCK_INTERRUPTED;
}

/* True: it is over; false with an exception. */
static bool
finish_exit(StepsObject *steps, enum outcome outcome)
{
    bool released = tell_released(steps->lock, &steps->call, outcome);
    end_call(steps, released);
    return released;
}

/* What a block has raised comes first. */
static enum outcome
body_or(const struct errors *errors, const StepsObject *steps, enum outcome outcome)
{
    bool swallowed = outcome == LOCK_INTERRUPTED && body_comes_first(errors, steps->exception);
    return swallowed ? LOCK_RELEASED : outcome;
}

/* RELEASED, WAITING; INTERRUPTED with an exception. */
static enum outcome
exit_step(StepsObject *steps)
{
    const struct errors *errors = errors_of(steps); /* before an exception is set */
    enum outcome outcome = steps->stage == STEPS_NEW ? begin_exit(steps) : LOCK_WAITING;
    if (outcome == LOCK_WAITING) {
        outcome = call_step(&steps->call, lock_release);
        if (outcome == LOCK_WAITING) {
            return outcome;
        }
        end_attempt(steps);
        outcome = finish_exit(steps, outcome) ? LOCK_RELEASED : LOCK_INTERRUPTED;
    }
    return body_or(errors, steps, outcome);
}

/* Where there is no loop: waits as release() does. RELEASED; INTERRUPTED with an exception. */
static enum outcome
exit_run(StepsObject *steps)
{
    const struct errors *errors = errors_of(steps); /* before an exception is set */
    enum outcome outcome = begin_exit(steps);
    if (outcome == LOCK_WAITING) {
        bool over = finish_exit(steps, call_run(&steps->call, lock_release));
        outcome = over ? LOCK_RELEASED : LOCK_INTERRUPTED;
    }
    return body_or(errors, steps, outcome);
}

/* ---- Steps ---- */

/* What is called back may end the steps. False with an exception. */
static bool
see_to_notices(StepsObject *steps)
{
    bool goes_on = steps->stage != STEPS_UNDER_WAY || call_back(&steps->call);
    if (!goes_on && steps->stage == STEPS_UNDER_WAY) {
        end_attempt(steps);
        end_call(steps, false);
    }
    return goes_on;
}

/* For one thread at a time. False with an exception. */
static bool
use(StepsObject *steps)
{
    bool used = atomic_exchange(&steps->in_use, true);
    if (used) {
        PyErr_SetString(PyExc_RuntimeError, "another thread is making a step");
    }
    return !used;
}

/* WAITING; INTERRUPTED with an exception; else it is done. */
static enum outcome
take_step(StepsObject *steps)
{
    if (!see_to_notices(steps) || !use(steps)) {
        return LOCK_INTERRUPTED;
    }
    enum outcome outcome = LOCK_INTERRUPTED;
    if (steps->stage == STEPS_DONE) {
        PyErr_SetString(PyExc_RuntimeError, "it is over already");
    } else {
        outcome = steps->kind == STEPS_EXIT ? exit_step(steps) : acquire_step(steps);
    }
    steps->in_use = false;
    return outcome;
}

static PyObject *
seconds_to_wait(const StepsObject *steps)
{
    return PyFloat_FromDouble(call_seconds_until(wait_until(&steps->call.attempt.wait)));
}

PyDoc_STRVAR(step_doc,
             "step($self, /)\n--\n\n"
             "Go on.\n"
             "\n"
             "Returns None when it is done: the lock is owned. Else the seconds after which\n"
             "to call it again, or earlier, when fileno() is readable. Raises what acquire()\n"
             "raises.");

static PyObject *
tell_step(const StepsObject *steps, enum outcome outcome)
{
    return outcome == LOCK_INTERRUPTED ? NULL
           : outcome == LOCK_WAITING   ? seconds_to_wait(steps)
                                       : Py_NewRef(Py_None);
}

static PyObject *
steps_step(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    StepsObject *steps = (StepsObject *)self;
    return tell_step(steps, take_step(steps));
}

PyDoc_STRVAR(run_doc,
             "_run($self, /)\n--\n\n"
             "All of them, where there is no loop. Does nothing if they are over already.");

static PyObject *
steps_run(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    StepsObject *steps = (StepsObject *)self;
    if (steps->stage == STEPS_UNDER_WAY) {
        PyErr_SetString(PyExc_RuntimeError, "it has begun already");
        return NULL;
    }
    if (!use(steps)) {
        return NULL;
    }
    enum outcome outcome = steps->stage == STEPS_DONE  ? LOCK_OWNED
                           : steps->kind == STEPS_EXIT ? exit_run(steps)
                                                       : acquire_run(steps);
    steps->in_use = false;
    return outcome == LOCK_INTERRUPTED ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(limit_doc, "_limit($self, timeout, /)\n--\n\n"
                        "Another timeout than the one they were made with, before they begin.");

static PyObject *
steps_limit(PyObject *self, PyObject *timeout)
{
    struct timeout *ours = &((StepsObject *)self)->timeout;
    return read_timeout(timeout, &ours->given, &ours->seconds) ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(join_doc,
             "_join($self, ahead, /)\n--\n\n"
             "step(), but it does not claim the lock, for which the other one waits: None if\n"
             "it is the owner's already.");

static PyObject *
steps_join(PyObject *self, PyObject *ahead)
{
    StepsObject *steps = (StepsObject *)self, *other = (StepsObject *)ahead;
    if (!PyObject_TypeCheck(ahead, Py_TYPE(self)) || other->stage != STEPS_UNDER_WAY ||
        steps->stage == STEPS_DONE || steps->kind == STEPS_EXIT) {
        PyErr_SetString(PyExc_TypeError, "it takes steps that wait");
        return NULL;
    }
    if (!use(steps)) {
        return NULL;
    }
    bool begun = steps->stage != STEPS_NEW || begin_acquire(steps, "acquire_async");
    enum outcome outcome =
        begun ? settle_acquire(steps, join_call(steps, other)) : LOCK_INTERRUPTED;
    steps->in_use = false;
    return tell_step(steps, outcome);
}

/* The loop's watch, from the next step on. */
static PyObject *
steps_share(PyObject *self, PyObject *watch)
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
steps_tell(PyObject *self, PyObject *args)
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
steps_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const StepsObject *steps = (StepsObject *)self;
    bool waits = steps->stage == STEPS_UNDER_WAY;
    return PyLong_FromLong(waits ? wait_descriptor(&steps->call.attempt.wait) : -1);
}

static PyObject *
steps_remaining(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const struct waiter *wait = &((StepsObject *)self)->call.attempt.wait;
    bool calls_back = wait->call_back_at < wait->deadline;
    return PyFloat_FromDouble(call_seconds_until(calls_back ? wait->call_back_at : wait->deadline));
}

/* For who waits in line, and takes no step yet: True, if remaining() was until a notice. */
static PyObject *
steps_notice(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    StepsObject *steps = (StepsObject *)self;
    bool due = steps->stage == STEPS_UNDER_WAY && wait_is_to_call_back(&steps->call.attempt.wait);
    return see_to_notices(steps) ? PyBool_FromLong(due) : NULL;
}

/* ---- Their end ---- */

/* What a block's end has begun, it finishes. False with an exception. */
static bool
end_under_way(StepsObject *steps)
{
    if (steps->kind == STEPS_EXIT) {
        return finish_exit(steps, call_run(&steps->call, lock_release));
    }
    end_attempt(steps);
    end_call(steps, true);
    return true;
}

/* Who owned before the block was entered, still does. False with an exception. */
static bool
take_back_block(StepsObject *steps)
{
    bool outermost;
    struct call call;
    block_over(steps->lock, &steps->caller, &outermost);
    if (!call_begin_as(steps->lock, &call, &steps->caller, 0)) {
        return false;
    }
    lock_end_block(&call.attempt);
    python_call_leave(&call.python);
    attempt_end(&call.attempt);
    python_call_return(&call.python);
    call_end(&call, Py_None);
    return true;
}

/* False with an exception. */
static bool
give_back(StepsObject *steps)
{
    bool outermost;
    if (steps->kind == STEPS_ACQUIRE) {
        return release_as(steps->lock, &steps->caller, false);
    }
    if (!steps->acquired) {
        return take_back_block(steps);
    }
    block_over(steps->lock, &steps->caller, &outermost);
    enum outcome outcome = block_leave(steps->lock, &steps->caller, outermost);
    return outcome == LOCK_OWNED ? release_as(steps->lock, &steps->caller, true)
                                 : outcome != LOCK_INTERRUPTED;
}

PyDoc_STRVAR(end_doc,
             "end($self, /)\n--\n\n"
             "Leave nothing behind: end the wait, and release the lock if these steps have\n"
             "acquired it.");

static PyObject *
steps_end(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    StepsObject *steps = (StepsObject *)self;
    if (!use(steps)) {
        return NULL;
    }
    bool granted = steps->granted;
    bool ended = steps->stage != STEPS_UNDER_WAY || end_under_way(steps);
    steps->stage = STEPS_DONE;
    steps->granted = false;
    ended = ended && (!granted || give_back(steps));
    steps->in_use = false;
    return ended ? Py_NewRef(Py_None) : NULL;
}

static int
steps_traverse(PyObject *self, visitproc visit, void *arg)
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
steps_clear(PyObject *self)
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
    if (steps->stage == STEPS_UNDER_WAY && !end_under_way(steps)) {
        PyErr_WriteUnraisable(steps->lock);
    }
    PyErr_Restore(kind, value, traceback);
}

static void
steps_dealloc(PyObject *self)
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

/* ---- Awaiting them ---- */

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
static PyObject *
steps_await(PyObject *self)
{
    StepsObject *steps = (StepsObject *)self;
    int joins = steps->kind == STEPS_EXIT ? 0 : must_join(steps);
    if (joins != 0) {
        return joins > 0 ? wait_in_loop(steps, Py_None) : NULL;
    }
    steps->is_awaited = true;
    bool is_over = steps->kind == STEPS_EXIT && steps->stage == STEPS_DONE;
    bool is_begun = steps->kind == STEPS_EXIT && steps->stage == STEPS_UNDER_WAY;
    enum outcome outcome = is_over ? LOCK_RELEASED : is_begun ? LOCK_WAITING : take_step(steps);
    if (outcome != LOCK_WAITING) {
        return outcome == LOCK_INTERRUPTED ? NULL : Py_NewRef(self);
    }
    PyObject *seconds = seconds_to_wait(steps);
    PyObject *iterator = seconds != NULL ? wait_in_loop(steps, seconds) : NULL;
    Py_XDECREF(seconds);
    return iterator;
}

/* Of awaited steps that are done: ends with what they have come to. */
static PyObject *
steps_next(PyObject *self)
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

static PyObject *
get_granted(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((StepsObject *)self)->granted);
}

/* Only who acquires waits in line. */
static PyObject *
get_key(PyObject *self, void *Py_UNUSED(closure))
{
    StepsObject *steps = (StepsObject *)self;
    struct lock *lock = steps->kind != STEPS_EXIT ? share_lock(steps->lock) : NULL;
    if (lock == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    PyObject *key = Py_BuildValue("(yy)", lock->lock_file, lock->store);
    lock_drop(lock);
    return key;
}

static PyMethodDef steps_methods[] = {
    {"step", steps_step, METH_NOARGS, step_doc},
    {"_join", steps_join, METH_O, join_doc},
    {"_limit", steps_limit, METH_O, limit_doc},
    {"_run", steps_run, METH_NOARGS, run_doc},
    {"_share", steps_share, METH_O, PyDoc_STR("For coroutines: a Watch.")},
    {"_tell", steps_tell, METH_VARARGS, PyDoc_STR("For coroutines: what a Watch has read.")},
    {"fileno", steps_fileno, METH_NOARGS,
     PyDoc_STR("fileno($self, /)\n--\n\nWhat to wait for until it is readable; -1: only time.")},
    {"remaining", steps_remaining, METH_NOARGS,
     PyDoc_STR("remaining($self, /)\n--\n\nSeconds until the deadline, or a notice.")},
    {"_notice", steps_notice, METH_NOARGS,
     PyDoc_STR("_notice($self, /)\n--\n\nCall on_wait if it is time, and say whether it was.")},
    {"end", steps_end, METH_NOARGS, end_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef steps_attributes[] = {
    {"value", get_value, NULL, PyDoc_STR("What they come to: the lock."), NULL},
    {"_watched", get_watched, NULL, PyDoc_STR("What its Watch is to tell of; -1: nothing."), NULL},
    {"_owner", get_owner, NULL, PyDoc_STR("Whose they are: a number."), NULL},
    {"_granted", get_granted, NULL, PyDoc_STR("Whether they have acquired the lock."), NULL},
    {"_key", get_key, NULL, PyDoc_STR("Which lock; None: no line."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(steps_doc, "acquire() in steps, for an event loop.");

static PyType_Slot steps_slots[] = {
    {Py_tp_doc, (void *)steps_doc},   {Py_tp_dealloc, steps_dealloc},
    {Py_tp_traverse, steps_traverse}, {Py_tp_clear, steps_clear},
    {Py_tp_methods, steps_methods},   {Py_tp_getset, steps_attributes},
    {Py_am_await, steps_await},       {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, steps_next},     {0, NULL},
};

PyType_Spec steps_spec = {
    .name = "lockfile.Steps",
    .basicsize = sizeof(StepsObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = steps_slots,
};

/* ---- Methods of locks ---- */

const char acquire_in_steps_doc[] =
    "acquire_in_steps($self, /, timeout=None, *, on_wait=None)\n--\n\n"
    "acquire() for an event loop that is not asyncio's.\n"
    "\n"
    "Returns an object that has begun nothing yet. Its step() goes on, and says when\n"
    "to call it again, until it returns None; end() gives up.";

PyObject *
base_acquire_in_steps(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct timeout timeout = {.argument = Py_None};
    return parse_timeout(args, kwargs, "|O$O:acquire_in_steps", &timeout)
               ? (PyObject *)new_acquire(self, STEPS_ACQUIRE, timeout)
               : NULL;
}

const char enter_in_steps_doc[] = "_enter_in_steps($self, timeout, /)\n--\n\n"
                                  "acquire_in_steps(), and a block of the lock.";

PyObject *
base_enter_in_steps(PyObject *self, PyObject *timeout)
{
    return (PyObject *)new_acquire(self, STEPS_ENTER, (struct timeout){.argument = timeout});
}

const char acquire_async_doc[] =
    "acquire_async($self, /, timeout=None, *, on_wait=None)\n--\n\n"
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
    if (waiting == NULL || !parse_timeout(args, kwargs, "|O$O:acquire_async", &timeout)) {
        return NULL;
    }
    PyObject *steps = (PyObject *)new_acquire(self, STEPS_ACQUIRE, timeout);
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
        return is_ours > 0 ? (PyObject *)new_acquire(self, STEPS_ENTER, timeout) : NULL;
    }
    PyObject *waiting = import_waiting(state_of(self));
    return waiting != NULL ? PyObject_CallMethod(waiting, "enter", "O", self) : NULL;
}

PyObject *
base_exit_in_steps(PyObject *self, PyObject *exception)
{
    StepsObject *steps = steps_new(self, STEPS_EXIT);
    if (steps != NULL) {
        steps->exception = Py_NewRef(exception);
    }
    return (PyObject *)steps;
}

/* It begins at once: after this call, and before the steps are awaited, a signal's handler may
 * raise. */
PyObject *
base_aexit(PyObject *self, PyObject *exception)
{
    StepsObject *steps = (StepsObject *)base_exit_in_steps(self, exception);
    if (steps != NULL && take_step(steps) == LOCK_INTERRUPTED) {
        Py_CLEAR(steps);
    }
    return (PyObject *)steps;
}
