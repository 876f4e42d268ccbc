#include "python/modules.h"

#include <stdbool.h>

PyObject *
loaded_module(PyObject *modules, PyObject *name)
{
    bool looks = modules != NULL && name != NULL;
    bool loaded = looks && PyDict_Contains(modules, name) > 0;
    PyObject *module = loaded ? PyObject_GetItem(modules, name) : NULL;
    PyErr_Clear();
    if (module == Py_None) {
        Py_CLEAR(module);
    }
    return module;
}
