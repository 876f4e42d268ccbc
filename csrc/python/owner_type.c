#include "python/owner_type.h"

#include "python/text.h"

#include <string.h>

enum { FIELDS = 7 };

static PyStructSequence_Field owner_fields[] = {
    {"hostname", "the host that the owner runs on, or None"},
    {"pid", "its process's number there, or None"},
    {"thread", "its threading.get_ident(), or None for a whole process"},
    {"alive", "True, False, or None where that cannot be known"},
    /* No part of the tuple, and known only to who asks the lock. */
    {"since", "when the lock came to be, as time.time() counts, or None"},
    {"command", "its process's command line, or None"},
    {"shared", "whether others may hold the lock, too, who share it"},
    {NULL, NULL},
};

static PyStructSequence_Desc owner_description = {
    .name = "lockfile.Owner",
    .doc = "Who holds a lock.",
    .fields = owner_fields,
    .n_in_sequence = 4,
};

PyTypeObject *
owner_type_new(void)
{
    return PyStructSequence_NewType(&owner_description);
}

/* command: NULL: unknown. */
static PyObject *
make(PyTypeObject *type, const struct holder *holder, PyObject *command)
{
    const struct name *name = &holder->name;
    PyObject *fields[FIELDS] = {NULL};
    if (holder->known) {
        fields[0] = decode(name->host);
        fields[1] = PyLong_FromLong(name->process);
        fields[2] = name->thread != 0 ? PyLong_FromUnsignedLongLong(name->thread) : NULL;
    }
    fields[3] = holder->life == LIFE_UNKNOWN ? NULL : PyBool_FromLong(holder->life == LIFE_ALIVE);
    fields[4] = holder->since > 0 ? PyFloat_FromDouble((double)holder->since / 1e9) : NULL;
    fields[5] = Py_XNewRef(command);
    fields[6] = PyBool_FromLong(holder->is_shared);
    PyObject *owner = PyErr_Occurred() ? NULL : PyStructSequence_New(type);
    for (Py_ssize_t i = 0; i < FIELDS; i++) {
        if (owner == NULL) {
            Py_XDECREF(fields[i]);
        } else {
            PyStructSequence_SetItem(owner, i, fields[i] ? fields[i] : Py_NewRef(Py_None));
        }
    }
    return owner;
}

PyObject *
owner_new(PyTypeObject *type, const struct holder *holder)
{
    return make(type, holder, NULL);
}

static bool
runs_here(const struct attempt *attempt)
{
    const struct holder *holder = &attempt->report.holder;
    return holder->known && holder->life == LIFE_ALIVE &&
           strcmp(holder->name.host, attempt->lock->host) == 0;
}

/* None: unknown, which it may be for any reason. NULL with an exception: a signal's handler has
 * raised. */
static PyObject *
find_command(const struct holder *holder)
{
    PyObject *module = PyImport_ImportModule("lockfile._command");
    PyObject *command = module == NULL
                            ? NULL
                            : PyObject_CallMethod(module, "find", "iKK", (int)holder->name.process,
                                                  (unsigned long long)holder->beacon.device,
                                                  (unsigned long long)holder->beacon.number);
    Py_XDECREF(module);
    if (command == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear();
        command = Py_NewRef(Py_None);
    }
    return command;
}

PyObject *
owner_new_in_full(PyTypeObject *type, const struct attempt *attempt)
{
    const struct holder *holder = &attempt->report.holder;
    PyObject *command = runs_here(attempt) ? find_command(holder) : Py_NewRef(Py_None);
    PyObject *owner = command != NULL ? make(type, holder, command) : NULL;
    Py_XDECREF(command);
    return owner;
}
