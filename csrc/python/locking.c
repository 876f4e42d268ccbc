#include "python/locking.h"

#include "python/attributes.h"
#include "python/meaning.h"
#include "python/notice.h"

#define WITH_KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static const struct errors *
errors_of(PyObject *self)
{
    return &state_of(self)->errors;
}

bool
parse_timeout(PyObject *args, PyObject *kwargs, const char *format, struct timeout *timeout)
{
    static char *names[] = {"timeout", "on_wait", "shared", NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &timeout->argument,
                                       &timeout->on_wait, &timeout->shared);
}

int
has_base_method(PyObject *self, PyObject *name, PyCFunction function)
{
    PyObject *method = PyObject_GetAttr(self, name);
    if (method == NULL) {
        return -1;
    }
    bool is_ours = PyCFunction_Check(method) && PyCFunction_GetSelf(method) == self &&
                   PyCFunction_GetFunction(method) == function;
    Py_DECREF(method);
    return is_ours;
}

/* ---- Between with and the methods that it calls ----
 *
 * What with calls may be a subclass's, so it cannot be given another argument. But
 * another thread of the same owner may enter or leave a block of its own just then. */

static _Thread_local struct {
    const PyObject *object; /* whose release() with calls */
    struct caller caller;
} ending;

static _Thread_local const PyObject *last_acquired; /* the object that acquire() acquired last */

/* Has with called this release()? True for the first call on that object only. */
static bool
is_called_by_with(const PyObject *self)
{
    bool called = ending.object == self;
    if (called) {
        ending.object = NULL;
    }
    return called;
}

/* ---- What objects remember of it ---- */

void
forget_refusal_locked(LockObject *object, const struct caller *caller)
{
    os_assert_locked();
    for (unsigned i = 0; i < REFUSALS; i++) {
        if (object->refused[i] == caller->owner.caller) {
            object->refused[i] = 0;
        }
    }
}

void
note_acquired(PyObject *self, const struct caller *caller)
{
    LockObject *object = (LockObject *)self;
    os_mutex_lock();
    object->grants++;
    forget_refusal_locked(object, caller);
    os_mutex_unlock();
}

void
note_sole(PyObject *self, const struct caller *caller, const struct call *call)
{
    LockObject *object = (LockObject *)self;
    uint64_t serial = lock_sole_serial(&call->attempt);
    if (serial != 0) {
        os_mutex_lock();
        object->acquired = serial;
        object->acquired_by = caller->owner.caller;
        os_mutex_unlock();
    }
}

void
note_refused(PyObject *self, const struct caller *caller)
{
    LockObject *object = (LockObject *)self;
    os_mutex_lock();
    forget_refusal_locked(object, caller);
    unsigned i = 0;
    while (i < REFUSALS && object->refused[i] != 0) {
        i++;
    }
    if (i < REFUSALS) {
        object->refused[i] = caller->owner.caller;
    } else {
        object->refused_more = true;
    }
    os_mutex_unlock();
}

/* ---- acquire(), try_acquire() ---- */

void
share_as_told(struct call *call, const struct timeout *timeout)
{
    if (timeout->shares >= 0) {
        call->attempt.shares = timeout->shares > 0;
    }
}

/* False with an exception. */
static bool
begin_acquire(PyObject *self, struct call *call, const struct caller *caller,
              struct timeout *timeout)
{
    PyObject *on_wait = NULL;
    bool begun = timeout_settle(self, timeout) && notice_settle(self, timeout, &on_wait) &&
                 call_begin_as(self, call, caller, timeout_deadline(timeout)) &&
                 call_is_implemented(self, call, "acquire");
    if (begun) {
        share_as_told(call, timeout);
        notice_begin(call, self, on_wait);
    }
    Py_XDECREF(on_wait);
    return begun;
}

/* tries: is content with an answer, which is then the result: who holds the lock does not matter.
 */
static PyObject *
acquire(PyObject *self, const struct caller *caller, struct timeout *timeout, bool tries)
{
    struct call call;
    if (!begin_acquire(self, &call, caller, timeout)) {
        return NULL;
    }
    call.attempt.incurious = tries;
    PyObject *result = NULL;
    enum outcome outcome = call_run(&call, lock_acquire);
    if (outcome == LOCK_OWNED) {
        last_acquired = self;
        note_acquired(self, caller);
        note_sole(self, caller, &call);
        result = Py_NewRef(tries ? Py_True : self);
    } else if (outcome == LOCK_HELD && tries) {
        result = Py_NewRef(Py_False);
    } else if (outcome != LOCK_INTERRUPTED) {
        raise_not_acquired(errors_of(self), &call, outcome,
                           timeout->given ? &timeout->seconds : NULL);
    }
    return call_end(&call, result);
}

const char acquire_doc[] =
    "acquire($self, /, timeout=None, *, on_wait=None, shared=None)\n--\n\n"
    "Lock the path, waiting while another owner holds it.\n"
    "\n"
    "timeout: seconds to wait. None: the attribute timeout, which is what the\n"
    "constructor was given, and if that is None too, for ever; float('inf')\n"
    "says for ever outright. Zero or less: do not wait. True and False say\n"
    "what they say to threading.Lock: as None, and as 0.\n"
    "on_wait: called with the Owner, when the wait has lasted a tenth of a second,\n"
    "and then ever more rarely; None: the attribute on_wait.\n"
    "shared: whether others may hold it as well, who share it, too; None: the\n"
    "attribute shared.\n"
    "\n"
    "Returns the lock itself: with lock.acquire(timeout=5) releases it once, at\n"
    "the end. So it does when the caller owns the lock already: that is not\n"
    "counted, one release() unlocks. A lock whose owner is proven dead is\n"
    "recovered on the way.\n"
    "\n"
    "Raises AlreadyLocked (held, and timeout <= 0), LockTimeout (still held\n"
    "after timeout seconds), LockFailed (the lock file cannot be made; the\n"
    "OSError is its __cause__; or the caller shares the lock, and now wants it\n"
    "alone: it must release it first). A signal handler that raises ends the wait,\n"
    "and nothing is left behind.";

/* For who calls acquire() or try_acquire() itself. */
static PyObject *
acquire_or_note(PyObject *self, struct timeout *timeout, bool tries)
{
    struct caller caller;
    if (!call_find_caller(self, &caller)) {
        return NULL;
    }
    note_refused(self, &caller);
    return acquire(self, &caller, timeout, tries);
}

PyObject *
base_acquire(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct timeout timeout = {.argument = Py_None};
    return parse_timeout(args, kwargs, "|O$OO:acquire", &timeout)
               ? acquire_or_note(self, &timeout, false)
               : NULL;
}

const char try_acquire_doc[] =
    "try_acquire($self, /, timeout=0, *, on_wait=None, shared=None)\n--\n\n"
    "Lock the path if that can be done in time, and say whether it was.\n"
    "\n"
    "timeout: as of acquire(), but not to wait by default; None: what it means\n"
    "to acquire(), the attribute timeout, and if that is None too, for ever.\n"
    "on_wait, shared: as of acquire().\n"
    "\n"
    "Returns True where acquire() returns, and False where that would raise\n"
    "AlreadyLocked or LockTimeout. Raises whatever else it would raise: LockFailed,\n"
    "if the lock file cannot be made. In a subclass with an acquire() of its own it\n"
    "calls that one.";

/* NULL: none; or with an exception. */
static PyObject *
told_keywords(const struct timeout *timeout)
{
    bool tells = timeout->on_wait != NULL || timeout->shared != NULL;
    PyObject *kwargs = tells ? PyDict_New() : NULL;
    bool told = kwargs != NULL;
    if (told && timeout->on_wait != NULL) {
        told = PyDict_SetItemString(kwargs, "on_wait", timeout->on_wait) == 0;
    }
    if (told && timeout->shared != NULL) {
        told = PyDict_SetItemString(kwargs, "shared", timeout->shared) == 0;
    }
    if (!told) {
        Py_CLEAR(kwargs);
    }
    return kwargs;
}

/* It need not know of on_wait and shared, unless the caller does. NULL with an exception. */
static PyObject *
call_other_acquire(PyObject *self, const struct timeout *timeout)
{
    PyObject *acquire = PyObject_GetAttr(self, state_of(self)->acquire);
    PyObject *args =
        timeout->argument != NULL ? PyTuple_Pack(1, timeout->argument) : Py_BuildValue("(i)", 0);
    PyObject *kwargs = told_keywords(timeout);
    PyObject *result = acquire != NULL && args != NULL && !PyErr_Occurred()
                           ? PyObject_Call(acquire, args, kwargs)
                           : NULL;
    Py_XDECREF(acquire);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return result;
}

/* By another acquire() than ours. An answer as threading.Lock gives it counts as well. */
static PyObject *
try_other_acquire(PyObject *self, const struct timeout *timeout)
{
    const struct errors *errors = errors_of(self);
    PyObject *result = call_other_acquire(self, timeout);
    if (result != NULL) {
        PyObject *answer = PyBool_FromLong(result != Py_False);
        Py_DECREF(result);
        return answer;
    }
    if (PyErr_ExceptionMatches(errors->AlreadyLocked) ||
        PyErr_ExceptionMatches(errors->LockTimeout)) {
        PyErr_Clear();
        return Py_NewRef(Py_False);
    }
    return NULL;
}

PyObject *
base_try_acquire(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct timeout timeout = {.argument = NULL};
    if (!parse_timeout(args, kwargs, "|O$OO:try_acquire", &timeout)) {
        return NULL;
    }
    int is_ours = has_base_method(self, state_of(self)->acquire, WITH_KEYWORDS(base_acquire));
    if (is_ours == 0) {
        return try_other_acquire(self, &timeout);
    }
    return is_ours > 0 ? acquire_or_note(self, &timeout, true) : NULL;
}

bool
acquire_for_block(PyObject *self, const struct caller *caller, bool *acquired)
{
    struct timeout timeout = {.argument = Py_None};
    int is_ours = has_base_method(self, state_of(self)->acquire, WITH_KEYWORDS(base_acquire));
    last_acquired = NULL;
    PyObject *result = is_ours > 0    ? acquire(self, caller, &timeout, false)
                       : is_ours == 0 ? PyObject_CallMethod(self, "acquire", NULL)
                                      : NULL;
    *acquired = last_acquired == self;
    Py_XDECREF(result);
    return result != NULL;
}

/* ---- release() ---- */

const char release_doc[] =
    "release($self, /)\n--\n\n"
    "Unlock the path.\n"
    "\n"
    "Raises NotLocked (nobody holds it, or it was broken and is free again),\n"
    "NotMyLock (another owner holds it: another process, or, unless threaded is\n"
    "false, another task or thread), UnlockError (the file system failed; the\n"
    "message says whether the lock is still owned).";

bool
tell_released(PyObject *self, struct call *call, enum outcome outcome)
{
    switch (outcome) {
    case LOCK_RELEASED:
        return true;
    case LOCK_INTERRUPTED:
        if (call->attempt.leaving) {
            lock_end_block(&call->attempt);
        }
        return false;
    case LOCK_FREE:
        raise_not_locked(errors_of(self), call);
        return false;
    case LOCK_FAILED:
        call->attempt.report.releasing ? raise_failed_release(errors_of(self), call)
                                       : raise_failed_look(errors_of(self), call);
        return false;
    default:
        raise_not_mine(errors_of(self), call);
        return false;
    }
}

/* Takes the lock over. False with an exception. */
static bool
release_lock(PyObject *self, struct lock *lock, const struct caller *caller, bool leaving,
             bool forsaking)
{
    struct call call;
    call_begin_on(self, &call, lock, caller, 0);
    if (!call_is_implemented(self, &call, "release")) {
        return false;
    }
    call.attempt.leaving = leaving;
    call.attempt.forsaking = forsaking;
    bool released = tell_released(self, &call, call_run(&call, lock_release));
    call_end(&call, released ? Py_None : NULL);
    return released;
}

bool
release_as(PyObject *self, const struct caller *caller, bool leaving)
{
    struct lock *lock = share_lock(self);
    return lock != NULL && release_lock(self, lock, caller, leaving, false);
}

PyObject *
base_release(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    bool leaving = is_called_by_with(self);
    struct caller caller = ending.caller;
    bool found = leaving || call_find_caller(self, &caller);
    return found && release_as(self, &caller, leaving) ? Py_NewRef(Py_None) : NULL;
}

bool
release_for_block(PyObject *self, const struct caller *caller)
{
    int is_ours = has_base_method(self, state_of(self)->release, base_release);
    if (is_ours != 0) {
        return is_ours > 0 && release_as(self, caller, true);
    }
    const PyObject *before = ending.object;
    struct caller caller_before = ending.caller;
    ending.object = self;
    ending.caller = *caller;
    PyObject *released = PyObject_CallMethod(self, "release", NULL);
    ending.object = before;
    ending.caller = caller_before;
    Py_XDECREF(released);
    return released != NULL;
}

/* ---- Objects that go away ---- */

/* What was inherited, and nobody here has called since, is left to the process's end. */
static bool
owns_for_itself(const struct lock *lock, struct owner owner)
{
    struct table_told told;
    struct table_name name = lock_name(lock);
    return table_tell(&name, NULL, owner, &told) && !told.is_inherited;
}

static void
tell_unraisable(PyObject *self, bool done)
{
    if (!done) {
        PyErr_WriteUnraisable((PyObject *)Py_TYPE(self));
    }
}

void
release_quietly(PyObject *self, const struct caller *caller)
{
    PyObject *kind, *value, *traceback;
    PyErr_Fetch(&kind, &value, &traceback);
    tell_unraisable(self, release_as(self, caller, false));
    PyErr_Restore(kind, value, traceback);
}

/* Takes the lock over. False: it may be owned still. */
static bool
release_with_warning(PyObject *self, struct lock *lock, const struct caller *caller)
{
    const State *state = state_find(self);
    /* Without a state, or with an empty one, the interpreter is at its end, and lock_release_all()
     * is next. */
    if (state == NULL || state->LockBase == NULL) {
        lock_drop(lock);
        return false;
    }
    tell_unraisable(self, PyErr_ResourceWarning(NULL, 1,
                                                "the lock of %s was never released by its owner, "
                                                "a lock object that goes away",
                                                lock->path) == 0);
    bool released = release_lock(self, lock, caller, false, true);
    tell_unraisable(self, released);
    return released;
}

void
release_forgotten(PyObject *self, struct lock *lock, bool has_moved)
{
    if (lock == NULL || lock->ownership != OWNED_BY_OBJECT) {
        return;
    }
    PyObject *kind, *value, *traceback;
    struct owner thread = owner_calling(true);
    struct caller caller = {.owner = owner_of(lock, thread, thread)};
    PyErr_Fetch(&kind, &value, &traceback);
    bool goes_on = true;
    if (owns_for_itself(lock, caller.owner)) {
        os_mutex_lock();
        lock_share(lock);
        os_mutex_unlock();
        goes_on = release_with_warning(self, lock, &caller);
    }
    while (goes_on && has_moved && (lock = lock_owned_by(caller.owner)) != NULL) {
        goes_on = release_with_warning(self, lock, &caller);
    }
    PyErr_Restore(kind, value, traceback);
}
