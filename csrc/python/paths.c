#include "python/paths.h"

#include <string.h>

bool
is_pid_class(const struct lock_class *class)
{
    return class != NULL && class->is_pid_file;
}

bool
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

PyObject *
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

PyObject *
make_absolute(const State *state, PyObject *encoded)
{
    return PyObject_CallFunctionObjArgs(state->abspath, encoded, NULL);
}

bool
names_file(const char *path)
{
    const char *name = os_last_name(path);
    return strcmp(name, "") != 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static PyObject *
make_pid_file(PyObject *absolute)
{
    if (!names_file(PyBytes_AsString(absolute))) {
        PyErr_SetString(PyExc_ValueError, "path must end with the name of a file");
        Py_CLEAR(absolute);
    }
    return absolute;
}

PyObject *
make_usual_lock_file(const State *state, const struct lock_class *class, PyObject *path)
{
    PyObject *absolute = make_absolute(state, path);
    if (absolute == NULL) {
        return NULL;
    }
    if (is_pid_class(class)) {
        return make_pid_file(absolute);
    }
    PyObject *lock_file = PyBytes_FromFormat("%s.lock", PyBytes_AsString(absolute));
    Py_DECREF(absolute);
    return lock_file;
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
        const char separator[] = {os_separator, '\0'};
        PyOS_snprintf(spelt, OS_PATH_SIZE, "%s%s%s", resolved, is_root ? "" : separator, name);
    } else {
        PyOS_snprintf(spelt, OS_PATH_SIZE, "%s", path + (strncmp(path, "//", 2) == 0));
    }
}

bool
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
    if (os_is_in(protected, file)) {
        PyErr_SetString(PyExc_ValueError, "lock_file must be another file than path, and none that "
                                          "path is in, since the lock file is removed again");
        return false;
    }
    return true;
}

/* The name is the lock file's own: nothing is added to it. */
PyObject *
make_named_lock_file(const State *state, PyObject *given)
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
    return lock_file;
}

PyObject *
make_lock_file(const State *state, const struct lock_class *class, PyObject *given, PyObject *path)
{
    if (given == Py_None) {
        return make_usual_lock_file(state, class, path);
    }
    PyObject *lock_file = make_named_lock_file(state, given);
    bool is_made = class != NULL && class->store == NULL;
    if (lock_file != NULL && is_made && !is_another(state, PyBytes_AsString(lock_file), path)) {
        Py_CLEAR(lock_file);
    }
    return lock_file;
}

PyObject *
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
