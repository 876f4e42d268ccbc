#include "python/lock_type.h"

#include "python/attributes.h"
#include "python/awaiting.h"
#include "python/call.h"
#include "python/construct.h"
#include "python/locking.h"
#include "python/owner_type.h"
#include "python/steps_type.h"
#include "python/with.h"

#include <structmember.h>

static const struct errors *
errors_of(PyObject *self)
{
    return &state_of(self)->errors;
}

/* ---- The object's end ---- */

static int
base_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((LockObject *)self)->dict);
    Py_VISIT(((LockObject *)self)->on_wait);
    return 0;
}

static int
base_clear(PyObject *self)
{
    Py_CLEAR(((LockObject *)self)->dict);
    Py_CLEAR(((LockObject *)self)->on_wait);
    return 0;
}

/* A lock object that goes away releases nothing, unless it is the owner itself. */
static void
base_dealloc(PyObject *self)
{
    LockObject *object = (LockObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    release_forgotten(self, object->lock);
    Py_CLEAR(object->dict);
    Py_CLEAR(object->on_wait);
    if (object->lock != NULL) {
        lock_drop(object->lock);
    }
    forget_nestings(object);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

/* ---- What looks, and what breaks ---- */

PyDoc_STRVAR(is_locked_doc,
             "is_locked($self, /)\n--\n\n"
             "Whether anybody holds the lock.\n"
             "\n"
             "False when its owner is proven dead, and in a directory that does not\n"
             "exist. Raises UnlockError if the file system fails.");

PyDoc_STRVAR(i_am_locking_doc,
             "i_am_locking($self, /)\n--\n\n"
             "Whether the caller holds the lock: this task, greenlet or thread, or, as the\n"
             "constructor was told, this process or this lock object; by this lock object or\n"
             "by another on the same path.\n"
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
        return call_end(&call, owner_new_in_full(state_of(self)->Owner, &call.attempt));
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

PyDoc_STRVAR(aenter_doc,
             "__aenter__($self, /)\n--\n\n"
             "Await it: acquire_async(), with the attribute timeout; the value is the lock.");

PyDoc_STRVAR(aexit_doc, "__aexit__($self, /, *exception)\n--\n\n"
                        "Await it: release(), unless an outer block of the same owner still\n"
                        "runs.");

#define WITH_KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef base_methods[] = {
    {"acquire", WITH_KEYWORDS(base_acquire), METH_VARARGS | METH_KEYWORDS, acquire_doc},
    {"try_acquire", WITH_KEYWORDS(base_try_acquire), METH_VARARGS | METH_KEYWORDS, try_acquire_doc},
    {"acquire_async", WITH_KEYWORDS(base_acquire_async), METH_VARARGS | METH_KEYWORDS,
     acquire_async_doc},
    {"acquire_in_steps", WITH_KEYWORDS(base_acquire_in_steps), METH_VARARGS | METH_KEYWORDS,
     acquire_in_steps_doc},
    {"_enter_in_steps", base_enter_in_steps, METH_O, enter_in_steps_doc},
    {"release", base_release, METH_NOARGS, release_doc},
    {"is_locked", base_is_locked, METH_NOARGS, is_locked_doc},
    {"i_am_locking", base_i_am_locking, METH_NOARGS, i_am_locking_doc},
    {"break_lock", base_break_lock, METH_NOARGS, break_lock_doc},
    {"owner", base_owner, METH_NOARGS, owner_doc},
    {"fileno", base_fileno, METH_NOARGS, fileno_doc},
    {"__enter__", base_enter, METH_NOARGS, enter_doc},
    {"__exit__", base_exit, METH_VARARGS, exit_doc},
    {"__aenter__", base_aenter, METH_NOARGS, aenter_doc},
    {"__aexit__", base_aexit, METH_VARARGS, aexit_doc},
    {"_exit_in_steps", base_exit_in_steps, METH_VARARGS,
     PyDoc_STR("_exit_in_steps($self, /, *exception)\n--\n\nThe end of a block, in steps.")},
    {"_begin_block", base_begin_block, METH_O, PyDoc_STR("For coroutines.")},
    {"__reduce__", base_reduce, METH_NOARGS, reduce_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef base_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(LockObject, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(LockObject, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(base_doc,
             "LockBase(path, threaded=True, timeout=None, *, lock_file=None, owner=None, "
             "on_wait=None)\n--\n\n"
             "What all locks have in common, to be subclassed in Python: a subclass\n"
             "implements acquire(timeout=None), release(), is_locked(), i_am_locking()\n"
             "and break_lock(); what it does not, raises NotImplementedError. with blocks\n"
             "call the subclass's acquire() and release(). Making one touches no file.\n"
             "\n"
             "path: what to protect (str, bytes or os.PathLike); it need not exist.\n"
             "threaded: whether each thread is an owner of its own, or the process is one.\n"
             "timeout: seconds that acquire() and with wait by default; None: for ever.\n"
             "lock_file: what the attribute lock_file says; None: abspath(path) + '.lock'.\n"
             "owner: 'task', 'thread', 'process' or 'object': see LinkFileLock.\n"
             "on_wait: what the attribute on_wait says; a subclass's acquire() calls it.");

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
