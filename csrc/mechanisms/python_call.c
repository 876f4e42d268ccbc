#include "mechanisms/python_call.h"

static _Thread_local struct python_call *current;

void
python_call_begin(struct python_call *call, void *resource)
{
    *call = (struct python_call){.resource = resource, .outer = current};
    current = call;
}

void
python_call_end(struct python_call *call)
{
    current = call->outer;
    Py_CLEAR(call->error);
}

struct python_call *
python_call_current(void)
{
    return current;
}

void
python_call_leave(struct python_call *call)
{
    call->thread = PyEval_SaveThread();
}

void
python_call_return(struct python_call *call)
{
    PyEval_RestoreThread(call->thread);
}

/* With the traceback of nobody. */
PyObject *
python_call_take_error(struct python_call *call)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    PyObject *former = call->error;
    call->error = value;
    Py_XDECREF(former);
    return value;
}

void
python_call_restore_error(struct python_call *call, PyObject *error)
{
    PyObject *dropped = call->error;
    call->error = error;
    if (dropped != NULL) {
        python_call_return(call);
        Py_DECREF(dropped);
        python_call_leave(call);
    }
}
