#include "python/attributes.h"

#include "python/call.h"
#include "python/meaning.h"
#include "python/text.h"

#include <math.h>

/* ---- timeout ---- */

bool
read_timeout(PyObject *value, bool *given, double *seconds)
{
    *given = value != Py_None;
    if (!*given) {
        return true;
    }
    *seconds = PyFloat_AsDouble(value);
    if (*seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "timeout is too large; float('inf') waits for ever");
        } else if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "timeout must be a number of seconds or None, not %R",
                         (PyObject *)Py_TYPE(value));
        }
        return false;
    }
    if (isnan(*seconds)) {
        PyErr_SetString(PyExc_ValueError, "timeout must not be nan");
        return false;
    }
    return true;
}

PyObject *
constructor_timeout(const LockObject *object)
{
    os_mutex_lock();
    bool given = object->has_timeout;
    double seconds = object->timeout;
    os_mutex_unlock();
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

/* ---- on_wait ---- */

bool
check_on_wait(PyObject *value)
{
    bool fits = value == Py_None || PyCallable_Check(value);
    if (!fits) {
        PyErr_Format(PyExc_TypeError, "on_wait must be callable or None, not %R",
                     (PyObject *)Py_TYPE(value));
    }
    return fits;
}

PyObject *
get_on_wait(PyObject *self, void *Py_UNUSED(closure))
{
    os_mutex_lock();
    PyObject *value = Py_XNewRef(((LockObject *)self)->on_wait);
    os_mutex_unlock();
    return value != NULL ? value : Py_NewRef(Py_None);
}

static int
set_on_wait(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    PyObject *wanted = value != NULL ? value : Py_None;
    if (!check_on_wait(wanted)) {
        return -1;
    }
    os_mutex_lock();
    PyObject *former = ((LockObject *)self)->on_wait;
    ((LockObject *)self)->on_wait = Py_NewRef(wanted);
    os_mutex_unlock();
    Py_XDECREF(former);
    return 0;
}

/* ---- Timeouts of calls ---- */

static bool
shared_settle(struct timeout *timeout)
{
    bool given = timeout->shared != NULL && timeout->shared != Py_None;
    timeout->shares = given ? PyObject_IsTrue(timeout->shared) : -1;
    return !given || timeout->shares >= 0;
}

bool
timeout_settle(PyObject *self, struct timeout *timeout)
{
    PyObject *argument = timeout->argument;
    timeout->given = true;
    timeout->seconds = 0;
    if (!shared_settle(timeout) ||
        (argument != NULL && !read_timeout(argument, &timeout->given, &timeout->seconds))) {
        return false;
    }
    /* To who knows threading.Lock, True says to wait, and False not to. */
    if (timeout->given && argument != Py_True) {
        return true;
    }
    /* Whatever the object says that it is: a subclass may have an attribute of its own. */
    PyObject *own = PyObject_GetAttr(self, state_of(self)->timeout);
    bool settled = own != NULL && read_timeout(own, &timeout->given, &timeout->seconds);
    Py_XDECREF(own);
    if (settled && !timeout->given) {
        const struct lock_class *class = class_of(self);
        timeout->given = class != NULL && class->is_pid_file; /* then it does not wait */
        timeout->seconds = 0;
    }
    return settled;
}

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

int64_t
timeout_deadline(const struct timeout *timeout)
{
    return timeout->given ? deadline_in(timeout->seconds) : OS_NEVER;
}

/* ---- Those that tell of the lock ---- */

static PyObject *
share_text(PyObject *self, const char *(*text_of)(const struct lock *lock))
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    PyObject *text = decode(text_of(lock));
    lock_drop(lock);
    return text;
}

static const char *
path_of(const struct lock *lock)
{
    return lock->path;
}

PyObject *
path_text(PyObject *self)
{
    return share_text(self, path_of);
}

static PyObject *
get_path(PyObject *self, void *closure)
{
    PyObject *value = assigned(self, closure);
    return value != NULL || PyErr_Occurred() ? value : constructor_path(self);
}

static PyObject *
get_lock_file(PyObject *self, void *closure)
{
    PyObject *value = assigned(self, closure);
    if (value != NULL || PyErr_Occurred()) {
        return value;
    }
    PyObject *encoded = own_lock_file(self);
    value = encoded != NULL ? decode(PyBytes_AsString(encoded)) : NULL;
    Py_XDECREF(encoded);
    return value;
}

static const char *
store_of(const struct lock *lock)
{
    return lock->store;
}

PyObject *
get_store(PyObject *self, void *Py_UNUSED(closure))
{
    return share_text(self, store_of);
}

static PyObject *
get_hostname(PyObject *self, void *closure)
{
    PyObject *value = assigned(self, closure);
    if (value != NULL || PyErr_Occurred()) {
        return value;
    }
    struct lock *made = share_made(self);
    if (made == NULL) {
        return NULL;
    }
    value = decode(made->host);
    lock_drop(made);
    return value;
}

PyObject *
get_place(PyObject *self, void *Py_UNUSED(closure))
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    PyObject *lock_file = decode(lock->lock_file);
    PyObject *store = lock_file != NULL ? decode(lock->store) : NULL;
    PyObject *place = store != NULL ? PyTuple_Pack(2, lock_file, store) : NULL;
    lock_drop(lock);
    Py_XDECREF(lock_file);
    Py_XDECREF(store);
    return place;
}

static PyObject *
get_has_mechanism(PyObject *self, void *Py_UNUSED(closure))
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    bool has_mechanism = lock->mechanism != NULL;
    lock_drop(lock);
    return PyBool_FromLong(has_mechanism);
}

static PyObject *
get_threaded(PyObject *self, void *closure)
{
    PyObject *value = assigned(self, closure);
    if (value != NULL || PyErr_Occurred()) {
        return value;
    }
    struct lock *made = share_made(self);
    if (made == NULL) {
        return NULL;
    }
    bool threaded = made->ownership != OWNED_BY_PROCESS;
    lock_drop(made);
    return PyBool_FromLong(threaded);
}

static PyObject *
get_shared(PyObject *self, void *Py_UNUSED(closure))
{
    struct lock *made = share_made(self);
    if (made == NULL) {
        return NULL;
    }
    bool shared = made->is_shared;
    lock_drop(made);
    return PyBool_FromLong(shared);
}

static PyObject *
get_grants(PyObject *self, void *Py_UNUSED(closure))
{
    os_mutex_lock();
    unsigned long long grants = ((LockObject *)self)->grants;
    os_mutex_unlock();
    return PyLong_FromUnsignedLongLong(grants);
}

/* ---- Those that tell of the caller ---- */

PyObject *
get_unique_name(PyObject *self, void *closure)
{
    struct call call;
    char name[NAME_SIZE];
    PyObject *value = assigned(self, closure);
    if (value != NULL || PyErr_Occurred() || !call_begin_any(self, &call, 0)) {
        return value;
    }
    const struct lock *lock = call.attempt.lock;
    bool inside = call_unique_name(&call, name);
    PyObject *place = decode(inside ? lock->lock_file : lock->directory);
    PyObject *base = decode(name);
    if (place != NULL && base != NULL) {
        value = inside ? PyUnicode_FromFormat("%U%c%U", place, os_separator, base)
                       : PyUnicode_FromFormat("%U%U", place, base);
    }
    Py_XDECREF(place);
    Py_XDECREF(base);
    return call_end(&call, value);
}

static PyObject *
get_tname(PyObject *self, void *closure)
{
    struct call call;
    PyObject *value = assigned(self, closure);
    if (value != NULL || PyErr_Occurred() || !call_begin_any(self, &call, 0)) {
        return value;
    }
    uint64_t thread = call.attempt.owner.thread;
    char name[32] = "";
    if (thread != 0) {
        PyOS_snprintf(name, sizeof name, "-%llx", (unsigned long long)thread);
    }
    return call_end(&call, PyUnicode_FromString(name));
}

static PyObject *
get_pid(PyObject *self, void *closure)
{
    PyObject *value = assigned(self, closure);
    return value != NULL || PyErr_Occurred() ? value : PyLong_FromLong(os_process());
}

PyGetSetDef base_attributes[] = {
    {"path", get_path, assign_and_settle, "What is protected, as given to the constructor.",
     "path"},
    {"lock_file", get_lock_file, assign_and_settle,
     "The lock file, absolute: as given to the constructor, or abspath(path) + '.lock'; fixed "
     "when the lock object was made.",
     "lock_file"},
    {"unique_name", get_unique_name, assign_and_settle,
     "The caller's own file beside the lock file, absolute: HOSTNAME-THREADID-PID.", "unique_name"},
    {"hostname", get_hostname, assign_and_settle, "This host's name, as in unique_name.",
     "hostname"},
    {"pid", get_pid, assign, "The calling process's number.", "pid"},
    {"tname", get_tname, assign, "The calling thread, as in unique_name: '-THREADID', or ''.",
     "tname"},
    {"threaded", get_threaded, assign,
     "Whether each task, greenlet or thread is an owner of its own.", "threaded"},
    {"shared", get_shared, NULL,
     "Whether acquire() and with share the lock with others who do, by default.", NULL},
    {"_place", get_place, NULL, "Its lock file, and its database or ''; both absolute.", NULL},
    {"_has_mechanism", get_has_mechanism, NULL, "Whether it is a scheme of ours.", NULL},
    {"_grants", get_grants, NULL, "How often a call by this object has acquired.", NULL},
    {"timeout", get_timeout, set_timeout,
     "Seconds that acquire() and with wait by default; None: for ever.", "timeout"},
    {"on_wait", get_on_wait, set_on_wait,
     "What is called with the Owner while acquire() and with wait; None: nothing.", NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
