/* The module: the table of lock classes, and what is left to do when the process ends.
 *
 * Alone above all floors, it alone knows both Python's side of a lock and the mechanisms. */
#include <Python.h>

#include "mechanisms/files/files.h"
#include "mechanisms/sqlite/ending.h"
#include "mechanisms/sqlite/pool.h"
#include "mechanisms/sqlite/sqlite.h"
#include "python/attributes.h"
#include "python/construct.h"
#include "python/lock_type.h"
#include "python/owner_type.h"
#include "python/pid_methods.h"
#include "python/probing.h"
#include "python/state.h"
#include "python/steps_type.h"
#include "python/watch.h"

#include <errno.h>

/* ---- The classes of locks ---- */

PyDoc_STRVAR(link_doc,
             "LinkFileLock(path, threaded=True, timeout=None, *, lock_file=None, owner=None, "
             "on_wait=None, shared=False)\n--\n\n"
             "A lock on path whose lock file is a hard link to a file of its owner's.\n"
             "\n"
             "path: what to protect (str, bytes or os.PathLike); it need not exist, but the lock\n"
             "file's directory must, and must be readable and writable.\n"
             "threaded: whether each thread is an owner of its own, or the process is one.\n"
             "timeout: seconds that acquire() and with wait by default; None: for ever.\n"
             "lock_file: the lock file's own name, for paths beside which none can be made (str,\n"
             "bytes or os.PathLike); None: abspath(path) + '.lock'.\n"
             "owner: who owns, said outright, whatever threaded says: 'task' (the asyncio task or\n"
             "the greenlet that calls; where none runs, the thread: what threaded=True means),\n"
             "'thread', 'process', or 'object': this lock object itself, whoever calls. Such an\n"
             "object that goes away while it owns releases the lock, with a ResourceWarning.\n"
             "on_wait: called with the Owner when a wait has lasted a tenth of a second, and then\n"
             "ever more rarely, once a minute at last; what it raises ends the wait.\n"
             "shared: whether others may hold the lock as well, who share it, too.\n"
             "\n"
             "Making one touches no file. Excludes whatever uses the same lock file, on\n"
             "network file systems too. A lock whose owner has died is recovered.");

PyDoc_STRVAR(mkdir_doc,
             "MkdirFileLock(path, threaded=True, timeout=None, *, lock_file=None, owner=None, "
             "on_wait=None, shared=False)\n--\n\n"
             "A lock on path whose lock file is a directory with a file of its owner's in it.\n"
             "\n"
             "The arguments are those of LinkFileLock. For file systems that have no hard\n"
             "links. It and LinkFileLock exclude each other on one lock file.");

PyDoc_STRVAR(symlink_doc,
             "SymlinkLockFile(path, threaded=True, timeout=None, *, lock_file=None, owner=None, "
             "on_wait=None, shared=False)\n--\n\n"
             "A lock on path whose lock file is a symbolic link to a file of its owner's.\n"
             "\n"
             "The arguments are those of LinkFileLock, but it cannot be shared. For file systems\n"
             "that have symbolic links, but no hard ones. It, LinkFileLock and MkdirFileLock "
             "exclude each other\n"
             "on one lock file.");

PyDoc_STRVAR(
    pid_doc,
    "PIDLockFile(path, threaded=False, timeout=None, *, on_wait=None, shared=False)\n--\n\n"
    "A lock whose lock file is path itself, a PID file: it holds the number of the\n"
    "process that owns it.\n"
    "\n"
    "path: the PID file (str, bytes or os.PathLike).\n"
    "threaded: has no effect, since the process is the owner.\n"
    "timeout: seconds that acquire() and with wait by default; None: not at all,\n"
    "float('inf'): for ever.\n"
    "on_wait: as of LinkFileLock.\n"
    "shared: refused if true: the file holds one number.\n"
    "\n"
    "What the process owns already, acquire() treats as held. A PID file whose owner\n"
    "has died is recovered, but not one that something else has written.");

PyDoc_STRVAR(
    sqlite_doc,
    "SQLiteFileLock(path, threaded=True, timeout=None, *, lock_file=None, owner=None, "
    "on_wait=None, shared=False, database=None)\n--\n\n"
    "A lock on path that is a row in an SQLite database.\n"
    "\n"
    "The first three arguments, on_wait, owner and shared are those of LinkFileLock. It does not\n"
    "exclude that or MkdirFileLock: those know nothing of the database.\n"
    "\n"
    "lock_file: the row's name, and the directory that it counts from; no such file is\n"
    "made. None: abspath(path) + '.lock'.\n"
    "database: where the row is (str, bytes or os.PathLike); None: .lockfile.sqlite3\n"
    "in the directory of lock_file. A database of locks alone, made if it is not there; one with\n"
    "tables of anybody else is refused. Locks with different databases do not exclude\n"
    "each other.");

static bool
prepare_pool(PyObject *pool)
{
    return pool_prepare(pool_of(pool));
}

/* A type of several of these is what the first row says. */
static const struct lock_class lock_classes[] = {
    {
        .name = "lockfile.LinkFileLock",
        .slots = (PyType_Slot[]){{Py_tp_doc, (void *)link_doc}, {0, NULL}},
        .mechanism = &link_mechanism,
    },
    {
        .name = "lockfile.MkdirFileLock",
        .slots = (PyType_Slot[]){{Py_tp_doc, (void *)mkdir_doc}, {0, NULL}},
        .mechanism = &mkdir_mechanism,
    },
    {
        .name = "lockfile.SymlinkLockFile",
        .slots = (PyType_Slot[]){{Py_tp_doc, (void *)symlink_doc}, {0, NULL}},
        .mechanism = &symlink_mechanism,
    },
    {
        .name = "lockfile.PIDLockFile",
        .slots = (PyType_Slot[]){{Py_tp_doc, (void *)pid_doc},
                                 {Py_tp_init, base_init}, /* its own, with other defaults */
                                 {Py_tp_methods, pid_methods},
                                 {0, NULL}},
        .mechanism = &pid_mechanism,
        .is_pid_file = true,
    },
    {
        .name = "lockfile.SQLiteFileLock",
        .slots =
            (PyType_Slot[]){
                {Py_tp_doc, (void *)sqlite_doc},
                {Py_tp_init, base_init}, /* its own, with one argument more */
                {Py_tp_getset,
                 (PyGetSetDef[]){{"database", get_store, NULL,
                                  "The database that the lock is in, absolute.", NULL},
                                 {NULL, NULL, NULL, NULL, NULL}}},
                {0, NULL},
            },
        .mechanism = &sqlite_mechanism,
        .store = "database",
        .usual_store = ".lockfile.sqlite3",
        .make_resource = ending_pool,
        .prepare_resource = prepare_pool,
    },
};

enum { CLASS_COUNT = sizeof lock_classes / sizeof *lock_classes };

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
    bool added = PyModule_AddType(module, state->Owner) == 0 &&
                 add_type(module, &state->LockBase, &base_spec, NULL) &&
                 (state->lock_file_attribute =
                      PyObject_GetAttr((PyObject *)state->LockBase, state->lock_file)) != NULL &&
                 add_type(module, &state->Steps, &steps_spec, NULL) &&
                 add_type(module, &state->Watch, &watch_spec, NULL);
    for (int i = 0; added && i < CLASS_COUNT; i++) {
        PyType_Spec spec = {
            .name = lock_classes[i].name,
            .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
            .slots = lock_classes[i].slots,
        };
        added = add_type(module, &state->class_states[i].type, &spec, state->LockBase);
    }
    return added;
}

static bool
make_resources(State *state)
{
    for (int i = 0; i < CLASS_COUNT; i++) {
        const struct lock_class *class = &lock_classes[i];
        if (class->make_resource != NULL &&
            (state->class_states[i].resource = class->make_resource()) == NULL) {
            return false;
        }
    }
    return true;
}

/* Once per process, also when an embedding program starts Python again. */
static bool releases_at_exit;

static void
release_at_exit(void)
{
    os_mutex_lock();
    releases_at_exit = false;
    os_mutex_unlock();
    lock_release_all();
}

static void
arrange_exit(void)
{
    os_mutex_lock();
    bool arranged = releases_at_exit;
    releases_at_exit = true;
    os_mutex_unlock();
    if (!arranged) {
        /* Refused, it would leave stale locks, which the next owner recovers. */
        Py_AtExit(release_at_exit);
    }
}

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->classes = lock_classes;
    state->class_count = CLASS_COUNT;
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
    state->on_wait = PyUnicode_InternFromString("on_wait");
    state->acquire = PyUnicode_InternFromString("acquire");
    state->release = PyUnicode_InternFromString("release");
    state->acquire_async = PyUnicode_InternFromString("acquire_async");
    state->lock_file = PyUnicode_InternFromString("lock_file");
    state->remake = PyObject_GetAttrString(module, "_remake");
    state->Owner = owner_type_new();
    if (state->abspath == NULL || state->timeout == NULL || state->on_wait == NULL ||
        state->acquire == NULL || state->release == NULL || state->acquire_async == NULL ||
        state->lock_file == NULL || state->remake == NULL || state->Owner == NULL ||
        !caller_finder_begin(&state->finder) || !errors_add(module, &state->errors, state->Owner) ||
        !add_types(module, state) || !make_resources(state) ||
        PyModule_AddFunctions(module, probing_functions) != 0) {
        return -1;
    }
    table_open();
    arrange_exit();
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    return state_traverse(PyModule_GetState(module), visit, arg);
}

static int
module_clear(PyObject *module)
{
    state_clear(PyModule_GetState(module));
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
    .m_size = sizeof(State) + CLASS_COUNT * sizeof(struct class_state),
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

/* Once for all interpreters, which may begin at the same time. */
static void
fill_slots_locked(void)
{
    static PyModuleDef_Slot slots[4];
    PyModuleDef_Slot *next = slots;
    if (definition.m_slots != NULL) {
        return;
    }
    *next++ = (PyModuleDef_Slot){Py_mod_exec, module_exec};
    if (Py_Version >= 0x030C0000) {
        *next++ = (PyModuleDef_Slot){MULTIPLE_INTERPRETERS_SLOT, PER_INTERPRETER_GIL_SUPPORTED};
    }
    if (Py_Version >= 0x030D0000) {
        *next++ = (PyModuleDef_Slot){GIL_SLOT, GIL_NOT_USED};
    }
    *next = (PyModuleDef_Slot){0, NULL};
    definition.m_slots = slots;
}

PyMODINIT_FUNC
PyInit__lockfile(void)
{
    os_mutex_lock();
    fill_slots_locked();
    os_mutex_unlock();
    state_register(&definition);
    return PyModuleDef_Init(&definition);
}
