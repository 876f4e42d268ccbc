#include "python/caller.h"

/* ---- Modules, if they are loaded ---- */

/* Borrowed; NULL, without an exception: it is not loaded. */
static PyObject *
loaded_module(PyObject *name)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *module = modules != NULL ? PyDict_GetItemWithError(modules, name) : NULL;
    PyErr_Clear();
    return module != Py_None ? module : NULL;
}

/* Remembers what the module has; false, without an exception: it has it not, or not yet. */
static bool
remember(PyObject **place, PyObject *module, const char *name)
{
    if (*place == NULL) {
        *place = PyObject_GetAttrString(module, name);
        PyErr_Clear();
    }
    return *place != NULL;
}

bool
caller_finder_begin(struct caller_finder *finder)
{
    finder->asyncio = PyUnicode_InternFromString("asyncio");
    finder->greenlet = PyUnicode_InternFromString("greenlet");
    finder->threading = PyUnicode_InternFromString("threading");
    finder->numbers = PyDict_New();
    return finder->asyncio != NULL && finder->greenlet != NULL && finder->threading != NULL &&
           finder->numbers != NULL;
}

int
caller_finder_traverse(const struct caller_finder *finder, visitproc visit, void *arg)
{
    Py_VISIT(finder->running_loop);
    Py_VISIT(finder->current_task);
    Py_VISIT(finder->current_greenlet);
    Py_VISIT(finder->numbers);
    return 0;
}

void
caller_finder_clear(struct caller_finder *finder)
{
    Py_CLEAR(finder->asyncio);
    Py_CLEAR(finder->greenlet);
    Py_CLEAR(finder->threading);
    Py_CLEAR(finder->running_loop);
    Py_CLEAR(finder->current_task);
    Py_CLEAR(finder->current_greenlet);
    Py_CLEAR(finder->numbers);
}

/* ---- Which one runs ---- */

/* New references; None or NULL without an exception: none runs. */
static PyObject *
running_task(struct caller_finder *finder)
{
    PyObject *asyncio = loaded_module(finder->asyncio);
    if (asyncio == NULL || !remember(&finder->running_loop, asyncio, "_get_running_loop") ||
        !remember(&finder->current_task, asyncio, "current_task")) {
        return NULL;
    }
    PyObject *loop = PyObject_CallNoArgs(finder->running_loop);
    if (loop == NULL || loop == Py_None) {
        return loop;
    }
    PyObject *task = PyObject_CallFunctionObjArgs(finder->current_task, loop, NULL);
    Py_DECREF(loop);
    return task;
}

/* Patched, threading tells greenlets apart; it is a function of Python's then. */
static bool
is_patched(struct caller_finder *finder)
{
    PyObject *threading = loaded_module(finder->threading);
    PyObject *get_ident = threading != NULL ? PyObject_GetAttrString(threading, "get_ident") : NULL;
    bool patched = get_ident != NULL && !PyObject_TypeCheck(get_ident, &PyCFunction_Type);
    Py_XDECREF(get_ident);
    PyErr_Clear();
    return patched;
}

static PyObject *
running_greenlet(struct caller_finder *finder)
{
    PyObject *greenlet = loaded_module(finder->greenlet);
    if (greenlet == NULL || !is_patched(finder) ||
        !remember(&finder->current_greenlet, greenlet, "getcurrent")) {
        return NULL;
    }
    return PyObject_CallNoArgs(finder->current_greenlet);
}

/* ---- Numbers ---- */

/* Called when one is gone: its address may be another's next. self: the numbers, and the address.
 */
static PyObject *
forget(PyObject *self, PyObject *reference)
{
    PyObject *numbers, *address;
    if (!PyArg_ParseTuple(self, "OO", &numbers, &address)) {
        return NULL;
    }
    PyObject *entry = PyDict_GetItemWithError(numbers, address);
    if (entry != NULL && PyTuple_GetItem(entry, 0) == reference) {
        PyDict_DelItem(numbers, address);
    }
    PyErr_Clear();
    return Py_NewRef(Py_None);
}

static PyMethodDef forget_method = {"forget", forget, METH_O, NULL};

/* A weak reference, and a number that is never used again. */
static PyObject *
new_entry(PyObject *numbers, PyObject *address, PyObject *strand)
{
    PyObject *self = PyTuple_Pack(2, numbers, address);
    PyObject *callback = self != NULL ? PyCFunction_NewEx(&forget_method, self, NULL) : NULL;
    PyObject *reference = callback != NULL ? PyWeakref_NewRef(strand, callback) : NULL;
    PyObject *entry = reference != NULL
                          ? Py_BuildValue("(OK)", reference, (unsigned long long)os_new_token())
                          : NULL;
    if (entry != NULL && PyDict_SetItem(numbers, address, entry) != 0) {
        Py_CLEAR(entry);
    }
    Py_XDECREF(self);
    Py_XDECREF(callback);
    Py_XDECREF(reference);
    return entry;
}

/* 0 with an exception. */
static uint64_t
number_of(PyObject *numbers, PyObject *strand)
{
    PyObject *address = PyLong_FromVoidPtr(strand);
    PyObject *entry = address != NULL ? PyDict_GetItemWithError(numbers, address) : NULL;
    if (entry != NULL && PyWeakref_GetObject(PyTuple_GetItem(entry, 0)) == strand) {
        Py_INCREF(entry);
    } else {
        entry = address != NULL && !PyErr_Occurred() ? new_entry(numbers, address, strand) : NULL;
    }
    uint64_t number = entry != NULL ? PyLong_AsUnsignedLongLong(PyTuple_GetItem(entry, 1)) : 0;
    Py_XDECREF(address);
    Py_XDECREF(entry);
    return number;
}

/* ---- The owner ---- */

static bool
is_one(PyObject *strand)
{
    return strand != NULL && strand != Py_None;
}

/* Takes the strand over, which may be NULL or None. */
static bool
own_by(struct caller_finder *finder, PyObject *strand, bool threaded, struct owner *owner)
{
    if (PyErr_Occurred()) {
        return false;
    }
    *owner = owner_calling(threaded);
    if (is_one(strand)) {
        owner->caller = number_of(finder->numbers, strand);
        owner->token = threaded ? owner->caller : 0;
    }
    Py_XDECREF(strand);
    return owner->caller != 0;
}

bool
caller_find(struct caller_finder *finder, bool threaded, struct owner *owner,
            enum caller_kind *kind)
{
    PyObject *strand = running_task(finder);
    *kind = is_one(strand) ? CALLER_TASK : CALLER_THREAD;
    if (*kind == CALLER_THREAD && !PyErr_Occurred()) {
        Py_XDECREF(strand);
        strand = running_greenlet(finder);
        *kind = is_one(strand) ? CALLER_GREENLET : CALLER_THREAD;
    }
    return own_by(finder, strand, threaded, owner);
}
