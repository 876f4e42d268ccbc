#include "python/body.h"

/* The exception that is set. NULL: it cannot be had. */
static PyObject *
take_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL && traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* "lockfile.NotLocked: counter is not locked", as a traceback ends. NULL with an exception. */
static PyObject *
spell(PyObject *exception)
{
    PyTypeObject *type = Py_TYPE(exception);
    PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
    PyObject *name = module != NULL ? PyType_GetQualName(type) : NULL;
    PyObject *text =
        name != NULL ? PyUnicode_FromFormat("%S.%U: %S", module, name, exception) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(name);
    return text;
}

/* Of blocks within each other, each end may fail, and for the same reason. -1 with an exception. */
static int
says_already(const struct errors *errors, PyObject *body, PyObject *text)
{
    int says = 0;
    if (PyErr_GivenExceptionMatches(body, errors->UnlockError)) {
        PyObject *said = spell(body);
        says = said != NULL ? PyUnicode_Compare(said, text) == 0 : -1;
        Py_XDECREF(said);
    }
    if (says == 0 && PyObject_HasAttrString(body, "__notes__")) {
        PyObject *notes = PyObject_GetAttrString(body, "__notes__");
        says = notes != NULL ? PySequence_Contains(notes, text) : -1;
        Py_XDECREF(notes);
    }
    return says;
}

/* False with an exception. */
static bool
add_note(const struct errors *errors, PyObject *body, PyObject *ours)
{
    PyObject *text = spell(ours);
    int says = text != NULL ? says_already(errors, body, text) : -1;
    PyObject *added = says == 0 ? PyObject_CallMethod(body, "add_note", "O", text) : NULL;
    Py_XDECREF(added);
    Py_XDECREF(text);
    return says > 0 || added != NULL;
}

/* For an exception that takes no notes, if it has no context yet. */
static void
add_context(PyObject *body, PyObject *ours)
{
    PyObject *context = PyException_GetContext(body);
    if (context == NULL) {
        PyException_SetContext(ours, NULL); /* which was the body's, and would make a circle */
        PyException_SetContext(body, Py_NewRef(ours));
    }
    Py_XDECREF(context);
}

/* False with an exception: what is more urgent than the body's came meanwhile. */
static bool
add_to_body(const struct errors *errors, PyObject *body, PyObject *ours)
{
    if (ours == body || add_note(errors, body, ours)) {
        return true;
    }
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return false;
    }
    PyErr_Clear();
    add_context(body, ours);
    return true;
}

bool
body_comes_first(const struct errors *errors, PyObject *exit_arguments)
{
    PyObject *body =
        PyTuple_Size(exit_arguments) > 1 ? PyTuple_GetItem(exit_arguments, 1) : Py_None;
    /* What a signal handler has raised, or a subclass's release() for reasons of its own, is no
     * news of the lock. */
    if (!PyExceptionInstance_Check(body) || !PyErr_ExceptionMatches(errors->UnlockError)) {
        return false;
    }
    PyObject *ours = take_exception();
    bool first = ours != NULL && add_to_body(errors, body, ours);
    Py_XDECREF(ours);
    return first;
}
