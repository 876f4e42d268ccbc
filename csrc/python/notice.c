#include "python/notice.h"

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
    call_begin_beside(&look, call);
    enum outcome outcome = call_step(&look, lock_identify);
    call_end_attempt(&look);
    bool is_known = outcome == LOCK_HELD || outcome == LOCK_STALE;
    PyObject *owner = !is_worth_it(&call->notice, outcome) ? Py_NewRef(Py_None)
                      : is_known ? owner_new_in_full(call->notice.Owner, &look.attempt)
                                 : owner_new(call->notice.Owner, &unknown);
    return call_end(&look, owner);
}

static void
schedule(struct call *call, int64_t pause)
{
    call->attempt.wait.call_back_at = os_now() + pause;
}

/* Steps may be ended by what is called. */
static bool
tell(struct call *call, PyObject *owner)
{
    PyObject *on_wait = Py_NewRef(call->notice.on_wait);
    PyObject *result = PyObject_CallFunctionObjArgs(on_wait, owner, NULL);
    Py_DECREF(on_wait);
    Py_XDECREF(result);
    return result != NULL;
}

static bool
give(struct call *call)
{
    struct notice *notice = &call->notice;
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
    bool told = tell(call, owner);
    Py_DECREF(owner);
    schedule(call, pause);
    return told;
}

void
notice_begin(struct call *call, PyObject *self, PyObject *on_wait)
{
    if (on_wait != NULL && wait_is_wanted(&call->attempt.wait)) {
        call->notice = (struct notice){
            .on_wait = Py_NewRef(on_wait), .Owner = state_of(self)->Owner, .pause = FIRST_PAUSE};
        call->call_back = give;
        schedule(call, FIRST_PAUSE);
    }
}
