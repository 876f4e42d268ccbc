#include "python/construct.h"

#include "python/attributes.h"
#include "python/locking.h"
#include "python/meaning.h"
#include "python/paths.h"
#include "python/text.h"

#include <string.h>

/* ---- Who owns ---- */

static const char *const ownerships[] = {
    [OWNED_BY_CALLER] = "task",
    [OWNED_BY_THREAD] = "thread",
    [OWNED_BY_PROCESS] = "process",
    [OWNED_BY_OBJECT] = "object",
};
#define OWNERSHIPS (sizeof ownerships / sizeof *ownerships)

/* 0 with an exception, as converters do. */
static int
read_ownership(PyObject *owner, void *ownership)
{
    for (size_t i = 0; PyUnicode_Check(owner) && i < OWNERSHIPS; i++) {
        if (PyUnicode_CompareWithASCIIString(owner, ownerships[i]) == 0) {
            *(enum ownership *)ownership = (enum ownership)i;
            return 1;
        }
    }
    PyErr_Format(PyUnicode_Check(owner) ? PyExc_ValueError : PyExc_TypeError,
                 "owner must be 'task', 'thread', 'process', 'object' or None, not %R", owner);
    return 0;
}

/* What owner says outright wins. False with an exception. */
static bool
settle_ownership(PyObject *owner, PyObject *threaded, enum ownership *ownership)
{
    int truth = PyObject_IsTrue(threaded);
    *ownership = truth > 0 ? OWNED_BY_CALLER : OWNED_BY_PROCESS;
    return truth >= 0 && (owner == Py_None || read_ownership(owner, ownership));
}

/* ---- What all ways lead to ---- */

/* What a lock object is made from; path, file and store as bytes. */
struct settings {
    PyObject *given; /* the path, as it was given */
    bool names_lock_file, names_store;
    PyObject *path, *lock_file;
    PyObject *store; /* NULL: the class has none */
    enum ownership ownership;
    bool is_shared;
    PyObject *timeout, *on_wait;
};

static struct lock *
make_lock(const struct lock_class *class, const struct settings *settings)
{
    struct lock *lock =
        lock_new(class != NULL ? class->mechanism : NULL, PyBytes_AsString(settings->path),
                 PyBytes_AsString(settings->lock_file),
                 settings->store != NULL ? PyBytes_AsString(settings->store) : "",
                 settings->ownership, settings->is_shared);
    if (lock == NULL) {
        PyErr_NoMemory();
    }
    return lock;
}

static bool
prepare(const State *state, const struct lock_class *class)
{
    PyObject *resource = class != NULL ? state_resource(state, class->mechanism) : NULL;
    return resource == NULL || class->prepare_resource(resource);
}

static int
initialise(PyObject *self, const struct settings *settings)
{
    LockObject *object = (LockObject *)self;
    const struct lock_class *class = class_of(self);
    bool has_timeout;
    double seconds = 0;
    if (!read_timeout(settings->timeout, &has_timeout, &seconds) ||
        !check_on_wait(settings->on_wait) || !prepare(state_of(self), class)) {
        return -1;
    }
    struct lock *lock = make_lock(class, settings);
    if (lock == NULL) {
        return -1;
    }
    os_mutex_lock();
    bool had_moved = object->has_moved;
    os_mutex_unlock();
    struct lock *former =
        settle_anew(object, &(struct construction){lock, settings->given, settings->names_lock_file,
                                                   settings->names_store});
    os_mutex_lock();
    PyObject *former_on_wait = object->on_wait;
    object->on_wait = Py_NewRef(settings->on_wait);
    object->has_timeout = has_timeout;
    object->timeout = seconds;
    os_mutex_unlock();
    if (former != NULL) {
        release_forgotten(self, former, had_moved);
        lock_drop(former);
    }
    Py_XDECREF(former_on_wait);
    return 0;
}

/* ---- The constructor ---- */

struct arguments {
    PyObject *path, *threaded, *timeout, *lock_file, *owner, *on_wait, *store;
    int shared;
};

/* A system that cannot share is told of by acquire(). False with an exception. */
static bool
check_sharable(const struct lock_class *class, bool is_shared)
{
    bool asks = is_shared && class != NULL;
    const char *reason = asks ? lock_never_shares(class->mechanism) : NULL;
    if (reason != NULL) {
        PyErr_SetString(PyExc_ValueError, reason);
    }
    return reason == NULL;
}

static int
construct(PyObject *self, const struct lock_class *class, const struct arguments *arguments)
{
    const State *state = state_of(self);
    struct settings settings = {
        .given = arguments->path,
        .names_lock_file = arguments->lock_file != Py_None,
        .names_store = arguments->store != Py_None,
        .timeout = arguments->timeout,
        .on_wait = arguments->on_wait,
        .is_shared = arguments->shared != 0,
    };
    bool settled = settle_ownership(arguments->owner, arguments->threaded, &settings.ownership) &&
                   check_sharable(class, settings.is_shared);
    int result = -1;
    settings.path = settled ? encode_path(arguments->path, "path") : NULL;
    if (is_pid_class(class)) {
        settings.ownership = OWNED_BY_PROCESS;
    }
    settings.lock_file = settings.path == NULL
                             ? NULL
                             : make_lock_file(state, class, arguments->lock_file, settings.path);
    if (class != NULL && class->store != NULL && settings.lock_file != NULL) {
        settings.store = make_store(class, arguments->store, settings.lock_file, state);
    }
    if (settings.lock_file != NULL && !PyErr_Occurred()) {
        result = initialise(self, &settings);
    }
    Py_XDECREF(settings.path);
    Py_XDECREF(settings.lock_file);
    Py_XDECREF(settings.store);
    return result == 0 ? forget_assigned(self) : result;
}

int
base_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    const struct lock_class *class = class_of(self);
    bool has_store = class != NULL && class->store != NULL;
    bool is_pid_file = is_pid_class(class);
    const char *format = is_pid_file ? "O|OO$Op" : has_store ? "O|OO$OpOOO" : "O|OO$OpOO";
    char *names[] = {"path",    "threaded",
                     "timeout", "on_wait",
                     "shared",  is_pid_file ? NULL : "lock_file",
                     "owner",   has_store ? (char *)class->store : NULL,
                     NULL};
    struct arguments given = {.threaded = Py_True,
                              .timeout = Py_None,
                              .lock_file = Py_None,
                              .owner = Py_None,
                              .on_wait = Py_None,
                              .store = Py_None};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &given.path, &given.threaded,
                                     &given.timeout, &given.on_wait, &given.shared,
                                     &given.lock_file, &given.owner, &given.store)) {
        return -1;
    }
    return construct(self, class, &given);
}

/* ---- Copy and pickle ----
 *
 * As Python copies any object: __new__() with what __getnewargs__() says, then what the
 * constructor was given (by remake(), since a subclass's constructor may take other
 * arguments), then what __getstate__() says, to __setstate__() if there is one. */

/* The arguments of __new__(), in a tuple and a dictionary. NULL with an exception. */
static PyObject *
new_arguments(PyObject *self)
{
    if (PyObject_HasAttrString(self, "__getnewargs_ex__")) {
        return PyObject_CallMethod(self, "__getnewargs_ex__", NULL);
    }
    PyObject *arguments = PyObject_HasAttrString(self, "__getnewargs__")
                              ? PyObject_CallMethod(self, "__getnewargs__", NULL)
                              : PyTuple_New(0);
    return arguments != NULL ? Py_BuildValue("(N{})", arguments) : NULL;
}

/* The path, as it was given, if that can be had in a pickle; else as text. */
static PyObject *
lasting_path(PyObject *self)
{
    PyObject *path = constructor_path(self);
    if (path == NULL || PyUnicode_Check(path) || PyBytes_Check(path)) {
        return path;
    }
    PyObject *name = PyUnicode_FromString("pathlib");
    PyObject *pathlib = name != NULL ? PyImport_GetModule(name) : NULL;
    PyObject *type = pathlib != NULL ? PyObject_GetAttrString(pathlib, "PurePath") : NULL;
    int lasts = type != NULL ? PyObject_IsInstance(path, type) : PyErr_Occurred() ? -1 : 0;
    if (lasts <= 0) {
        Py_DECREF(path);
        struct lock *made = lasts == 0 ? share_made(self) : NULL;
        path = made != NULL ? decode(made->path) : NULL;
        if (made != NULL) {
            lock_drop(made);
        }
    }
    Py_XDECREF(name);
    Py_XDECREF(pathlib);
    Py_XDECREF(type);
    return path;
}

/* What remake() is called with. What was assigned comes with the state. */
static PyObject *
remake_arguments(PyObject *self)
{
    struct lock *made = share_made(self);
    if (made == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    PyObject *arguments = new_arguments(self);
    PyObject *path = arguments ? lasting_path(self) : NULL;
    PyObject *lock_file = path ? decode(made->lock_file) : NULL;
    PyObject *store = lock_file ? decode(made->store) : NULL;
    PyObject *timeout = store ? constructor_timeout((LockObject *)self) : NULL;
    PyObject *on_wait = timeout ? get_on_wait(self, NULL) : NULL;
    if (on_wait != NULL) {
        result = Py_BuildValue("(OOOsOOOOi)", (PyObject *)Py_TYPE(self), arguments, path,
                               ownerships[made->ownership], timeout, lock_file, store, on_wait,
                               (int)made->is_shared);
    }
    lock_drop(made);
    Py_XDECREF(arguments);
    Py_XDECREF(path);
    Py_XDECREF(lock_file);
    Py_XDECREF(store);
    Py_XDECREF(timeout);
    Py_XDECREF(on_wait);
    return result;
}

PyObject *
base_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *result = NULL;
    PyObject *arguments = remake_arguments(self);
    PyObject *state = arguments ? PyObject_CallMethod(self, "__getstate__", NULL) : NULL;
    if (state != NULL) {
        result = PyTuple_Pack(3, state_of(self)->remake, arguments, state);
    }
    Py_XDECREF(arguments);
    Py_XDECREF(state);
    return result;
}

/* As a constructor would have it: a lock in a database has one, and no other lock has. False with
 * an exception. */
static bool
is_fit(PyObject *self, const struct settings *settings)
{
    const struct lock_class *class = class_of(self);
    bool has_store = class != NULL && class->store != NULL;
    const char *store = PyBytes_AsString(settings->store);
    const char *lock_file = PyBytes_AsString(settings->lock_file);
    if (!os_is_absolute(lock_file) || !names_file(lock_file) ||
        !(has_store ? os_is_absolute(store) : store[0] == '\0')) {
        PyErr_SetString(PyExc_ValueError, "the files of a lock are absolute");
        return false;
    }
    return class == NULL || has_store || class->is_pid_file ||
           is_another(state_of(self), lock_file, settings->path);
}

/* An object of a lock class on which no constructor was called. */
static PyObject *
new_object(PyObject *module, PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    const State *state = PyModule_GetState(module);
    if (!PyType_IsSubtype(type, state->LockBase)) {
        PyErr_SetString(PyExc_TypeError, "not a class of locks");
        return NULL;
    }
    PyObject *copyreg = PyImport_ImportModule("copyreg");
    PyObject *self = copyreg != NULL ? PyObject_CallMethod(copyreg, "__newobj_ex__", "OOO", type,
                                                           arguments, keywords)
                                     : NULL;
    Py_XDECREF(copyreg);
    if (self != NULL && !PyObject_TypeCheck(self, state->LockBase)) {
        PyErr_SetString(PyExc_TypeError, "__new__() has not made a lock");
        Py_CLEAR(self);
    }
    return self;
}

/* What the constructor was not given follows the path, also that of a copy. False with an
 * exception. */
static bool
find_named(PyObject *self, struct settings *settings)
{
    const State *state = state_of(self);
    const struct lock_class *class = class_of(self);
    bool has_store = class != NULL && class->store != NULL;
    PyObject *usual = make_usual_lock_file(state, class, settings->path);
    PyObject *store =
        has_store && usual != NULL ? make_store(class, Py_None, settings->lock_file, state) : NULL;
    bool found = usual != NULL && (store != NULL || !has_store);
    if (found) {
        settings->names_lock_file =
            strcmp(PyBytes_AsString(usual), PyBytes_AsString(settings->lock_file)) != 0;
        settings->names_store =
            has_store && strcmp(PyBytes_AsString(store), PyBytes_AsString(settings->store)) != 0;
    }
    Py_XDECREF(usual);
    Py_XDECREF(store);
    return found;
}

static PyObject *
remake(PyObject *module, PyObject *args)
{
    struct settings settings = {.given = NULL};
    PyObject *type, *arguments, *keywords;
    int result = -1, shared;
    if (!PyArg_ParseTuple(args, "O!(O!O!)OO&OO&O&Op:_remake", &PyType_Type, &type, &PyTuple_Type,
                          &arguments, &PyDict_Type, &keywords, &settings.given, read_ownership,
                          &settings.ownership, &settings.timeout, PyUnicode_FSConverter,
                          &settings.lock_file, PyUnicode_FSConverter, &settings.store,
                          &settings.on_wait, &shared)) {
        return NULL;
    }
    settings.is_shared = shared != 0;
    settings.path = encode_path(settings.given, "path");
    PyObject *self = settings.path != NULL
                         ? new_object(module, (PyTypeObject *)type, arguments, keywords)
                         : NULL;
    if (self != NULL && is_pid_class(class_of(self))) {
        settings.ownership = OWNED_BY_PROCESS;
    }
    if (self != NULL && is_fit(self, &settings) && find_named(self, &settings)) {
        result = initialise(self, &settings);
        ((LockObject *)self)->may_be_told = true; /* by the state, which comes next */
    }
    Py_XDECREF(settings.path);
    Py_DECREF(settings.lock_file);
    Py_DECREF(settings.store);
    if (result != 0) {
        Py_CLEAR(self);
    }
    return self;
}

PyMethodDef construct_functions[] = {
    {"_remake", remake, METH_VARARGS, PyDoc_STR("For copy and pickle.")},
    {NULL, NULL, 0, NULL},
};
