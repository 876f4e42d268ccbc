#include "python/owner_type.h"

#include "python/text.h"

static PyStructSequence_Field owner_fields[] = {
    {"hostname", "the host that the owner runs on, or None"},
    {"pid", "its process's number there, or None"},
    {"thread", "its threading.get_ident(), or None for a whole process"},
    {"alive", "True, False, or None where that cannot be known"},
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

PyObject *
owner_new(PyTypeObject *type, const struct holder *holder)
{
    const struct name *name = &holder->name;
    PyObject *fields[4] = {NULL, NULL, NULL, NULL};
    if (holder->known) {
        fields[0] = decode(name->host);
        fields[1] = PyLong_FromLong(name->process);
        fields[2] = name->thread != 0 ? PyLong_FromUnsignedLongLong(name->thread) : NULL;
    }
    fields[3] = holder->life == LIFE_UNKNOWN ? NULL : PyBool_FromLong(holder->life == LIFE_ALIVE);
    PyObject *owner = PyErr_Occurred() ? NULL : PyStructSequence_New(type);
    for (Py_ssize_t i = 0; i < 4; i++) {
        if (owner == NULL) {
            Py_XDECREF(fields[i]);
        } else {
            PyStructSequence_SetItem(owner, i, fields[i] ? fields[i] : Py_NewRef(Py_None));
        }
    }
    return owner;
}
