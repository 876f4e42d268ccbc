#include "python/notice.h"

#include "python/log.h"
#include "python/owner_type.h"
#include "python/state.h"

/* How long a wait lasts before the first notice, and so the pause after it, which then doubles. */
#define FIRST_PAUSE (100 * OS_MILLISECOND)
#define LONGEST_PAUSE (60 * OS_SECOND)

/* When who owns could not be told at once, it is asked again after a moment, so often. */
#define MOMENT (10 * OS_MILLISECOND)
#define PATIENCE 10

/* Whatever the object says that it is: a subclass may have a method of that name. */
static bool
settle_by_attribute(PyObject *self, PyObject **on_wait)
{
    PyObject *own = PyObject_GetAttr(self, state_of(self)->on_wait);
    bool settled = own != NULL && check_on_wait(own);
    *on_wait = settled && own != Py_None ? Py_NewRef(own) : NULL;
    Py_XDECREF(own);
    return settled;
}

bool
notice_settle(PyObject *self, const struct timeout *timeout, PyObject **on_wait)
{
    PyObject *argument = timeout->on_wait;
    *on_wait = NULL;
    if (argument != NULL && argument != Py_None) {
        *on_wait = check_on_wait(argument) ? Py_NewRef(argument) : NULL;
        return *on_wait != NULL;
    }
    bool waits = !timeout->given || timeout->seconds > 0;
    return !waits || settle_by_attribute(self, on_wait);
}

/* Is there anything to tell? Nobody is waited for if the lock is free just now, or the caller's. */
static bool
is_worth_it(struct notice *notice, enum outcome outcome)
{
    return outcome == LOCK_HELD || outcome == LOCK_STALE ||
           (outcome != LOCK_FREE && outcome != LOCK_OWNED && ++notice->asked > PATIENCE);
}

/* Who owns the lock, by a look of its own: the call that waits has left the place. It does not
 * wait: a loop may run in this thread. None: it is not worth telling; NULL with an exception. */
static PyObject *
find_owner(struct call *call)
{
    struct call look;
    struct holder unknown = {.known = false};
    PyTypeObject *Owner = state_of(call->notice.lock)->Owner;
    call_begin_beside(&look, call);
    enum outcome outcome = call_step(&look, lock_identify);
    call_end_attempt(&look);
    if (outcome == LOCK_OWNED && lock_excludes_owner(look.attempt.lock)) {
        outcome = LOCK_HELD; /* by itself */
    }
    bool is_known = outcome == LOCK_HELD || outcome == LOCK_STALE;
    PyObject *owner = !is_worth_it(&call->notice, outcome) ? Py_NewRef(Py_None)
                      : is_known                           ? owner_new_in_full(Owner, &look.attempt)
                                                           : owner_new(Owner, &unknown);
    return call_end(&look, owner);
}

static void
schedule(struct call *call, int64_t pause)
{
    bool ends = call->notice.on_wait == NULL && !call->notice.is_logged;
    call->attempt.wait.call_back_at = ends ? OS_NEVER : os_now() + pause;
}

/* Steps may be ended by what is called. */
static bool
tell_hook(struct call *call, PyObject *owner)
{
    PyObject *on_wait = Py_XNewRef(call->notice.on_wait);
    PyObject *result =
        on_wait != NULL ? PyObject_CallFunctionObjArgs(on_wait, owner, NULL) : Py_NewRef(Py_None);
    Py_XDECREF(on_wait);
    Py_XDECREF(result);
    return result != NULL;
}

static PyObject *
modules_of(const struct call *call)
{
    return state_of(call->notice.lock)->finder.modules;
}

/* A line in the log, of programs that want such lines. False with an exception. */
static bool
log_once(struct call *call, PyObject *owner)
{
    bool is_logged = call->notice.is_logged;
    call->notice.is_logged = false;
    return !is_logged || log_wait(modules_of(call), call->attempt.lock->path, owner);
}

/* Nothing is scheduled for a log alone before it is asked for: at the first occasion on which it
 * waits. False with an exception. */
static bool
get_under_way(struct call *call)
{
    if (!call->notice.is_under_way) {
        call->notice.is_under_way = true;
        int wanted = log_is_wanted(modules_of(call));
        call->notice.is_logged = wanted > 0;
        if (wanted > 0 && call->notice.on_wait == NULL) {
            schedule(call, FIRST_PAUSE);
        }
        return wanted >= 0;
    }
    return true;
}

static bool
give(struct call *call)
{
    struct notice *notice = &call->notice;
    if (!get_under_way(call) || !wait_is_to_call_back(&call->attempt.wait)) {
        return !PyErr_Occurred();
    }
    PyObject *owner = find_owner(call);
    if (owner == NULL || owner == Py_None) {
        schedule(call, MOMENT);
        Py_XDECREF(owner);
        return owner != NULL;
    }
    int64_t pause = notice->pause;
    notice->pause = 2 * pause < LONGEST_PAUSE ? 2 * pause : LONGEST_PAUSE;
    notice->asked = 0;
    schedule(call, pause); /* what is called may take a step itself */
    bool told = log_once(call, owner) && tell_hook(call, owner);
    Py_DECREF(owner);
    schedule(call, pause);
    return told;
}

void
notice_begin(struct call *call, PyObject *self, PyObject *on_wait)
{
    if (wait_is_wanted(&call->attempt.wait)) {
        call->notice =
            (struct notice){.on_wait = Py_XNewRef(on_wait), .lock = self, .pause = FIRST_PAUSE};
        call->call_back = give;
    }
    if (on_wait != NULL && wait_is_wanted(&call->attempt.wait)) {
        schedule(call, FIRST_PAUSE);
    }
}
