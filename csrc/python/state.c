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
state_find(PyObject *self)
{
    for (PyTypeObject *type = Py_TYPE(self); type != NULL;
         type = (PyTypeObject *)PyType_GetSlot(type, Py_tp_base)) {
        PyObject *module = PyType_GetModule(type);
        if (module != NULL && PyModule_GetDef(module) == module_definition) {
            return (State *)PyModule_GetState(module);
        }
        PyErr_Clear();
    }
    return NULL;
}

State *
state_of(PyObject *self)
{
    State *state = state_find(self);
    if (state == NULL) {
        Py_FatalError("lockfile: a lock without its module");
    }
    return state;
}

const struct lock_class *
class_of(PyObject *self)
{
    const State *state = state_of(self);
    for (size_t i = 0; i < state->class_count; i++) {
        if (PyType_IsSubtype(Py_TYPE(self), state->class_states[i].type)) {
            return &state->classes[i];
        }
    }
    return NULL;
}

PyObject *
state_resource(const State *state, const struct mechanism *mechanism)
{
    for (size_t i = 0; i < state->class_count; i++) {
        if (state->classes[i].mechanism == mechanism) {
            return state->class_states[i].resource;
        }
    }
    return NULL;
}

int
state_traverse(const State *state, visitproc visit, void *arg)
{
    int stopped = errors_traverse(&state->errors, visit, arg);
    stopped = stopped != 0 ? stopped : caller_finder_traverse(&state->finder, visit, arg);
    if (stopped != 0) {
        return stopped;
    }
    for (size_t i = 0; i < state->class_count; i++) {
        Py_VISIT(state->class_states[i].type);
        Py_VISIT(state->class_states[i].resource);
    }
    Py_VISIT(state->Owner);
    Py_VISIT(state->LockBase);
    Py_VISIT(state->Steps);
    Py_VISIT(state->Watch);
    Py_VISIT(state->waiting);
    Py_VISIT(state->abspath);
    Py_VISIT(state->timeout);
    Py_VISIT(state->on_wait);
    Py_VISIT(state->acquire);
    Py_VISIT(state->release);
    Py_VISIT(state->acquire_async);
    Py_VISIT(state->waits_in);
    Py_VISIT(state->lock_file);
    Py_VISIT(state->lock_file_attribute);
    Py_VISIT(state->remake);
    return 0;
}

void
state_clear(State *state)
{
    errors_clear(&state->errors);
    caller_finder_clear(&state->finder);
    for (size_t i = 0; i < state->class_count; i++) {
        Py_CLEAR(state->class_states[i].resource);
        Py_CLEAR(state->class_states[i].type);
    }
    Py_CLEAR(state->Owner);
    Py_CLEAR(state->LockBase);
    Py_CLEAR(state->Steps);
    Py_CLEAR(state->Watch);
    Py_CLEAR(state->waiting);
    Py_CLEAR(state->abspath);
    Py_CLEAR(state->timeout);
    Py_CLEAR(state->on_wait);
    Py_CLEAR(state->acquire);
    Py_CLEAR(state->release);
    Py_CLEAR(state->acquire_async);
    Py_CLEAR(state->waits_in);
    Py_CLEAR(state->lock_file);
    Py_CLEAR(state->lock_file_attribute);
    Py_CLEAR(state->remake);
}
