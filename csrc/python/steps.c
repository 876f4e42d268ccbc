#include "python/steps.h"

#include "python/body.h"
#include "python/locking.h"
#include "python/meaning.h"
#include "python/notice.h"
#include "python/watch.h"
#include "python/with.h"

static const struct errors *
errors_of(const StepsObject *steps)
{
    return &state_of(steps->lock)->errors;
}

/* ---- Begin ---- */

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

StepsObject *
steps_to_acquire(PyObject *lock, enum kind_of_steps kind, struct timeout timeout)
{
    StepsObject *steps = steps_new(lock, kind);
    if (steps != NULL) {
        if (!timeout_settle(lock, &timeout) || !notice_settle(lock, &timeout, &steps->on_wait)) {
            Py_CLEAR(steps);
            return NULL;
        }
        steps->timeout = (struct timeout){
            .given = timeout.given, .seconds = timeout.seconds, .shares = timeout.shares};
    }
    return steps;
}

StepsObject *
steps_to_exit(PyObject *lock, PyObject *exception)
{
    StepsObject *steps = steps_new(lock, STEPS_EXIT);
    if (steps != NULL) {
        steps->exception = Py_NewRef(exception);
    }
    return steps;
}

/* ---- Their call ---- */

/* blocks: they are all made at once, by who waits. False with an exception. */
static bool
begin_call(StepsObject *steps, const char *method, bool blocks)
{
    int64_t deadline = steps->kind == STEPS_EXIT ? 0 : timeout_deadline(&steps->timeout);
    if (!call_begin_as(steps->lock, &steps->call, &steps->caller, deadline) ||
        !call_is_implemented(steps->lock, &steps->call, method)) {
        return false;
    }
    steps->call.attempt.stops_thread = blocks && !steps->caller.lets_others_run;
    steps->call.attempt.leaving = steps->kind == STEPS_EXIT;
    if (steps->is_awaited) {
        wait_share(&steps->call.attempt.wait, watch_of(steps->watch));
    }
    if (steps->kind != STEPS_EXIT) {
        share_as_told(&steps->call, &steps->timeout);
    }
    notice_begin(&steps->call, steps->lock, steps->on_wait);
    steps->stage = STEPS_UNDER_WAY;
    return true;
}

static enum outcome
go_on(StepsObject *steps, lock_operation *operation, bool blocks)
{
    return blocks ? call_run(&steps->call, operation) : call_step(&steps->call, operation);
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
prepare(StepsObject *steps)
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
    return known;
}

static bool
begin_acquire(StepsObject *steps, bool blocks)
{
    return prepare(steps) && begin_call(steps, blocks ? "acquire" : "acquire_async", blocks);
}

static void
begin_block(StepsObject *steps)
{
    block_begun(steps->lock, &steps->caller, steps->fresh);
    steps->fresh = NULL;
    steps->granted = true;
}

/* Is the block to begin with what acquire() has just acquired? OWNED: so it does; FREE, INTERRUPTED
 * with an exception. */
static enum outcome
enter_acquired(StepsObject *steps)
{
    if (steps->kind != STEPS_ENTER || steps->stage != STEPS_NEW) {
        return LOCK_FREE;
    }
    if (!prepare(steps)) {
        return LOCK_INTERRUPTED;
    }
    enum outcome outcome = block_enter_acquired(steps->lock, &steps->caller);
    if (outcome == LOCK_OWNED) {
        steps->stage = STEPS_DONE;
        begin_block(steps);
    }
    return outcome;
}

/* Of a lock that was just acquired. OWNED; FREE: it was released meanwhile; INTERRUPTED. */
static enum outcome
enter(StepsObject *steps)
{
    enum outcome outcome =
        steps->kind == STEPS_ENTER ? block_count(steps->lock, &steps->caller) : LOCK_OWNED;
    if (steps->kind == STEPS_ENTER && outcome == LOCK_OWNED) {
        begin_block(steps);
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
    call_end_attempt(&steps->call);
    steps->acquired = steps->call.attempt.granted;
    steps->granted = steps->acquired;
    if (outcome != LOCK_OWNED && outcome != LOCK_INTERRUPTED) {
        raise_not_acquired(errors_of(steps), &steps->call, outcome,
                           steps->timeout.given ? &steps->timeout.seconds : NULL);
    }
    if (outcome == LOCK_OWNED && steps->kind == STEPS_ACQUIRE) {
        note_sole(steps->lock, &steps->caller, &steps->call);
    }
    end_call(steps, outcome == LOCK_OWNED);
    if (outcome == LOCK_OWNED) {
        note_acquired(steps->lock, &steps->caller);
    }
    return outcome == LOCK_OWNED ? enter(steps) : LOCK_INTERRUPTED;
}

/* OWNED, WAITING; INTERRUPTED with an exception. */
static enum outcome
acquire(StepsObject *steps, bool blocks)
{
    enum outcome outcome = enter_acquired(steps);
    while (outcome == LOCK_FREE) {
        if (steps->stage != STEPS_UNDER_WAY && !begin_acquire(steps, blocks)) {
            return LOCK_INTERRUPTED;
        }
        outcome = settle_acquire(steps, go_on(steps, lock_acquire, blocks));
    }
    return outcome;
}

/* WAITING: it is in line, behind the other. */
static enum outcome
join(StepsObject *steps, const StepsObject *ahead)
{
    if (steps->stage == STEPS_NEW && !begin_acquire(steps, false)) {
        return LOCK_INTERRUPTED;
    }
    python_call_leave(&steps->call.python);
    enum outcome outcome = lock_join(&steps->call.attempt, &ahead->call.attempt);
    python_call_return(&steps->call.python);
    return settle_acquire(steps, outcome);
}

/* ---- Exit ---- */

/* RELEASED: there is nothing more to do; WAITING: it is under way; INTERRUPTED with an exception.
 */
static enum outcome
begin_exit(StepsObject *steps, bool blocks)
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
    return is_ours > 0 && begin_call(steps, "release", blocks) ? LOCK_WAITING : LOCK_INTERRUPTED;
}

/* True: it is over; false with an exception. */
static bool
finish_exit(StepsObject *steps, enum outcome outcome)
{
    call_end_attempt(&steps->call);
    bool released = tell_released(steps->lock, &steps->call, outcome);
    end_call(steps, released);
    return released;
}

/* What a block has raised comes first. RELEASED, WAITING; INTERRUPTED with an exception. */
static enum outcome
leave(StepsObject *steps, bool blocks)
{
    const struct errors *errors = errors_of(steps); /* before an exception is set */
    enum outcome outcome = steps->stage == STEPS_NEW ? begin_exit(steps, blocks) : LOCK_WAITING;
    if (outcome == LOCK_WAITING) {
        outcome = go_on(steps, lock_release, blocks);
        if (outcome == LOCK_WAITING) {
            return outcome;
        }
        outcome = finish_exit(steps, outcome) ? LOCK_RELEASED : LOCK_INTERRUPTED;
    }
    bool swallowed = outcome == LOCK_INTERRUPTED && body_comes_first(errors, steps->exception);
    return swallowed ? LOCK_RELEASED : outcome;
}

/* ---- Steps ---- */

bool
steps_see_to_notices(StepsObject *steps)
{
    /* What is called back may end the steps. */
    bool goes_on = steps->stage != STEPS_UNDER_WAY || call_back(&steps->call);
    if (!goes_on && steps->stage == STEPS_UNDER_WAY) {
        call_end_attempt(&steps->call);
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

static enum outcome
make(StepsObject *steps, bool blocks)
{
    return steps->kind == STEPS_EXIT ? leave(steps, blocks) : acquire(steps, blocks);
}

enum outcome
steps_take(StepsObject *steps)
{
    if (!steps_see_to_notices(steps) || !use(steps)) {
        return LOCK_INTERRUPTED;
    }
    enum outcome outcome = LOCK_INTERRUPTED;
    if (steps->stage == STEPS_DONE) {
        PyErr_SetString(PyExc_RuntimeError, "it is over already");
    } else {
        outcome = make(steps, false);
    }
    steps->in_use = false;
    return outcome;
}

enum outcome
steps_run(StepsObject *steps)
{
    if (steps->stage == STEPS_UNDER_WAY) {
        PyErr_SetString(PyExc_RuntimeError, "it has begun already");
        return LOCK_INTERRUPTED;
    }
    if (!use(steps)) {
        return LOCK_INTERRUPTED;
    }
    enum outcome outcome = steps->stage == STEPS_DONE ? LOCK_OWNED : make(steps, true);
    steps->in_use = false;
    return outcome;
}

enum outcome
steps_join(StepsObject *steps, const StepsObject *ahead)
{
    if (!use(steps)) {
        return LOCK_INTERRUPTED;
    }
    enum outcome outcome = enter_acquired(steps);
    if (outcome == LOCK_FREE) {
        outcome = join(steps, ahead);
    }
    steps->in_use = false;
    return outcome;
}

int
steps_share(const StepsObject *steps)
{
    struct lock *lock = steps->timeout.shares < 0 ? share_lock(steps->lock) : NULL;
    int shares = lock != NULL ? lock->is_shared : steps->timeout.shares;
    if (lock != NULL) {
        lock_drop(lock);
    }
    return shares;
}

PyObject *
steps_seconds_to_wait(const StepsObject *steps)
{
    return PyFloat_FromDouble(call_seconds_until(wait_until(&steps->call.attempt.wait)));
}

/* ---- Their end ---- */

/* What a block's end has begun, it finishes. False with an exception. */
static bool
end_under_way(StepsObject *steps)
{
    if (steps->kind == STEPS_EXIT) {
        return finish_exit(steps, call_run(&steps->call, lock_release));
    }
    call_end_attempt(&steps->call);
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
    call_end_attempt(&call);
    call_end(&call, Py_None);
    return true;
}

/* False with an exception. */
static bool
give_back_granted(StepsObject *steps)
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

bool
steps_end(StepsObject *steps, bool give_back)
{
    if (!use(steps)) {
        return false;
    }
    bool gives_back = steps->granted && give_back;
    bool ended = steps->stage != STEPS_UNDER_WAY || end_under_way(steps);
    steps->stage = STEPS_DONE;
    steps->granted = false;
    ended = ended && (!gives_back || give_back_granted(steps));
    steps->in_use = false;
    return ended;
}
