#include "python/state.h"

/* Always the same one, whichever interpreter gives it. */
static const PyModuleDef *_Atomic module_definition;

void
state_register(const PyModuleDef *definition)
{
    module_definition = definition;
}

/* The state that the object's type, or the nearest of its bases, was made with. */
State *
state_of(PyObject *self)
{
    for (PyTypeObject *type = Py_TYPE(self); type != NULL;
         type = (PyTypeObject *)PyType_GetSlot(type, Py_tp_base)) {
        PyObject *module = PyType_GetModule(type);
        if (module != NULL && PyModule_GetDef(module) == module_definition) {
            return (State *)PyModule_GetState(module);
        }
        PyErr_Clear();
    }
    Py_FatalError("lockfile: a lock without its module");
}
