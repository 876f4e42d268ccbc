/* LockBase, with all methods and attributes of all lock classes.
 *
 * What a lock does is told in lock.h; here its outcomes become return values and
 * exceptions. The GIL is released once per method, around all that touches the
 * file system. Two rooms beside this: how an object is made and copied (making.c), and
 * with blocks (with.c). */
#include "python/state.h"

#include <structmember.h>

#include <math.h>

static const struct errors *
errors_of(PyObject *self)
{
    return &state_of(self)->errors;
}

/* ---- Arguments ---- */

/* 0: now. Rounded up, since a wait must not end early. */
static int64_t
deadline_in(double seconds)
{
    if (seconds <= 0) {
        return 0;
    }
    double nanoseconds = ceil(seconds * 1e9);
    return nanoseconds >= 9.2e18 - (double)os_now() ? OS_NEVER : os_now() + (int64_t)nanoseconds;
}

/* ---- LockBase: unmaking ---- */

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
    if (object->weak_references != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    Py_CLEAR(object->dict);
    if (object->lock != NULL) {
        lock_drop(object->lock);
    }
    forget_nestings(object);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

/* ---- Calling what lock.h offers ---- */

/* Raises a message about the object's type. */
static void
complain(PyObject *exception, PyObject *self, const char *format, const char *method)
{
    PyObject *name = PyType_GetName(Py_TYPE(self));
    if (name != NULL) {
        PyErr_Format(exception, format, name, method);
        Py_DECREF(name);
    }
}

/* The object's lock, shared: __init__ may be called again meanwhile. NULL with an exception. */
struct lock *
share_lock(PyObject *self)
{
    os_lock();
    struct lock *lock = ((LockObject *)self)->lock;
    if (lock != NULL) {
        lock->references++;
    }
    os_unlock();
    if (lock == NULL) {
        complain(PyExc_RuntimeError, self, "%U.__init__() was not called", "");
    }
    return lock;
}

/* Shares the lock until end(). False with an exception: the object has none. */
bool
begin_any(PyObject *self, struct call *call, int64_t deadline)
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return false;
    }
    attempt_begin(&call->attempt, lock, deadline);
    PyObject *pool = state_of(self)->pool;
    call->caller = (struct caller){.pool = pool ? pool_of(pool) : NULL};
    call->attempt.caller = &call->caller;
    return true;
}

PyObject *
end(struct call *call, PyObject *result)
{
    PyObject *error = call->caller.error;
    if (result == NULL && error != NULL && !PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error); /* KeyboardInterrupt is no failure */
    }
    Py_XDECREF(error);
    lock_drop(call->attempt.lock);
    return result;
}

static bool
begin(PyObject *self, struct call *call, const char *method, int64_t deadline)
{
    if (!begin_any(self, call, deadline)) {
        return false;
    }
    if (call->attempt.lock->mechanism == NULL) {
        complain(PyExc_NotImplementedError, self, "%U does not implement %s()", method);
        end(call, NULL);
        return false;
    }
    return true;
}

enum outcome
run(struct call *call, enum outcome (*operation)(struct attempt *attempt))
{
    struct attempt *attempt = &call->attempt;
    enum outcome outcome;
    bool raised = false;
    do {
        caller_leave(&call->caller);
        outcome = operation(attempt);
        if (outcome != LOCK_INTERRUPTED) {
            attempt_end(attempt);
        }
        caller_return(&call->caller);
        if (outcome == LOCK_INTERRUPTED && PyErr_CheckSignals() != 0) {
            attempt_end(attempt);
            raised = true;
        }
    } while (outcome == LOCK_INTERRUPTED && !raised);
    return outcome;
}

/* ---- LockBase: attributes that may be assigned ---- */

/* As programs do with the classic package's.
 * What they are then lives in __dict__ and changes nothing but what they say. */
static PyObject *
assigned(PyObject *self, const char *name)
{
    if (((LockObject *)self)->dict == NULL) {
        return NULL;
    }
    PyObject *dict = PyObject_GenericGetDict(self, NULL);
    PyObject *key = dict != NULL ? PyUnicode_FromString(name) : NULL;
    PyObject *value = NULL;
    if (key != NULL) {
        /* At one go, since other threads may delete it; nobody has assigned this very key. */
        value = PyObject_CallMethod((PyObject *)&PyDict_Type, "get", "OOO", dict, key, key);
    }
    if (value != NULL && value == key) {
        Py_DECREF(value);
        value = NULL;
    }
    Py_XDECREF(dict);
    Py_XDECREF(key);
    return value;
}

static int
assign(PyObject *self, PyObject *value, void *name)
{
    PyObject *dict = PyObject_GenericGetDict(self, NULL);
    if (dict == NULL) {
        return -1;
    }
    int result =
        value != NULL ? PyDict_SetItemString(dict, name, value) : PyDict_DelItemString(dict, name);
    Py_DECREF(dict);
    if (value == NULL && result < 0 && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Format(PyExc_AttributeError, "%s was not assigned", (const char *)name);
    }
    return result;
}

/* What the constructor was given. */
PyObject *
constructor_timeout(const LockObject *object)
{
    os_lock();
    bool given = object->has_timeout;
    double seconds = object->timeout;
    os_unlock();
    return given ? PyFloat_FromDouble(seconds) : Py_NewRef(Py_None);
}

static PyObject *
get_timeout(PyObject *self, void *closure)
{
    PyObject *value = assigned(self, closure);
    return value != NULL || PyErr_Occurred() ? value : constructor_timeout((LockObject *)self);
}

static int
set_timeout(PyObject *self, PyObject *value, void *closure)
{
    bool given;
    double seconds;
    return value == NULL || read_timeout(value, &given, &seconds) ? assign(self, value, closure)
                                                                  : -1;
}

/* ---- LockBase: methods ---- */

static bool
read_acquire_arguments(PyObject *self, PyObject *args, PyObject *kwargs, int64_t *deadline)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    bool given;
    double seconds = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:acquire", names, &timeout) ||
        !read_timeout(timeout, &given, &seconds)) {
        return false;
    }
    /* To who knows threading.Lock, True says to wait, and False not to. */
    if (!given || timeout == Py_True) {
        /* Whatever the object says that it is: a subclass may have an attribute of its own. */
        PyObject *own = PyObject_GetAttr(self, state_of(self)->timeout);
        if (own == NULL || !read_timeout(own, &given, &seconds)) {
            Py_XDECREF(own);
            return false;
        }
        Py_DECREF(own);
    }
    *deadline = given ? deadline_in(seconds) : OS_NEVER;
    return true;
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
    struct call call;
    int64_t deadline;
    if (!read_acquire_arguments(self, args, kwargs, &deadline) ||
        !begin(self, &call, "acquire", deadline)) {
        return NULL;
    }
    enum outcome outcome = run(&call, lock_acquire);
    if (outcome == LOCK_OWNED) {
        remember_acquired(self);
        return end(&call, Py_NewRef(self));
    }
    return end(&call, outcome == LOCK_INTERRUPTED
                          ? NULL
                          : raise_not_acquired(errors_of(self), &call.attempt, outcome));
}

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
    if (!begin(self, &call, "release", 0)) {
        return NULL;
    }
    call.attempt.leaving = is_called_by_with(self);
    switch (run(&call, lock_release)) {
    case LOCK_INTERRUPTED:
        if (call.attempt.leaving) {
            lock_end_block(&call.attempt);
        }
        return end(&call, NULL);
    case LOCK_RELEASED:
        return end(&call, Py_NewRef(Py_None));
    case LOCK_FREE:
        return end(&call, raise_not_locked(errors_of(self), &call.attempt));
    case LOCK_FAILED:
        return end(&call, call.attempt.report.releasing
                              ? raise_failed_release(errors_of(self), &call.attempt)
                              : raise_failed_look(errors_of(self), &call.attempt));
    default:
        return end(&call, raise_not_mine(errors_of(self), &call.attempt));
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
    if (!begin(self, &call, method, 0)) {
        return NULL;
    }
    enum outcome outcome = run(&call, lock_look);
    if (outcome == LOCK_INTERRUPTED) {
        return end(&call, NULL);
    }
    if (outcome == LOCK_FAILED) {
        return end(&call, raise_failed_look(errors_of(self), &call.attempt));
    }
    bool answer = outcome == LOCK_OWNED || (!mine && outcome == LOCK_HELD);
    return end(&call, PyBool_FromLong(answer));
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
    if (!begin(self, &call, "break_lock", 0)) {
        return NULL;
    }
    if (run(&call, lock_break) == LOCK_FREE) {
        return end(&call, Py_NewRef(Py_None));
    }
    return end(&call, raise_failed_break(errors_of(self), &call.attempt));
}

PyDoc_STRVAR(owner_doc, "owner($self, /)\n--\n\n"
                        "Who holds the lock, as an Owner, or None if nobody does.\n"
                        "\n"
                        "Its fields are None where they are not known, as for a lock file that\n"
                        "another program made. Raises UnlockError if the file system fails.");

static PyObject *
make_owner(const State *state, const struct holder *holder)
{
    const struct owner_name *name = &holder->name;
    PyObject *fields[4] = {NULL, NULL, NULL, NULL};
    if (holder->known) {
        fields[0] = decode(name->host);
        fields[1] = PyLong_FromLong(name->process);
        fields[2] = name->thread != 0 ? PyLong_FromUnsignedLongLong(name->thread) : NULL;
    }
    fields[3] = holder->life == LIFE_UNKNOWN ? NULL : PyBool_FromLong(holder->life == LIFE_ALIVE);
    PyObject *owner = PyErr_Occurred() ? NULL : PyStructSequence_New(state->Owner);
    for (Py_ssize_t i = 0; i < 4; i++) {
        if (owner == NULL) {
            Py_XDECREF(fields[i]);
        } else {
            PyStructSequence_SetItem(owner, i, fields[i] ? fields[i] : Py_NewRef(Py_None));
        }
    }
    return owner;
}

static PyObject *
base_owner(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct call call;
    if (!begin(self, &call, "owner", 0)) {
        return NULL;
    }
    switch (run(&call, lock_identify)) {
    case LOCK_INTERRUPTED:
        return end(&call, NULL);
    case LOCK_FREE:
        return end(&call, Py_NewRef(Py_None));
    case LOCK_FAILED:
        return end(&call, raise_failed_look(errors_of(self), &call.attempt));
    default:
        return end(&call, make_owner(state_of(self), &call.attempt.report.holder));
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
    if (!begin(self, &call, "fileno", 0)) {
        return NULL;
    }
    switch (run(&call, lock_identify)) {
    case LOCK_INTERRUPTED:
        return end(&call, NULL);
    case LOCK_OWNED: {
        caller_leave(&call.caller);
        int descriptor = lock_descriptor(&call.attempt); /* which may look again */
        attempt_end(&call.attempt);
        caller_return(&call.caller);
        return end(&call, descriptor >= 0 ? PyLong_FromLong(descriptor)
                                          : raise_not_locked(errors_of(self), &call.attempt));
    }
    case LOCK_FAILED:
        return end(&call, raise_failed_look(errors_of(self), &call.attempt));
    case LOCK_HELD:
        return end(&call, raise_not_mine(errors_of(self), &call.attempt));
    default:
        return end(&call, raise_not_locked(errors_of(self), &call.attempt));
    }
}

/* ---- LockBase: attributes ---- */

static PyObject *
share_text(PyObject *self, size_t offset)
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    PyObject *text = decode((const char *)lock + offset);
    lock_drop(lock);
    return text;
}

PyObject *
get_path(PyObject *self, void *Py_UNUSED(closure))
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    PyObject *path = decode(lock->path);
    lock_drop(lock);
    return path;
}

PyObject *
get_lock_file(PyObject *self, void *Py_UNUSED(closure))
{
    return share_text(self, offsetof(struct lock, lock_file));
}

PyObject *
get_database(PyObject *self, void *Py_UNUSED(closure))
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    PyObject *database = decode(lock->database);
    lock_drop(lock);
    return database;
}

static PyObject *
get_hostname(PyObject *self, void *Py_UNUSED(closure))
{
    return share_text(self, offsetof(struct lock, host));
}

static PyObject *
get_unique_name(PyObject *self, void *closure)
{
    struct call call;
    char name[OWNER_NAME_SIZE];
    PyObject *value = assigned(self, closure);
    if (value != NULL || PyErr_Occurred() || !begin_any(self, &call, 0)) {
        return value;
    }
    const struct lock *lock = call.attempt.lock;
    caller_leave(&call.caller);
    bool inside = lock_unique_name(&call.attempt, name);
    attempt_end(&call.attempt);
    caller_return(&call.caller);
    PyObject *place = decode(inside ? lock->lock_file : lock->directory);
    PyObject *base = decode(name);
    if (place != NULL && base != NULL) {
        value = PyUnicode_FromFormat(inside ? "%U/%U" : "%U%U", place, base);
    }
    Py_XDECREF(place);
    Py_XDECREF(base);
    return end(&call, value);
}

static PyObject *
get_pid(PyObject *self, void *closure)
{
    PyObject *value = assigned(self, closure);
    return value != NULL || PyErr_Occurred() ? value : PyLong_FromLong(os_process());
}

PyObject *
get_threaded(PyObject *self, void *Py_UNUSED(closure))
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    bool threaded = lock->threaded;
    lock_drop(lock);
    return PyBool_FromLong(threaded);
}

static PyObject *
base_repr(PyObject *self)
{
    PyObject *type = PyType_GetName(Py_TYPE(self));
    PyObject *unique_name = NULL, *path = NULL, *text = NULL;
    if (type != NULL && ((LockObject *)self)->lock == NULL) {
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

/* ---- The types ---- */

PyDoc_STRVAR(reduce_doc,
             "__reduce__($self, /)\n--\n\n"
             "For copy and pickle: what the constructor was given, the lock file that it\n"
             "meant, and __getstate__(). A copy owns nothing by itself.");

PyDoc_STRVAR(enter_doc, "__enter__($self, /)\n--\n\n"
                        "acquire(), with the attribute timeout; the value is the lock itself.");

PyDoc_STRVAR(exit_doc, "__exit__($self, /, *exception)\n--\n\n"
                       "release(), unless an outer with block of the same owner still runs.");

static PyMethodDef base_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))base_acquire, METH_VARARGS | METH_KEYWORDS,
     acquire_doc},
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

static PyGetSetDef base_attributes[] = {
    {"path", get_path, NULL, "What is protected, as given to the constructor; a str.", NULL},
    {"lock_file", get_lock_file, NULL,
     "The lock file: abspath(path) + '.lock', fixed when the "
     "lock object was made.",
     NULL},
    {"unique_name", get_unique_name, assign,
     "The caller's own file beside the lock file, absolute: HOSTNAME-THREADID-PID.", "unique_name"},
    {"hostname", get_hostname, NULL, "This host's name, as in unique_name.", NULL},
    {"pid", get_pid, assign, "The calling process's number.", "pid"},
    {"threaded", get_threaded, NULL, "Whether each thread is an owner of its own.", NULL},
    {"timeout", get_timeout, set_timeout,
     "Seconds that acquire() and with wait by default; None: for ever.", "timeout"},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef base_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(LockObject, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(LockObject, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(base_doc,
             "LockBase(path, threaded=True, timeout=None)\n--\n\n"
             "What all locks have in common, to be subclassed in Python: a subclass\n"
             "implements acquire(timeout=None), release(), is_locked(), i_am_locking()\n"
             "and break_lock(); what it does not, raises NotImplementedError. with blocks\n"
             "call the subclass's acquire() and release(). Making one touches no file.\n"
             "\n"
             "path: what to protect (str, bytes or os.PathLike); it need not exist.\n"
             "threaded: whether each thread is an owner of its own, or the process is one.\n"
             "timeout: seconds that acquire() and with wait by default; None: for ever.");

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
