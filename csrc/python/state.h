/* What the files that know Python share: the module's state, and its one base type.
 *
 * Mechanisms differ below lock.h; in Python, a lock class is LockBase with another
 * mechanism, so all methods are LockBase's (base.c). */
#ifndef LOCKFILE_FACE_H
#define LOCKFILE_FACE_H

#include <Python.h>

#include "core/lock.h"
#include "mechanisms/sqlite/sqlite.h"
#include "python/errors.h"

typedef struct {
    struct errors errors;
    PyTypeObject *Owner;
    PyTypeObject *LockBase, *LinkFileLock, *MkdirFileLock, *SQLiteFileLock;
    PyObject *abspath;
    PyObject *timeout; /* the attribute's name */
    PyObject *remake;
    PyObject *pool; /* of connections to databases, the interpreter's */
} State;

/* The module's state, from any object of its types or of subclasses. */
State *state_of(PyObject *self);

extern PyType_Spec base_spec;

/* ---- Lock objects ---- */

typedef struct {
    PyObject_HEAD
    PyObject *dict;
    PyObject *weak_references;
    /* Guarded by os_lock(), as is all below; NULL until __init__ was called. */
    struct lock *lock;
    bool has_timeout;
    double timeout;
    /* with blocks of a subclass in Python that brings its own acquire and release */
    struct nesting *nestings;
} LockObject;

static inline PyObject *
decode(const char *text)
{
    return PyUnicode_DecodeFSDefault(text);
}

/* The object's lock, to be dropped. NULL with an exception. */
struct lock *share_lock(PyObject *self);

/* One call of a method. */
struct call {
    struct attempt attempt;
    struct caller caller;
};

/* Shares the lock until end(), which passes its result on. False with an exception: the
 * object has none. */
bool begin_any(PyObject *self, struct call *call, int64_t deadline);
PyObject *end(struct call *call, PyObject *result);

/* Does what lock.h offers. LOCK_INTERRUPTED with an exception: a signal's handler has raised. */
enum outcome run(struct call *call, enum outcome (*operation)(struct attempt *attempt));

PyObject *get_path(PyObject *self, void *closure);
PyObject *get_lock_file(PyObject *self, void *closure);
PyObject *get_database(PyObject *self, void *closure);
PyObject *get_threaded(PyObject *self, void *closure);
PyObject *constructor_timeout(const LockObject *object);

/* ---- Making (making.c) ---- */

/* Seconds, or None. False with an exception. */
bool read_timeout(PyObject *value, bool *given, double *seconds);

int base_init(PyObject *self, PyObject *args, PyObject *kwargs);
int sqlite_init(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *base_reduce(PyObject *self, PyObject *ignored);
extern PyMethodDef making_functions[];

/* ---- with (with.c) ---- */

PyObject *base_enter(PyObject *self, PyObject *ignored);
PyObject *base_exit(PyObject *self, PyObject *exception);

void forget_nestings(LockObject *object);

/* Whether with has called this release(), for the first call on that object only. */
bool is_called_by_with(const PyObject *self);
void remember_acquired(const PyObject *self);

#endif
