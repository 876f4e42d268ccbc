#include "python/caller.h"

#include "python/modules.h"

#include <stdatomic.h>

/* ---- What modules have ---- */

/* Takes found over, which may be NULL. The first that is kept stays. */
static PyObject *
keep(_Atomic(PyObject *) *place, PyObject *found)
{
    PyObject *none = NULL;
    PyErr_Clear();
    if (found == NULL || atomic_compare_exchange_strong(place, &none, found)) {
        return found;
    }
    Py_DECREF(found);
    return none;
}

/* What a module has, borrowed; NULL, without an exception: it has it not, or is not loaded yet.
 * Once it is kept, the module is not looked for any more. */
static PyObject *
kept(const struct caller_finder *finder, _Atomic(PyObject *) *place, PyObject *name,
     PyObject *(*find)(PyObject *module))
{
    PyObject *known = *place;
    if (known != NULL) {
        return known;
    }
    PyObject *module = loaded_module(finder->modules, name);
    known = module != NULL ? keep(place, find(module)) : NULL;
    Py_XDECREF(module);
    return known;
}

/* Patched, a function of the module's is not a built-in one any more. */
static bool
is_patched(const struct caller_finder *finder, PyObject *name, const char *function)
{
    PyObject *module = loaded_module(finder->modules, name);
    PyObject *found = module != NULL ? PyObject_GetAttrString(module, function) : NULL;
    bool patched = found != NULL && !PyCFunction_Check(found);
    Py_XDECREF(module);
    Py_XDECREF(found);
    PyErr_Clear();
    return patched;
}

bool
caller_finder_begin(struct caller_finder *finder)
{
    finder->modules = Py_XNewRef(PyImport_GetModuleDict());
    finder->asyncio = PyUnicode_InternFromString("asyncio");
    finder->greenlet = PyUnicode_InternFromString("greenlet");
    finder->threading = PyUnicode_InternFromString("threading");
    finder->select = PyUnicode_InternFromString("select");
    finder->numbers = PyDict_New();
    return finder->asyncio != NULL && finder->greenlet != NULL && finder->threading != NULL &&
           finder->select != NULL && finder->numbers != NULL;
}

int
caller_finder_traverse(const struct caller_finder *finder, visitproc visit, void *arg)
{
    Py_VISIT(finder->modules);
    Py_VISIT(finder->running_loop);
    Py_VISIT(finder->current_task);
    Py_VISIT(finder->current_greenlet);
    Py_VISIT(finder->numbers);
    return 0;
}

static void
let_go(_Atomic(PyObject *) *place)
{
    Py_XDECREF(atomic_exchange(place, NULL));
}

void
caller_finder_clear(struct caller_finder *finder)
{
    Py_CLEAR(finder->modules);
    Py_CLEAR(finder->asyncio);
    Py_CLEAR(finder->greenlet);
    Py_CLEAR(finder->threading);
    Py_CLEAR(finder->select);
    let_go(&finder->running_loop);
    let_go(&finder->current_task);
    let_go(&finder->current_greenlet);
    Py_CLEAR(finder->numbers);
}

/* ---- Which greenlet runs, which task ---- */

/* ... of a module: new references. */
static PyObject *
find_getcurrent(PyObject *greenlet)
{
    return PyObject_GetAttrString(greenlet, "getcurrent");
}

static PyObject *
find_running_loop(PyObject *asyncio)
{
    return PyObject_GetAttrString(asyncio, "_get_running_loop");
}

/* The function that tells it; before Python 3.12 that is Python code, in which a signal handler may
 * raise, so the table that it looks into is taken. */
static PyObject *
find_current_task(PyObject *asyncio)
{
    PyObject *function = PyObject_GetAttrString(asyncio, "current_task");
    if (function == NULL || PyCFunction_Check(function)) {
        return function;
    }
    PyErr_Clear();
    PyObject *tasks = PyObject_GetAttrString(asyncio, "tasks");
    PyObject *table = tasks != NULL ? PyObject_GetAttrString(tasks, "_current_tasks") : NULL;
    Py_XDECREF(tasks);
    if (table == NULL || !PyDict_Check(table)) {
        Py_XDECREF(table);
        return function;
    }
    Py_DECREF(function);
    return table;
}

/* New references; None or NULL without an exception: none runs. */
static PyObject *
running_greenlet(struct caller_finder *finder)
{
    bool counts = finder->modules != NULL &&
                  PyDict_Contains(finder->modules, finder->greenlet) > 0 &&
                  is_patched(finder, finder->threading, "get_ident");
    PyObject *current =
        counts ? kept(finder, &finder->current_greenlet, finder->greenlet, find_getcurrent) : NULL;
    return current != NULL ? PyObject_CallNoArgs(current) : NULL;
}

static PyObject *
task_of(struct caller_finder *finder, PyObject *loop)
{
    PyObject *current = kept(finder, &finder->current_task, finder->asyncio, find_current_task);
    if (current == NULL) {
        return NULL;
    }
    return PyDict_Check(current) ? Py_XNewRef(PyDict_GetItemWithError(current, loop))
                                 : PyObject_CallFunctionObjArgs(current, loop, NULL);
}

/* Where threading is patched, a loop is one greenlet's, and nobody else of its thread is a task. */
static bool
runs_in_this_greenlet(struct caller_finder *finder, PyObject *loop)
{
    PyObject *threading = loaded_module(finder->modules, finder->threading);
    PyObject *runs_in = PyObject_GetAttrString(loop, "_thread_id");
    PyObject *here = runs_in != NULL && threading != NULL
                         ? PyObject_CallMethod(threading, "get_ident", NULL)
                         : NULL;
    bool same = here == NULL || PyObject_RichCompareBool(here, runs_in, Py_EQ) != 0;
    PyErr_Clear();
    Py_XDECREF(threading);
    Py_XDECREF(runs_in);
    Py_XDECREF(here);
    return same;
}

static PyObject *
running_task(struct caller_finder *finder, bool has_greenlets)
{
    PyObject *function = kept(finder, &finder->running_loop, finder->asyncio, find_running_loop);
    PyObject *loop = function != NULL ? PyObject_CallNoArgs(function) : NULL;
    if (loop == NULL || loop == Py_None) {
        return loop;
    }
    PyObject *task =
        has_greenlets && !runs_in_this_greenlet(finder, loop) ? NULL : task_of(finder, loop);
    Py_DECREF(loop);
    return task;
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

/* Is it the strand's? Not one's that had its address before. */
static bool
refers_to(PyObject *entry, PyObject *strand)
{
    PyObject *found = PyObject_CallNoArgs(PyTuple_GetItem(entry, 0));
    Py_XDECREF(found);
    return found == strand;
}

/* 0 with an exception. */
static uint64_t
number_of(PyObject *numbers, PyObject *strand)
{
    PyObject *address = PyLong_FromVoidPtr(strand);
    PyObject *entry = address != NULL ? PyDict_GetItemWithError(numbers, address) : NULL;
    if (entry != NULL && refers_to(entry, strand)) {
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

/* Is it one, and may it be asked for its number? At the interpreter's end, only the thread may. */
static bool
is_strand(const struct caller_finder *finder, PyObject *strand)
{
    return strand != NULL && strand != Py_None && finder->numbers != NULL;
}

/* False with an exception. */
static bool
number_caller(struct caller_finder *finder, PyObject *strand, enum owner_kind kind,
              struct owner *owner)
{
    if (is_strand(finder, strand)) {
        owner->caller = number_of(finder->numbers, strand);
        owner->token = owner->caller;
        owner->kind = kind;
    }
    return !PyErr_Occurred();
}

bool
caller_find(struct caller_finder *finder, const struct lock *lock, struct caller *caller)
{
    *caller = (struct caller){.owner = owner_calling(true)};
    struct owner thread = caller->owner;
    PyObject *greenlet = running_greenlet(finder);
    PyObject *task = !PyErr_Occurred() ? running_task(finder, greenlet != NULL) : NULL;
    bool is_task = is_strand(finder, task);
    caller->lets_others_run =
        !is_task && is_strand(finder, greenlet) && is_patched(finder, finder->select, "select");
    bool found =
        !PyErr_Occurred() && number_caller(finder, is_task ? task : greenlet,
                                           is_task ? OWNER_TASK : OWNER_GREENLET, &caller->owner);
    Py_XDECREF(greenlet);
    Py_XDECREF(task);
    if (found && lock != NULL) {
        caller->owner = owner_of(lock, caller->owner, thread);
    }
    return found;
}
