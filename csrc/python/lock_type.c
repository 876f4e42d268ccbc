#include "python/lock_type.h"

#include "python/attributes.h"
#include "python/awaiting.h"
#include "python/call.h"
#include "python/construct.h"
#include "python/locking.h"
#include "python/owner_type.h"
#include "python/scheme.h"
#include "python/steps_type.h"
#include "python/with.h"

#include <errno.h>
#include <string.h>
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
    Py_VISIT(((LockObject *)self)->path);
    for (int i = 0; i < TOLD_COUNT; i++) {
        Py_VISIT(((LockObject *)self)->told[i]);
    }
    return 0;
}

static int
base_clear(PyObject *self)
{
    Py_CLEAR(((LockObject *)self)->dict);
    Py_CLEAR(((LockObject *)self)->on_wait);
    for (int i = 0; i < TOLD_COUNT; i++) {
        Py_CLEAR(((LockObject *)self)->told[i]);
    }
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
    release_forgotten(self, object->lock, object->has_moved);
    base_clear(self);
    Py_CLEAR(object->path);
    if (object->made != NULL) {
        lock_drop(object->made);
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
    bool held = outcome == LOCK_HELD && (!mine || call.attempt.report.mine);
    bool answer = outcome == LOCK_OWNED || held;
    return call_end(&call, PyBool_FromLong(answer));
}

static PyObject *
base_is_locked(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return look(self, "is_locked", false);
}

PyObject *
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

/* More are not listed. */
#define MOST_OWNERS 1024

PyDoc_STRVAR(owners_doc, "owners($self, /)\n--\n\n"
                         "All who hold the lock, as a list of Owners: several, if they share it.\n"
                         "\n"
                         "Raises UnlockError if the file system fails.");

/* Takes the owner, which may be NULL, over. False with an exception. */
static bool
add_owner(PyObject *list, PyObject *owner)
{
    bool added = owner != NULL && PyList_Append(list, owner) == 0;
    Py_XDECREF(owner);
    return added;
}

/* Of one who shares what was looked at, that is known of it. */
static void
tell_reader(struct call *call, struct os_reader reader)
{
    struct holder *holder = &call->attempt.report.holder;
    const char *host = call->attempt.lock->host;
    holder->known = lock_is_host(host, reader);
    holder->life = LIFE_ALIVE;
    holder->name = (struct name){.thread = reader.thread, .process = reader.process};
    memcpy(holder->name.host, host, OS_HOST_SIZE);
}

/* NULL with an exception. */
static PyObject *
list_owners(PyObject *self, struct call *call)
{
    struct os_reader readers[MOST_OWNERS];
    PyTypeObject *Owner = state_of(self)->Owner;
    bool is_shared = call->attempt.report.holder.is_shared;
    unsigned count = is_shared ? call_list_readers(call, readers, MOST_OWNERS) : 0;
    PyObject *list = PyList_New(0);
    bool listed = list != NULL;
    if (listed && count == 0) { /* or it cannot be told who shares it */
        listed = add_owner(list, owner_new_in_full(Owner, &call->attempt));
    }
    for (unsigned i = 0; listed && i < count; i++) {
        tell_reader(call, readers[i]);
        listed = add_owner(list, owner_new_in_full(Owner, &call->attempt));
    }
    if (!listed) {
        Py_CLEAR(list);
    }
    return list;
}

static PyObject *
base_owners(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct call call;
    if (!call_begin(self, &call, "owners", 0)) {
        return NULL;
    }
    switch (call_run(&call, lock_identify)) {
    case LOCK_INTERRUPTED:
        return call_end(&call, NULL);
    case LOCK_FREE:
        return call_end(&call, PyList_New(0));
    case LOCK_FAILED:
        return call_end(&call, raise_failed_look(errors_of(self), &call));
    default:
        return call_end(&call, list_owners(self, &call));
    }
}

PyDoc_STRVAR(downgrade_doc,
             "downgrade($self, /)\n--\n\n"
             "Share the lock that the caller holds alone, without a moment in which nobody\n"
             "holds it.\n"
             "\n"
             "Those who wait to share it come in. There is no way back but release(). Does\n"
             "nothing if it is shared already. Raises NotLocked or NotMyLock unless the\n"
             "caller holds the lock, and LockFailed if it cannot be shared.");

static PyObject *
base_downgrade(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct call call;
    if (!call_begin(self, &call, "downgrade", 0)) {
        return NULL;
    }
    switch (call_run(&call, lock_downgrade)) {
    case LOCK_INTERRUPTED:
        return call_end(&call, NULL);
    case LOCK_OWNED:
        return call_end(&call, Py_NewRef(Py_None));
    case LOCK_FAILED:
        return call_end(&call, call.attempt.report.releasing
                                   ? raise_failed_downgrade(errors_of(self), &call)
                                   : raise_failed_look(errors_of(self), &call));
    case LOCK_HELD:
        return call_end(&call, raise_not_mine(errors_of(self), &call));
    default:
        return call_end(&call, raise_not_locked(errors_of(self), &call));
    }
}

PyDoc_STRVAR(fileno_doc,
             "fileno($self, /)\n--\n\n"
             "The descriptor that keeps the caller's lock alive, so that a program that\n"
             "closes all others can spare it.\n"
             "\n"
             "Raises NotLocked or NotMyLock unless the caller holds the lock, and\n"
             "UnlockError if the file system fails, and always on Windows: what keeps a lock\n"
             "alive there is no descriptor.");

/* A number that is no descriptor might be another file's. */
static PyObject *
refuse_descriptor(PyObject *self, struct call *call)
{
    call->attempt.report = (struct report){
        .error = ENOSYS,
        .doing = "tell its descriptor",
        .reason = "what keeps it alive is none on this system",
    };
    return raise_failed_look(errors_of(self), call);
}

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
        if (!os_has_descriptors) {
            return call_end(&call, refuse_descriptor(self, &call));
        }
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

PyDoc_STRVAR(set_inheritable_doc,
             "set_inheritable($self, inheritable, /)\n--\n\n"
             "Whether child processes keep the caller's lock, too: forked ones, and programs\n"
             "that are started by exec with the descriptor that fileno() tells.\n"
             "\n"
             "It is held then until whoever has it releases it, or the last of them has\n"
             "ended. A forked child owns it as its parent does; names tell who called last.\n"
             "\n"
             "Raises NotLocked or NotMyLock unless the caller holds the lock, and UnlockError\n"
             "if the file system fails or has no locks to tell by, or if it is a lock in a\n"
             "database.");

static PyObject *
base_set_inheritable(PyObject *self, PyObject *inheritable)
{
    struct call call;
    int truth = PyObject_IsTrue(inheritable);
    if (truth < 0 || !call_begin(self, &call, "set_inheritable", 0)) {
        return NULL;
    }
    call.attempt.inheritable = truth > 0;
    switch (call_run(&call, lock_share_with_children)) {
    case LOCK_INTERRUPTED:
        return call_end(&call, NULL);
    case LOCK_OWNED:
        return call_end(&call, Py_NewRef(Py_None));
    case LOCK_FAILED:
        return call_end(&call, call.attempt.report.releasing
                                   ? raise_not_shared(errors_of(self), &call)
                                   : raise_failed_look(errors_of(self), &call));
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
               (path = path_text(self)) != NULL) {
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

/* What is written in Python: passes on the object and the arguments. */
static PyObject *
call_python(PyObject *self, PyObject *module, const char *name, PyObject *args, PyObject *kwargs)
{
    PyObject *function = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
    Py_ssize_t count = PyTuple_Size(args);
    PyObject *all = function != NULL ? PyTuple_New(count + 1) : NULL;
    if (all != NULL) {
        PyTuple_SetItem(all, 0, Py_NewRef(self));
        for (Py_ssize_t i = 0; i < count; i++) {
            PyTuple_SetItem(all, i + 1, Py_NewRef(PyTuple_GetItem(args, i)));
        }
    }
    PyObject *result = all != NULL ? PyObject_Call(function, all, kwargs) : NULL;
    Py_XDECREF(function);
    Py_XDECREF(all);
    return result;
}

/* A lock object decorates functions. */
static PyObject *
base_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *module = PyImport_ImportModule("lockfile._decorating");
    PyObject *result = call_python(self, module, "decorate_with", args, kwargs);
    Py_XDECREF(module);
    return result;
}

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
    {"downgrade", base_downgrade, METH_NOARGS, downgrade_doc},
    {"owner", base_owner, METH_NOARGS, owner_doc},
    {"owners", base_owners, METH_NOARGS, owners_doc},
    {"fileno", base_fileno, METH_NOARGS, fileno_doc},
    {"set_inheritable", base_set_inheritable, METH_O, set_inheritable_doc},
    {"__enter__", base_enter, METH_NOARGS, enter_doc},
    {"__exit__", base_exit, METH_VARARGS, exit_doc},
    {"__aenter__", base_aenter, METH_NOARGS, aenter_doc},
    {"__aexit__", base_aexit, METH_VARARGS, aexit_doc},
    {"_exit_in_steps", base_exit_in_steps, METH_VARARGS,
     PyDoc_STR("_exit_in_steps($self, /, *exception)\n--\n\nThe end of a block, in steps.")},
    {"_begin_block", base_begin_block, METH_O, PyDoc_STR("For coroutines.")},
    {"_enter_acquired", base_enter_acquired, METH_NOARGS, PyDoc_STR("For coroutines.")},
    {"_caller", base_caller, METH_NOARGS, PyDoc_STR("For schemes in Python.")},
    {"_caller_token", base_caller_token, METH_NOARGS, PyDoc_STR("For schemes in Python.")},
    {"_note_attempt", base_note_attempt, METH_O, PyDoc_STR("For schemes in Python.")},
    {"_end_block", base_end_block, METH_O, PyDoc_STR("For schemes in Python.")},
    {"_raise_after_body", base_raise_after_body, METH_VARARGS, PyDoc_STR("For schemes in Python.")},
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
             "on_wait=None, shared=False)\n--\n\n"
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
             "on_wait: what the attribute on_wait says; a subclass's acquire() calls it.\n"
             "shared: what the attribute shared says; a subclass's acquire() sees to it.");

static PyType_Slot base_slots[] = {
    {Py_tp_doc, (void *)base_doc},   {Py_tp_new, PyType_GenericNew},  {Py_tp_init, base_init},
    {Py_tp_dealloc, base_dealloc},   {Py_tp_traverse, base_traverse}, {Py_tp_clear, base_clear},
    {Py_tp_repr, base_repr},         {Py_tp_call, base_call},         {Py_tp_methods, base_methods},
    {Py_tp_getset, base_attributes}, {Py_tp_members, base_members},   {0, NULL},
};

PyType_Spec base_spec = {
    .name = "lockfile.LockBase",
    .basicsize = sizeof(LockObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = base_slots,
};
