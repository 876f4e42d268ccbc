#include "python/construct.h"

#include "python/attributes.h"
#include "python/call.h"
#include "python/locking.h"

#include <string.h>

/* ---- Paths, as bytes for the file system ---- */

static bool
is_path(PyObject *value)
{
    return PyUnicode_Check(value) || PyBytes_Check(value) ||
           PyObject_HasAttrString((PyObject *)Py_TYPE(value), "__fspath__");
}

/* What no path may do, as far as it can be told without a look; NULL: nothing is wrong. */
static const char *
find_fault(PyObject *encoded)
{
    size_t size = (size_t)PyBytes_Size(encoded);
    return size == 0                                   ? "be empty"
           : strlen(PyBytes_AsString(encoded)) != size ? "contain a NUL byte"
                                                       : NULL;
}

/* NULL with an exception, as all of these. */
static PyObject *
encode_path(PyObject *path, const char *name)
{
    if (!is_path(path)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, bytes or os.PathLike, not %R", name,
                     (PyObject *)Py_TYPE(path));
        return NULL;
    }
    PyObject *plain = PyOS_FSPath(path);
    PyObject *encoded = plain == NULL          ? NULL
                        : PyBytes_Check(plain) ? Py_NewRef(plain)
                                               : PyUnicode_EncodeFSDefault(plain);
    Py_XDECREF(plain);
    const char *fault = encoded != NULL ? find_fault(encoded) : NULL;
    if (fault != NULL) {
        PyErr_Format(PyExc_ValueError, "%s must not %s", name, fault);
        Py_CLEAR(encoded);
    }
    return encoded;
}

static PyObject *
make_absolute(const State *state, PyObject *encoded)
{
    return PyObject_CallFunctionObjArgs(state->abspath, encoded, NULL);
}

/* abspath(path) + ".lock" as bytes. */
static PyObject *
make_usual_lock_file(const State *state, PyObject *encoded)
{
    PyObject *absolute = make_absolute(state, encoded);
    if (absolute == NULL) {
        return NULL;
    }
    PyObject *lock_file = PyBytes_FromFormat("%s.lock", PyBytes_AsString(absolute));
    Py_DECREF(absolute);
    return lock_file;
}

/* Does a path end with the name of a file, as far as can be told without a look? */
static bool
names_file(const char *path)
{
    const char *name = os_last_name(path);
    return strcmp(name, "") != 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* As the file system sees it: without symbolic links in its directory, if that is there. */
static void
spell(const char *path, char spelt[OS_PATH_SIZE])
{
    char directory[OS_PATH_SIZE], resolved[OS_PATH_SIZE];
    const char *name = os_last_name(path);
    PyOS_snprintf(directory, sizeof directory, "%.*s", (int)(name - path), path);
    if (os_resolve(directory, resolved) == 0) {
        bool is_root = *os_last_name(resolved) == '\0';
        PyOS_snprintf(spelt, OS_PATH_SIZE, "%s%s%s", resolved, is_root ? "" : "/", name);
    } else {
        PyOS_snprintf(spelt, OS_PATH_SIZE, "%s", path + (strncmp(path, "//", 2) == 0));
    }
}

/* Is what is protected neither the lock file, nor in it? That is removed again. False with an
 * exception. */
static bool
is_another(const State *state, const char *lock_file, PyObject *path)
{
    char file[OS_PATH_SIZE], protected[OS_PATH_SIZE];
    PyObject *absolute = make_absolute(state, path);
    if (absolute == NULL) {
        return false;
    }
    spell(lock_file, file);
    spell(PyBytes_AsString(absolute), protected);
    Py_DECREF(absolute);
    size_t length = strlen(file);
    char behind = strncmp(protected, file, length) == 0 ? protected[length] : 'x';
    if (behind == '\0' || behind == '/') {
        PyErr_SetString(PyExc_ValueError, "lock_file must be another file than path, and none that "
                                          "path is in, since the lock file is removed again");
        return false;
    }
    return true;
}

/* The name is the lock file's own: nothing is added to it. */
static PyObject *
make_named_lock_file(const State *state, const struct lock_class *class, PyObject *given,
                     PyObject *path)
{
    PyObject *encoded = encode_path(given, "lock_file");
    if (encoded == NULL) {
        return NULL;
    }
    PyObject *lock_file = NULL;
    if (names_file(PyBytes_AsString(encoded))) {
        lock_file = make_absolute(state, encoded);
    } else {
        PyErr_Format(PyExc_ValueError, "lock_file must end with the name of a file: %R", given);
    }
    Py_DECREF(encoded);
    bool is_made = class != NULL && class->store == NULL;
    if (lock_file != NULL && is_made && !is_another(state, PyBytes_AsString(lock_file), path)) {
        Py_CLEAR(lock_file);
    }
    return lock_file;
}

static PyObject *
make_lock_file(const State *state, const struct lock_class *class, PyObject *given, PyObject *path)
{
    return given == Py_None ? make_usual_lock_file(state, path)
                            : make_named_lock_file(state, class, given, path);
}

/* Where the lock is: what was named, absolute, or the usual file beside the lock file. */
static PyObject *
make_store(const struct lock_class *class, PyObject *given, PyObject *lock_file, const State *state)
{
    if (given == Py_None) {
        const char *text = PyBytes_AsString(lock_file);
        PyObject *directory = PyBytes_FromStringAndSize(text, os_last_name(text) - text);
        PyObject *usual =
            directory != NULL
                ? PyBytes_FromFormat("%s%s", PyBytes_AsString(directory), class->usual_store)
                : NULL;
        Py_XDECREF(directory);
        return usual;
    }
    PyObject *encoded = encode_path(given, class->store);
    PyObject *store = encoded != NULL ? make_absolute(state, encoded) : NULL;
    Py_XDECREF(encoded);
    return store;
}

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

static PyObject *
get_ownership(PyObject *self)
{
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    PyObject *text = PyUnicode_FromString(ownerships[lock->ownership]);
    lock_drop(lock);
    return text;
}

/* ---- What all ways lead to ---- */

/* What a lock object is made from; path, file and store as bytes. */
struct settings {
    PyObject *path, *lock_file;
    PyObject *store; /* NULL: the class has none */
    enum ownership ownership;
    PyObject *timeout, *on_wait;
};

static struct lock *
make_lock(const struct lock_class *class, const struct settings *settings)
{
    struct lock *lock = lock_new(
        class != NULL ? class->mechanism : NULL, PyBytes_AsString(settings->path),
        PyBytes_AsString(settings->lock_file),
        settings->store != NULL ? PyBytes_AsString(settings->store) : "", settings->ownership);
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
    struct lock *former = object->lock;
    PyObject *former_on_wait = object->on_wait;
    object->lock = lock;
    object->on_wait = Py_NewRef(settings->on_wait);
    object->has_timeout = has_timeout;
    object->timeout = seconds;
    os_mutex_unlock();
    if (former != NULL) {
        release_forgotten(self, former);
        lock_drop(former);
    }
    Py_XDECREF(former_on_wait);
    return 0;
}

/* ---- The constructor ---- */

struct arguments {
    PyObject *path, *threaded, *timeout, *lock_file, *owner, *on_wait, *store;
};

static int
construct(PyObject *self, const struct lock_class *class, const struct arguments *arguments)
{
    const State *state = state_of(self);
    struct settings settings = {.timeout = arguments->timeout, .on_wait = arguments->on_wait};
    bool settled = settle_ownership(arguments->owner, arguments->threaded, &settings.ownership);
    int result = -1;
    settings.path = settled ? encode_path(arguments->path, "path") : NULL;
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
    return result;
}

int
base_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    const struct lock_class *class = class_of(self);
    bool has_store = class != NULL && class->store != NULL;
    char *names[] = {"path",
                     "threaded",
                     "timeout",
                     "lock_file",
                     "owner",
                     "on_wait",
                     has_store ? (char *)class->store : NULL,
                     NULL};
    struct arguments given = {.threaded = Py_True,
                              .timeout = Py_None,
                              .lock_file = Py_None,
                              .owner = Py_None,
                              .on_wait = Py_None,
                              .store = Py_None};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, has_store ? "O|OO$OOOO" : "O|OO$OOO", names,
                                     &given.path, &given.threaded, &given.timeout, &given.lock_file,
                                     &given.owner, &given.on_wait, &given.store)) {
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

/* What remake() is called with. */
static PyObject *
remake_arguments(PyObject *self)
{
    PyObject *result = NULL;
    PyObject *arguments = new_arguments(self);
    PyObject *path = arguments ? get_path(self, NULL) : NULL;
    PyObject *lock_file = path ? get_lock_file(self, NULL) : NULL;
    PyObject *store = lock_file ? get_store(self, NULL) : NULL;
    PyObject *ownership = store ? get_ownership(self) : NULL;
    PyObject *timeout = ownership ? constructor_timeout((LockObject *)self) : NULL;
    PyObject *on_wait = timeout ? get_on_wait(self, NULL) : NULL;
    if (on_wait != NULL) {
        result = Py_BuildValue("(OOOOOOOO)", (PyObject *)Py_TYPE(self), arguments, path, ownership,
                               timeout, lock_file, store, on_wait);
    }
    Py_XDECREF(arguments);
    Py_XDECREF(path);
    Py_XDECREF(lock_file);
    Py_XDECREF(store);
    Py_XDECREF(ownership);
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
    return class == NULL || has_store || is_another(state_of(self), lock_file, settings->path);
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

static PyObject *
remake(PyObject *module, PyObject *args)
{
    struct settings settings;
    PyObject *type, *arguments, *keywords;
    int result = -1;
    if (!PyArg_ParseTuple(args, "O!(O!O!)O&O&OO&O&O:_remake", &PyType_Type, &type, &PyTuple_Type,
                          &arguments, &PyDict_Type, &keywords, PyUnicode_FSConverter,
                          &settings.path, read_ownership, &settings.ownership, &settings.timeout,
                          PyUnicode_FSConverter, &settings.lock_file, PyUnicode_FSConverter,
                          &settings.store, &settings.on_wait)) {
        return NULL;
    }
    PyObject *self = new_object(module, (PyTypeObject *)type, arguments, keywords);
    if (self != NULL && is_fit(self, &settings)) {
        result = initialise(self, &settings);
    }
    Py_DECREF(settings.path);
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
