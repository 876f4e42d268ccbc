#include "python/probing.h"

#include "core/probe.h"
#include "core/proof.h"

#include <errno.h>

static PyObject *
raise_errno(int error, PyObject *path)
{
    errno = error;
    return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
}

/* NULL with an exception. */
static PyObject *
open_directory(PyObject *given, struct os_file *directory)
{
    PyObject *path;
    if (!PyUnicode_FSConverter(given, &path)) {
        return NULL;
    }
    int error;
    Py_BEGIN_ALLOW_THREADS
        error = os_open_directory(PyBytes_AsString(path), directory);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    return error == 0 ? given : raise_errno(error, given);
}

static bool
add_result(PyObject *results, const struct probe *probe, const struct os_file *directory)
{
    int result;
    Py_BEGIN_ALLOW_THREADS
        result = probe->run(directory);
    Py_END_ALLOW_THREADS
    PyObject *number = PyLong_FromLong(result);
    bool added = number != NULL && PyDict_SetItemString(results, probe->name, number) == 0;
    Py_XDECREF(number);
    return added;
}

PyDoc_STRVAR(probe_doc,
             "_probe(directory, /)\n--\n\n"
             "What can be done in a directory, which is to be empty: the name of each probe,\n"
             "and 0, an errno value, or -1: what must be refused was done.");

static PyObject *
probe_directory(PyObject *Py_UNUSED(module), PyObject *given)
{
    struct os_file directory;
    if (open_directory(given, &directory) == NULL) {
        return NULL;
    }
    PyObject *results = PyDict_New();
    for (const struct probe *probe = probes; results != NULL && probe->name != NULL; probe++) {
        if (!add_result(results, probe, &directory)) {
            Py_CLEAR(results);
        }
    }
    os_close(&directory);
    return results;
}

PyDoc_STRVAR(reach_doc,
             "_reach(directory, /)\n--\n\n"
             "Who else may use its file system: 'kernel', nobody but this kernel; 'machine',\n"
             "nobody but this machine; 'anybody'.");

static PyObject *
reach_of(PyObject *Py_UNUSED(module), PyObject *given)
{
    struct os_file directory;
    struct ground ground = {.local = false};
    if (open_directory(given, &directory) == NULL) {
        return NULL;
    }
    int error;
    Py_BEGIN_ALLOW_THREADS
        error = proof_find_ground(&directory, &ground);
        os_close(&directory);
    Py_END_ALLOW_THREADS
    const char *reach = ground.local ? "kernel" : ground.alone ? "machine" : "anybody";
    return error == 0 ? PyUnicode_FromString(reach) : raise_errno(error, given);
}

/* Without the GIL. */
static int
count_marks(const char *path, unsigned *count)
{
    enum { MOST = 10000 };
    struct os_file file;
    struct os_status status;
    int error = os_open(&os_anywhere, path, OS_READ, &file, &status);
    if (error == 0) {
        *count = os_count_elders(&file, OS_FILE_QUEUE, os_date(), MOST);
        os_close(&file);
    }
    return error;
}

PyDoc_STRVAR(waiters_doc, "_waiters(path, /)\n--\n\n"
                          "How many wait for the lock file, or the unique file, at that path.\n"
                          "OSError: it cannot be opened.");

static PyObject *
count_waiters(PyObject *Py_UNUSED(module), PyObject *given)
{
    PyObject *path;
    if (!PyUnicode_FSConverter(given, &path)) {
        return NULL;
    }
    unsigned count = 0;
    int error;
    Py_BEGIN_ALLOW_THREADS
        error = count_marks(PyBytes_AsString(path), &count);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    return error == 0 ? PyLong_FromUnsignedLong(count) : raise_errno(error, given);
}

PyDoc_STRVAR(names_owner_doc, "_names_owner(name, /)\n--\n\n"
                              "Is that the name of an owner's unique file, by its form?");

static PyObject *
names_owner(PyObject *Py_UNUSED(module), PyObject *given)
{
    PyObject *text;
    struct name name;
    if (!PyUnicode_FSConverter(given, &text)) {
        return NULL;
    }
    bool named = proof_read_name(PyBytes_AsString(text), &name);
    Py_DECREF(text);
    return PyBool_FromLong(named);
}

PyMethodDef probing_functions[] = {
    {"_names_owner", names_owner, METH_O, names_owner_doc},
    {"_probe", probe_directory, METH_O, probe_doc},
    {"_reach", reach_of, METH_O, reach_doc},
    {"_waiters", count_waiters, METH_O, waiters_doc},
    {NULL, NULL, 0, NULL},
};
