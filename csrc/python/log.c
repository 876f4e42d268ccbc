#include "python/log.h"

#include "python/text.h"

#define DEBUG 10

/* A new reference. None: logging is not loaded; NULL with an exception. */
static PyObject *
find_logger(void)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed, as what is in it */
    PyObject *logging = modules != NULL ? PyDict_GetItemString(modules, "logging") : NULL;
    return logging != NULL && logging != Py_None
               ? PyObject_CallMethod(logging, "getLogger", "s", "lockfile")
               : Py_NewRef(Py_None);
}

static int
ask_logger(void)
{
    int wanted = 0;
    PyObject *logger = find_logger();
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
log_is_wanted(void)
{
    int wanted = ask_logger();
    if (wanted < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear(); /* logging is being imported just now */
        wanted = 0;
    }
    return wanted;
}

bool
log_wait(const char *path, PyObject *owner)
{
    PyObject *logger = find_logger();
    PyObject *text = logger != NULL && logger != Py_None ? decode(path) : NULL;
    PyObject *logged = text != NULL ? PyObject_CallMethod(logger, "debug", "sOO",
                                                          "%s: waiting for %s", text, owner)
                                    : NULL;
    Py_XDECREF(logger);
    Py_XDECREF(text);
    Py_XDECREF(logged);
    return !PyErr_Occurred();
}
