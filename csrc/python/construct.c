#include "python/construct.h"

#include "mechanisms/sqlite/sqlite.h"
#include "python/attributes.h"

#include <string.h>

/* The path as bytes for the file system; NULL with an exception. */
static PyObject *
encode_path(PyObject *path, const char *name)
{
    PyObject *encoded;
    if (!PyUnicode_FSConverter(path, &encoded)) {
        return NULL;
    }
    if (PyBytes_Size(encoded) == 0) {
        Py_DECREF(encoded);
        PyErr_Format(PyExc_ValueError, "%s must not be empty", name);
        return NULL;
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
make_lock_file(const State *state, PyObject *encoded)
{
    PyObject *absolute = make_absolute(state, encoded);
    if (absolute == NULL) {
        return NULL;
    }
    PyObject *lock_file = PyBytes_FromFormat("%s.lock", PyBytes_AsString(absolute));
    Py_DECREF(absolute);
    return lock_file;
}

static const struct mechanism *
mechanism_of(const State *state, PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    return PyType_IsSubtype(type, state->LinkFileLock)     ? &link_mechanism
           : PyType_IsSubtype(type, state->MkdirFileLock)  ? &mkdir_mechanism
           : PyType_IsSubtype(type, state->SQLiteFileLock) ? &sqlite_mechanism
                                                           : NULL;
}

/* What a lock object is made from; path and the two files as bytes. */
struct making {
    PyObject *path, *lock_file, *database;
    bool threaded;
    PyObject *timeout;
};

static int
initialise(PyObject *self, const struct making *making)
{
    LockObject *object = (LockObject *)self;
    State *state = state_of(self);
    const struct mechanism *mechanism = mechanism_of(state, self);
    bool has_timeout;
    double seconds = 0;
    if (!read_timeout(making->timeout, &has_timeout, &seconds) ||
        (mechanism == &sqlite_mechanism && !pool_prepare(pool_of(state->pool)))) {
        return -1;
    }
    struct lock *lock = lock_new(
        mechanism, PyBytes_AsString(making->path), PyBytes_AsString(making->lock_file),
        making->database != NULL ? PyBytes_AsString(making->database) : "", making->threaded);
    if (lock == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    os_lock();
    struct lock *former = object->lock;
    object->lock = lock;
    object->has_timeout = has_timeout;
    object->timeout = seconds;
    os_unlock();
    if (former != NULL) {
        lock_drop(former);
    }
    return 0;
}

/* The database that was named, absolute, or the usual one beside the lock file. */
static PyObject *
make_database(const State *state, PyObject *given, PyObject *lock_file)
{
    if (given == Py_None) {
        const char *text = PyBytes_AsString(lock_file);
        PyObject *directory = PyBytes_FromStringAndSize(text, strrchr(text, '/') - text + 1);
        PyObject *usual = directory != NULL ? PyBytes_FromFormat("%s.lockfile.sqlite3",
                                                                 PyBytes_AsString(directory))
                                            : NULL;
        Py_XDECREF(directory);
        return usual;
    }
    PyObject *encoded = encode_path(given, "database");
    PyObject *database = encoded != NULL ? make_absolute(state, encoded) : NULL;
    Py_XDECREF(encoded);
    return database;
}

/* database NULL: the class has none. */
static int
construct(PyObject *self, PyObject *path, PyObject *threaded, PyObject *timeout, PyObject *database)
{
    const State *state = state_of(self);
    struct making making = {.timeout = timeout};
    int truth = PyObject_IsTrue(threaded);
    int result = -1;
    making.threaded = truth > 0;
    making.path = truth < 0 ? NULL : encode_path(path, "path");
    making.lock_file = making.path == NULL ? NULL : make_lock_file(state, making.path);
    if (database != NULL && making.lock_file != NULL) {
        making.database = make_database(state, database, making.lock_file);
    }
    if (making.lock_file != NULL && !PyErr_Occurred()) {
        result = initialise(self, &making);
    }
    Py_XDECREF(making.path);
    Py_XDECREF(making.lock_file);
    Py_XDECREF(making.database);
    return result;
}

int
base_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "threaded", "timeout", NULL};
    PyObject *path, *timeout = Py_None, *threaded = Py_True;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO", names, &path, &threaded, &timeout)) {
        return -1;
    }
    return construct(self, path, threaded, timeout, NULL);
}

int
sqlite_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "threaded", "timeout", "database", NULL};
    PyObject *path, *timeout = Py_None, *threaded = Py_True, *database = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO$O", names, &path, &threaded, &timeout,
                                     &database)) {
        return -1;
    }
    return construct(self, path, threaded, timeout, database);
}

/* ---- LockBase: copy and pickle ----
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
    PyObject *database = lock_file ? get_database(self, NULL) : NULL;
    PyObject *threaded = database ? get_threaded(self, NULL) : NULL;
    PyObject *timeout = threaded ? constructor_timeout((LockObject *)self) : NULL;
    if (timeout != NULL) {
        result = Py_BuildValue("(OOOOOOO)", (PyObject *)Py_TYPE(self), arguments, path, threaded,
                               timeout, lock_file, database);
    }
    Py_XDECREF(arguments);
    Py_XDECREF(path);
    Py_XDECREF(lock_file);
    Py_XDECREF(database);
    Py_XDECREF(threaded);
    Py_XDECREF(timeout);
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

/* A lock in a database has one, and no other lock has. */
static bool
is_fit(PyObject *self, const struct making *making)
{
    const char *database = PyBytes_AsString(making->database);
    bool wanted = mechanism_of(state_of(self), self) == &sqlite_mechanism;
    return PyBytes_AsString(making->lock_file)[0] == '/' && database[0] == (wanted ? '/' : '\0');
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
    struct making making;
    PyObject *type, *arguments, *keywords;
    int threaded, result = -1;
    if (!PyArg_ParseTuple(args, "O!(O!O!)O&pOO&O&:_remake", &PyType_Type, &type, &PyTuple_Type,
                          &arguments, &PyDict_Type, &keywords, PyUnicode_FSConverter, &making.path,
                          &threaded, &making.timeout, PyUnicode_FSConverter, &making.lock_file,
                          PyUnicode_FSConverter, &making.database)) {
        return NULL;
    }
    making.threaded = threaded != 0;
    PyObject *self = new_object(module, (PyTypeObject *)type, arguments, keywords);
    if (self != NULL && is_fit(self, &making)) {
        result = initialise(self, &making);
    } else if (self != NULL) {
        PyErr_SetString(PyExc_ValueError, "the files of a lock are absolute");
    }
    Py_DECREF(making.path);
    Py_DECREF(making.lock_file);
    Py_DECREF(making.database);
    if (result != 0) {
        Py_CLEAR(self);
    }
    return self;
}

PyMethodDef construct_functions[] = {
    {"_remake", remake, METH_VARARGS, PyDoc_STR("For copy and pickle.")},
    {NULL, NULL, 0, NULL},
};
