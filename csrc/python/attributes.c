#include "python/attributes.h"

#include "python/call.h"
#include "python/text.h"

#include <math.h>
#include <stdatomic.h>

/* ---- Those that may be assigned ----
 *
 * As programs do with the classic package's. What was assigned lives in __dict__, and changes
 * nothing but what the attribute says. */

/* Python makes the dictionary when it is first wanted, perhaps just now, in another thread. */
static bool
has_dictionary(PyObject *self)
{
    PyObject *_Atomic *dict = (PyObject * _Atomic *)&((LockObject *)self)->dict;
    return atomic_load_explicit(dict, memory_order_relaxed) != NULL;
}

static PyObject *
assigned(PyObject *self, const char *name)
{
    if (!has_dictionary(self)) {
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

bool
timeout_settle(PyObject *self, struct timeout *timeout)
{
    PyObject *argument = timeout->argument;
    timeout->given = true;
    timeout->seconds = 0;
    if (argument != NULL && !read_timeout(argument, &timeout->given, &timeout->seconds)) {
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
get_path(PyObject *self, void *Py_UNUSED(closure))
{
    return share_text(self, path_of);
}

static const char *
lock_file_of(const struct lock *lock)
{
    return lock->lock_file;
}

PyObject *
get_lock_file(PyObject *self, void *Py_UNUSED(closure))
{
    return share_text(self, lock_file_of);
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

static const char *
hostname_of(const struct lock *lock)
{
    return lock->host;
}

static PyObject *
get_hostname(PyObject *self, void *Py_UNUSED(closure))
{
    return share_text(self, hostname_of);
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

PyObject *
get_threaded(PyObject *self, void *Py_UNUSED(closure))
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    bool threaded = lock->ownership != OWNED_BY_PROCESS;
    lock_drop(lock);
    return PyBool_FromLong(threaded);
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
        value = PyUnicode_FromFormat(inside ? "%U/%U" : "%U%U", place, base);
    }
    Py_XDECREF(place);
    Py_XDECREF(base);
    return call_end(&call, value);
}

static PyObject *
get_pid(PyObject *self, void *closure)
{
    PyObject *value = assigned(self, closure);
    return value != NULL || PyErr_Occurred() ? value : PyLong_FromLong(os_process());
}

PyGetSetDef base_attributes[] = {
    {"path", get_path, NULL, "What is protected, as given to the constructor; a str.", NULL},
    {"lock_file", get_lock_file, NULL,
     "The lock file, absolute: as given to the constructor, or abspath(path) + '.lock'; fixed "
     "when the lock object was made.",
     NULL},
    {"unique_name", get_unique_name, assign,
     "The caller's own file beside the lock file, absolute: HOSTNAME-THREADID-PID.", "unique_name"},
    {"hostname", get_hostname, NULL, "This host's name, as in unique_name.", NULL},
    {"pid", get_pid, assign, "The calling process's number.", "pid"},
    {"threaded", get_threaded, NULL,
     "Whether each task, greenlet or thread is an owner of its own.", NULL},
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
