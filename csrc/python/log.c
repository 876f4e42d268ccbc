#include "python/log.h"

#include "python/modules.h"
#include "python/text.h"

#define DEBUG 10

/* A new reference. None: logging is not loaded; NULL with an exception. */
static PyObject *
find_logger(PyObject *modules)
{
    PyObject *name = PyUnicode_FromString("logging");
    PyObject *logging = loaded_module(modules, name);
    PyObject *logger = logging != NULL ? PyObject_CallMethod(logging, "getLogger", "s", "lockfile")
                                       : Py_NewRef(Py_None);
    Py_XDECREF(name);
    Py_XDECREF(logging);
    return logger;
}

static int
ask_logger(PyObject *modules)
{
    int wanted = 0;
    PyObject *logger = find_logger(modules);
    if (logger == NULL) {
        return -1;
    }
    if (logger != Py_None) {
        PyObject *enabled = PyObject_CallMethod(logger, "isEnabledFor", "i", DEBUG);
        wanted = enabled != NULL ? PyObject_IsTrue(enabled) : -1;
        Py_XDECREF(enabled);
    }
    Py_DECREF(logger);
    return wanted;
}

int
log_is_wanted(PyObject *modules)
{
    int wanted = ask_logger(modules);
    if (wanted < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear(); /* logging is being imported just now */
        wanted = 0;
    }
    return wanted;
}

bool
log_wait(PyObject *modules, const char *path, PyObject *owner)
{
    PyObject *logger = find_logger(modules);
    PyObject *text = logger != NULL && logger != Py_None ? decode(path) : NULL;
    PyObject *logged = text != NULL ? PyObject_CallMethod(logger, "debug", "sOO",
                                                          "%s: waiting for %s", text, owner)
                                    : NULL;
    Py_XDECREF(logger);
    Py_XDECREF(text);
    Py_XDECREF(logged);
    return !PyErr_Occurred();
}
