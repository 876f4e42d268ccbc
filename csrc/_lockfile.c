/* The module: its types, its state, and what is left to do when Python ends. */
#include "mechanisms/sqlite/ending.h"
#include "mechanisms/sqlite/sqlite.h"
#include "python/attributes.h"
#include "python/construct.h"
#include "python/lock_type.h"
#include "python/owner_type.h"

#include <errno.h>

/* ---- The types ---- */

PyDoc_STRVAR(link_doc,
             "LinkFileLock(path, threaded=True, timeout=None)\n--\n\n"
             "A lock on path whose lock file is a hard link to a file of its owner's.\n"
             "\n"
             "path: what to protect (str, bytes or os.PathLike); it need not exist, but its\n"
             "directory must, and must be readable and writable.\n"
             "threaded: whether each thread is an owner of its own, or the process is one.\n"
             "timeout: seconds that acquire() and with wait by default; None: for ever.\n"
             "\n"
             "Making one touches no file. Excludes whatever uses the same lock file, on\n"
             "network file systems too. A lock whose owner has died is recovered.");

PyDoc_STRVAR(mkdir_doc,
             "MkdirFileLock(path, threaded=True, timeout=None)\n--\n\n"
             "A lock on path whose lock file is a directory with a file of its owner's in it.\n"
             "\n"
             "The arguments are those of LinkFileLock. For file systems that have no hard\n"
             "links. It and LinkFileLock exclude each other on one path.");

static PyType_Slot link_slots[] = {
    {Py_tp_doc, (void *)link_doc},
    {0, NULL},
};

static PyType_Spec link_spec = {
    .name = "lockfile.LinkFileLock",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = link_slots,
};

static PyType_Slot mkdir_slots[] = {
    {Py_tp_doc, (void *)mkdir_doc},
    {0, NULL},
};

static PyType_Spec mkdir_spec = {
    .name = "lockfile.MkdirFileLock",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = mkdir_slots,
};

PyDoc_STRVAR(sqlite_doc,
             "SQLiteFileLock(path, threaded=True, timeout=None, *, database=None)\n--\n\n"
             "A lock on path that is a row in an SQLite database.\n"
             "\n"
             "The first three arguments are those of LinkFileLock. It does not exclude that\n"
             "or MkdirFileLock: those know nothing of the database.\n"
             "\n"
             "database: where the row is (str, bytes or os.PathLike); None: .lockfile.sqlite3\n"
             "in path's directory. A database of locks alone, made if it is not there; one with\n"
             "tables of anybody else is refused. Locks with different databases do not exclude\n"
             "each other.");

static PyType_Slot sqlite_slots[] = {
    {Py_tp_doc, (void *)sqlite_doc},
    {Py_tp_init, sqlite_init},
    {Py_tp_getset, (PyGetSetDef[]){{"database", get_database, NULL,
                                    "The database that the lock is in, absolute.", NULL},
                                   {NULL, NULL, NULL, NULL, NULL}}},
    {0, NULL},
};

static PyType_Spec sqlite_spec = {
    .name = "lockfile.SQLiteFileLock",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = sqlite_slots,
};

/* ---- The module ---- */

static bool
add_type(PyObject *module, PyTypeObject **place, PyType_Spec *spec, PyTypeObject *base)
{
    *place = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    return *place != NULL && PyModule_AddType(module, *place) == 0;
}

static bool
add_types(PyObject *module, State *state)
{
    state->Owner = owner_type_new();
    return state->Owner != NULL && PyModule_AddType(module, state->Owner) == 0 &&
           add_type(module, &state->LockBase, &base_spec, NULL) &&
           add_type(module, &state->LinkFileLock, &link_spec, state->LockBase) &&
           add_type(module, &state->MkdirFileLock, &mkdir_spec, state->LockBase) &&
           add_type(module, &state->SQLiteFileLock, &sqlite_spec, state->LockBase);
}

/* Once per process, also when an embedding program starts Python again. */
static bool releases_at_exit;

static void
release_at_exit(void)
{
    os_lock();
    releases_at_exit = false;
    os_unlock();
    lock_release_all();
}

static void
arrange_exit(void)
{
    os_lock();
    bool arranged = releases_at_exit;
    releases_at_exit = true;
    os_unlock();
    if (!arranged) {
        /* Refused, it would leave stale locks, which the next owner recovers. */
        Py_AtExit(release_at_exit);
    }
}

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    int error = os_begin();
    if (error != 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    PyObject *path = PyImport_ImportModule("os.path");
    state->abspath = path != NULL ? PyObject_GetAttrString(path, "abspath") : NULL;
    Py_XDECREF(path);
    state->timeout = PyUnicode_InternFromString("timeout");
    state->remake = PyObject_GetAttrString(module, "_remake");
    if (state->abspath == NULL || state->timeout == NULL || state->remake == NULL ||
        !errors_add(module, &state->errors) || !add_types(module, state)) {
        return -1;
    }
    state->pool = ending_pool();
    if (state->pool == NULL) {
        return -1;
    }
    table_open();
    arrange_exit();
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    int stopped = errors_traverse(&state->errors, visit, arg);
    if (stopped != 0) {
        return stopped;
    }
    Py_VISIT(state->Owner);
    Py_VISIT(state->LockBase);
    Py_VISIT(state->LinkFileLock);
    Py_VISIT(state->MkdirFileLock);
    Py_VISIT(state->SQLiteFileLock);
    Py_VISIT(state->abspath);
    Py_VISIT(state->timeout);
    Py_VISIT(state->remake);
    return 0;
}

static int
module_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->pool);
    errors_clear(&state->errors);
    Py_CLEAR(state->Owner);
    Py_CLEAR(state->LockBase);
    Py_CLEAR(state->LinkFileLock);
    Py_CLEAR(state->MkdirFileLock);
    Py_CLEAR(state->SQLiteFileLock);
    Py_CLEAR(state->abspath);
    Py_CLEAR(state->timeout);
    Py_CLEAR(state->remake);
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "lockfile._lockfile",
    .m_doc = "File locks that the file system grants and the kernel vouches for.",
    .m_size = sizeof(State),
    .m_methods = construct_functions,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

/* Slots newer than the limited API that we build for. An older Python refuses
 * them, so the array is made when it is known which one runs. */
enum { MULTIPLE_INTERPRETERS_SLOT = 3, GIL_SLOT = 4 };
#define PER_INTERPRETER_GIL_SUPPORTED ((void *)2)
#define GIL_NOT_USED ((void *)1)

PyMODINIT_FUNC
PyInit__lockfile(void)
{
    static PyModuleDef_Slot slots[4];
    PyModuleDef_Slot *next = slots;
    *next++ = (PyModuleDef_Slot){Py_mod_exec, module_exec};
    if (Py_Version >= 0x030C0000) {
        *next++ = (PyModuleDef_Slot){MULTIPLE_INTERPRETERS_SLOT, PER_INTERPRETER_GIL_SUPPORTED};
    }
    if (Py_Version >= 0x030D0000) {
        *next++ = (PyModuleDef_Slot){GIL_SLOT, GIL_NOT_USED};
    }
    *next = (PyModuleDef_Slot){0, NULL};
    definition.m_slots = slots;
    state_register(&definition);
    return PyModuleDef_Init(&definition);
}
