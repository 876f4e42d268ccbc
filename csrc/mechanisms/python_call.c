#include "mechanisms/python_call.h"

static _Thread_local struct python_call *offered;

void
python_call_offer(struct python_call *call)
{
    offered = call;
}

void
python_call_withdraw(void)
{
    offered = NULL;
}

struct python_call *
python_call_offered(void)
{
    return offered;
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
