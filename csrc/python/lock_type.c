#include "python/lock_type.h"

#include "python/attributes.h"
#include "python/call.h"
#include "python/construct.h"
#include "python/owner_type.h"
#include "python/steps.h"
#include "python/with.h"

#include <structmember.h>

static const struct errors *
errors_of(PyObject *self)
{
    return &state_of(self)->errors;
}

/* ---- Arguments ---- */

static bool
parse_timeout(PyObject *args, PyObject *kwargs, const char *format, struct timeout *timeout)
{
    static char *names[] = {"timeout", NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &timeout->argument);
}

/* ---- The object's end ---- */

static int
base_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((LockObject *)self)->dict);
    return 0;
}

static int
base_clear(PyObject *self)
{
    Py_CLEAR(((LockObject *)self)->dict);
    return 0;
}

/* A lock object that goes away releases nothing. */
static void
base_dealloc(PyObject *self)
{
    LockObject *object = (LockObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    Py_CLEAR(object->dict);
    if (object->lock != NULL) {
        lock_drop(object->lock);
    }
    forget_nestings(object);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

/* ---- acquire(), try_acquire() ---- */

/* tries: is content with an answer, which is then the result: who holds the lock does not matter.
 */
static PyObject *
acquire(PyObject *self, struct timeout *timeout, bool tries)
{
    struct call call;
    if (!timeout_settle(self, timeout) ||
        !call_begin(self, &call, "acquire", timeout_deadline(timeout))) {
        return NULL;
    }
    call.attempt.incurious = tries;
    PyObject *result = NULL;
    enum outcome outcome = call_run(&call, lock_acquire);
    if (outcome == LOCK_OWNED) {
        remember_acquired(self);
        result = Py_NewRef(tries ? Py_True : self);
    } else if (outcome == LOCK_HELD && tries) {
        result = Py_NewRef(Py_False);
    } else if (outcome != LOCK_INTERRUPTED) {
        raise_not_acquired(errors_of(self), &call, outcome,
                           timeout->given ? &timeout->seconds : NULL);
    }
    return call_end(&call, result);
}

PyDoc_STRVAR(acquire_doc,
             "acquire($self, /, timeout=None)\n--\n\n"
             "Lock the path, waiting while another owner holds it.\n"
             "\n"
             "timeout: seconds to wait. None: the attribute timeout, which is what the\n"
             "constructor was given, and if that is None too, for ever; float('inf')\n"
             "says for ever outright. Zero or less: do not wait. True and False say\n"
             "what they say to threading.Lock: as None, and as 0.\n"
             "\n"
             "Returns the lock itself: with lock.acquire(timeout=5) releases it once, at\n"
             "the end. So it does when the caller owns the lock already: that is not\n"
             "counted, one release() unlocks. A lock whose owner is proven dead is\n"
             "recovered on the way.\n"
             "\n"
             "Raises AlreadyLocked (held, and timeout <= 0), LockTimeout (still held\n"
             "after timeout seconds), LockFailed (the lock file cannot be made; the\n"
             "OSError is its __cause__). A signal handler that raises ends the wait,\n"
             "and nothing is left behind.");

static PyObject *
base_acquire(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct timeout timeout = {.argument = Py_None};
    return parse_timeout(args, kwargs, "|O:acquire", &timeout) ? acquire(self, &timeout, false)
                                                               : NULL;
}

PyDoc_STRVAR(try_acquire_doc,
             "try_acquire($self, /, timeout=0)\n--\n\n"
             "Lock the path if that can be done in time, and say whether it was.\n"
             "\n"
             "timeout: as of acquire(), but not to wait by default; None: what it means\n"
             "to acquire(), the attribute timeout, and if that is None too, for ever.\n"
             "\n"
             "Returns True where acquire() returns, and False where that would raise\n"
             "AlreadyLocked or LockTimeout. Raises whatever else it would raise: LockFailed,\n"
             "if the lock file cannot be made. In a subclass with an acquire() of its own it\n"
             "calls that one.");

/* Is it ours, neither a subclass's nor patched? */
static bool
is_base_acquire(PyObject *self, PyObject *method)
{
    return PyCFunction_Check(method) && PyCFunction_GetSelf(method) == self &&
           PyCFunction_GetFunction(method) == (PyCFunction)(void (*)(void))base_acquire;
}

/* By another acquire() than ours. An answer as threading.Lock gives it counts as well. */
static PyObject *
try_other_acquire(PyObject *self, PyObject *method, PyObject *timeout)
{
    const struct errors *errors = errors_of(self);
    PyObject *result = timeout != NULL ? PyObject_CallFunctionObjArgs(method, timeout, NULL)
                                       : PyObject_CallFunction(method, "i", 0);
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

static PyObject *
base_try_acquire(PyObject *self, PyObject *args, PyObject *kwargs)
{
    struct timeout timeout = {.argument = NULL};
    if (!parse_timeout(args, kwargs, "|O:try_acquire", &timeout)) {
        return NULL;
    }
    PyObject *method = PyObject_GetAttr(self, state_of(self)->acquire);
    if (method == NULL) {
        return NULL;
    }
    PyObject *result = is_base_acquire(self, method)
                           ? acquire(self, &timeout, true)
                           : try_other_acquire(self, method, timeout.argument);
    Py_DECREF(method);
    return result;
}

/* ---- The other methods ---- */

PyDoc_STRVAR(release_doc,
             "release($self, /)\n--\n\n"
             "Unlock the path.\n"
             "\n"
             "Raises NotLocked (nobody holds it, or it was broken and is free again),\n"
             "NotMyLock (another owner holds it: another process, or another thread\n"
             "unless threaded is false), UnlockError (the file system failed; the\n"
             "message says whether the lock is still owned).");

static PyObject *
base_release(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct call call;
    if (!call_begin(self, &call, "release", 0)) {
        return NULL;
    }
    call.attempt.leaving = is_called_by_with(self);
    switch (call_run(&call, lock_release)) {
    case LOCK_INTERRUPTED:
        if (call.attempt.leaving) {
            lock_end_block(&call.attempt);
        }
        return call_end(&call, NULL);
    case LOCK_RELEASED:
        return call_end(&call, Py_NewRef(Py_None));
    case LOCK_FREE:
        return call_end(&call, raise_not_locked(errors_of(self), &call));
    case LOCK_FAILED:
        return call_end(&call, call.attempt.report.releasing
                                   ? raise_failed_release(errors_of(self), &call)
                                   : raise_failed_look(errors_of(self), &call));
    default:
        return call_end(&call, raise_not_mine(errors_of(self), &call));
    }
}

PyDoc_STRVAR(is_locked_doc,
             "is_locked($self, /)\n--\n\n"
             "Whether anybody holds the lock.\n"
             "\n"
             "False when its owner is proven dead, and in a directory that does not\n"
             "exist. Raises UnlockError if the file system fails.");

PyDoc_STRVAR(i_am_locking_doc,
             "i_am_locking($self, /)\n--\n\n"
             "Whether the caller holds the lock: this process and, when threaded, this\n"
             "thread, by this lock object or by another on the same path.\n"
             "\n"
             "Raises UnlockError if the file system fails.");

static PyObject *
look(PyObject *self, const char *method, bool mine)
{
    struct call call;
    if (!call_begin(self, &call, method, 0)) {
        return NULL;
    }
    enum outcome outcome = call_run(&call, lock_look);
    if (outcome == LOCK_INTERRUPTED) {
        return call_end(&call, NULL);
    }
    if (outcome == LOCK_FAILED) {
        return call_end(&call, raise_failed_look(errors_of(self), &call));
    }
    bool answer = outcome == LOCK_OWNED || (!mine && outcome == LOCK_HELD);
    return call_end(&call, PyBool_FromLong(answer));
}

static PyObject *
base_is_locked(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return look(self, "is_locked", false);
}

static PyObject *
base_i_am_locking(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return look(self, "i_am_locking", true);
}

PyDoc_STRVAR(break_lock_doc,
             "break_lock($self, /)\n--\n\n"
             "Remove the lock, whoever owns it.\n"
             "\n"
             "After a LockTimeout of this object, that is the lock which it waited for\n"
             "all the time: if another has taken its place, nothing is removed. Otherwise\n"
             "it is the lock that is there now. Does nothing if there is none.\n"
             "\n"
             "A live owner is not told before its release(), which then raises NotLocked\n"
             "or NotMyLock. Raises UnlockError if the lock file cannot be removed.");

static PyObject *
base_break_lock(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct call call;
    if (!call_begin(self, &call, "break_lock", 0)) {
        return NULL;
    }
    enum outcome outcome = call_run(&call, lock_break);
    if (outcome == LOCK_FREE) {
        return call_end(&call, Py_NewRef(Py_None));
    }
    return call_end(
        &call, outcome == LOCK_INTERRUPTED ? NULL : raise_failed_break(errors_of(self), &call));
}

PyDoc_STRVAR(owner_doc, "owner($self, /)\n--\n\n"
                        "Who holds the lock, as an Owner, or None if nobody does.\n"
                        "\n"
                        "Its fields are None where they are not known, as for a lock file that\n"
                        "another program made. Raises UnlockError if the file system fails.");

static PyObject *
base_owner(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct call call;
    if (!call_begin(self, &call, "owner", 0)) {
        return NULL;
    }
    switch (call_run(&call, lock_identify)) {
    case LOCK_INTERRUPTED:
        return call_end(&call, NULL);
    case LOCK_FREE:
        return call_end(&call, Py_NewRef(Py_None));
    case LOCK_FAILED:
        return call_end(&call, raise_failed_look(errors_of(self), &call));
    default:
        return call_end(&call, owner_new(state_of(self)->Owner, &call.attempt.report.holder));
    }
}

PyDoc_STRVAR(fileno_doc,
             "fileno($self, /)\n--\n\n"
             "The descriptor that keeps the caller's lock alive, so that a program that\n"
             "closes all others can spare it.\n"
             "\n"
             "Raises NotLocked or NotMyLock unless the caller holds the lock, and\n"
             "UnlockError if the file system fails.");

static PyObject *
base_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct call call;
    if (!call_begin(self, &call, "fileno", 0)) {
        return NULL;
    }
    switch (call_run(&call, lock_identify)) {
    case LOCK_INTERRUPTED:
        return call_end(&call, NULL);
    case LOCK_OWNED: {
        int descriptor = call_descriptor(&call);
        return call_end(&call, descriptor >= 0 ? PyLong_FromLong(descriptor)
                                               : raise_not_locked(errors_of(self), &call));
    }
    case LOCK_FAILED:
        return call_end(&call, raise_failed_look(errors_of(self), &call));
    case LOCK_HELD:
        return call_end(&call, raise_not_mine(errors_of(self), &call));
    default:
        return call_end(&call, raise_not_locked(errors_of(self), &call));
    }
}

static bool
is_initialised(PyObject *self)
{
    os_mutex_lock();
    bool is = ((LockObject *)self)->lock != NULL;
    os_mutex_unlock();
    return is;
}

static PyObject *
base_repr(PyObject *self)
{
    PyObject *type = PyType_GetName(Py_TYPE(self));
    PyObject *unique_name = NULL, *path = NULL, *text = NULL;
    if (type != NULL && !is_initialised(self)) {
        text = PyUnicode_FromFormat("<%U: never initialised>", type);
    } else if (type != NULL && (unique_name = get_unique_name(self, "unique_name")) != NULL &&
               (path = get_path(self, NULL)) != NULL) {
        text = PyUnicode_FromFormat("<%U: %R -- %R>", type, unique_name, path);
    }
    Py_XDECREF(type);
    Py_XDECREF(unique_name);
    Py_XDECREF(path);
    return text;
}

/* ---- The type ---- */

PyDoc_STRVAR(reduce_doc,
             "__reduce__($self, /)\n--\n\n"
             "For copy and pickle: what the constructor was given, the lock file that it\n"
             "meant, and __getstate__(). A copy owns nothing by itself.");

PyDoc_STRVAR(enter_doc, "__enter__($self, /)\n--\n\n"
                        "acquire(), with the attribute timeout; the value is the lock itself.");

PyDoc_STRVAR(exit_doc, "__exit__($self, /, *exception)\n--\n\n"
                       "release(), unless an outer with block of the same owner still runs.");

/* What coroutines do is written in Python, and imported when it is used first. The state keeps it.
 * NULL with an exception. */
static PyObject *
waiting_module(State *state)
{
    os_mutex_lock();
    PyObject *module = state->waiting;
    os_mutex_unlock();
    if (module != NULL) {
        return module;
    }
    PyObject *imported = PyImport_ImportModule("lockfile._waiting");
    os_mutex_lock();
    if (state->waiting == NULL) { /* no other thread was faster */
        state->waiting = imported;
        imported = NULL;
    }
    module = state->waiting;
    os_mutex_unlock();
    Py_XDECREF(imported);
    return module;
}

/* Passes on the object and the arguments. */
static PyObject *
call_waiting(PyObject *self, const char *name, PyObject *args, PyObject *kwargs)
{
    PyObject *module = waiting_module(state_of(self));
    PyObject *function = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
    Py_ssize_t count = PyTuple_Size(args);
    PyObject *all = function != NULL ? PyTuple_New(count + 1) : NULL;
    if (all != NULL) {
        PyTuple_SetItem(all, 0, Py_NewRef(self));
        for (Py_ssize_t i = 0; i < count; i++) {
            PyTuple_SetItem(all, i + 1, Py_NewRef(PyTuple_GetItem(args, i)));
        }
    }
    PyObject *coroutine = all != NULL ? PyObject_Call(function, all, kwargs) : NULL;
    Py_XDECREF(function);
    Py_XDECREF(all);
    return coroutine;
}

PyDoc_STRVAR(acquire_async_doc,
             "acquire_async($self, /, timeout=None)\n--\n\n"
             "Await it: acquire(), letting other tasks run while it waits.\n"
             "\n"
             "The argument, what it returns and what it raises are those of acquire().\n"
             "The owner is the task that awaits. Cancelled, it leaves nothing behind.");

static PyObject *
base_acquire_async(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return call_waiting(self, "acquire", args, kwargs);
}

PyDoc_STRVAR(aenter_doc, "__aenter__($self, /)\n--\n\n"
                         "acquire_async(), with the attribute timeout; the value is the lock.");

static PyObject *
base_aenter(PyObject *self, PyObject *args)
{
    return call_waiting(self, "enter", args, NULL);
}

PyDoc_STRVAR(aexit_doc, "__aexit__($self, /, *exception)\n--\n\n"
                        "release(), unless an outer block of the same owner still runs.");

static PyObject *
base_aexit(PyObject *self, PyObject *args)
{
    return call_waiting(self, "leave", args, NULL);
}

static PyObject *
base_begin_acquire(PyObject *self, PyObject *timeout)
{
    return steps_begin(self, timeout);
}

static PyMethodDef base_methods[] = {
    {"acquire_async", (PyCFunction)(void (*)(void))base_acquire_async, METH_VARARGS | METH_KEYWORDS,
     acquire_async_doc},
    {"__aenter__", base_aenter, METH_VARARGS, aenter_doc},
    {"__aexit__", base_aexit, METH_VARARGS, aexit_doc},
    {"_begin_acquire", base_begin_acquire, METH_O, PyDoc_STR("For coroutines.")},
    {"_count_block", base_count_block, METH_NOARGS, PyDoc_STR("For coroutines.")},
    {"acquire", (PyCFunction)(void (*)(void))base_acquire, METH_VARARGS | METH_KEYWORDS,
     acquire_doc},
    {"try_acquire", (PyCFunction)(void (*)(void))base_try_acquire, METH_VARARGS | METH_KEYWORDS,
     try_acquire_doc},
    {"release", base_release, METH_NOARGS, release_doc},
    {"is_locked", base_is_locked, METH_NOARGS, is_locked_doc},
    {"i_am_locking", base_i_am_locking, METH_NOARGS, i_am_locking_doc},
    {"break_lock", base_break_lock, METH_NOARGS, break_lock_doc},
    {"owner", base_owner, METH_NOARGS, owner_doc},
    {"fileno", base_fileno, METH_NOARGS, fileno_doc},
    {"__enter__", base_enter, METH_NOARGS, enter_doc},
    {"__exit__", base_exit, METH_VARARGS, exit_doc},
    {"__reduce__", base_reduce, METH_NOARGS, reduce_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef base_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(LockObject, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(LockObject, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(base_doc,
             "LockBase(path, threaded=True, timeout=None, *, lock_file=None)\n--\n\n"
             "What all locks have in common, to be subclassed in Python: a subclass\n"
             "implements acquire(timeout=None), release(), is_locked(), i_am_locking()\n"
             "and break_lock(); what it does not, raises NotImplementedError. with blocks\n"
             "call the subclass's acquire() and release(). Making one touches no file.\n"
             "\n"
             "path: what to protect (str, bytes or os.PathLike); it need not exist.\n"
             "threaded: whether each thread is an owner of its own, or the process is one.\n"
             "timeout: seconds that acquire() and with wait by default; None: for ever.\n"
             "lock_file: what the attribute lock_file says; None: abspath(path) + '.lock'.");

static PyType_Slot base_slots[] = {
    {Py_tp_doc, (void *)base_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, base_init},
    {Py_tp_dealloc, base_dealloc},
    {Py_tp_traverse, base_traverse},
    {Py_tp_clear, base_clear},
    {Py_tp_repr, base_repr},
    {Py_tp_methods, base_methods},
    {Py_tp_getset, base_attributes},
    {Py_tp_members, base_members},
    {0, NULL},
};

PyType_Spec base_spec = {
    .name = "lockfile.LockBase",
    .basicsize = sizeof(LockObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = base_slots,
};
