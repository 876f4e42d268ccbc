/* What all files of this floor share: the module's state, and the lock object.
 *
 * A class of locks is LockBase with another mechanism, so all methods are LockBase's. */
#ifndef LOCKFILE_STATE_H
#define LOCKFILE_STATE_H

#include <Python.h>

#include "core/lock.h"
#include "python/caller.h"
#include "python/errors.h"

/* ---- Classes of locks ---- */

/* A row of the module's table, for each class but LockBase. */
struct lock_class {
    const char *name; /* with the package's */
    PyType_Slot *slots;
    const struct mechanism *mechanism;

    /* Where the locks are, if not beside the path: the constructor's keyword argument that says
     * so, and which file in the path's directory it is by default. NULL: no such argument. */
    const char *store;
    const char *usual_store;

    /* The lock file is the path itself, the whole process owns it, and who says no timeout does not
     * wait. */
    bool is_pid_file;

    /* What the interpreter keeps for the class, as a capsule: asked for when the module is made,
     * and told before each lock is made. NULL and false with an exception. Both NULL: the class
     * needs nothing. */
    PyObject *(*make_resource)(void);
    bool (*prepare_resource)(PyObject *resource);
};

/* What a module has for a row of the table. */
struct class_state {
    PyTypeObject *type;
    PyObject *resource;
};

/* ---- The module's state ---- */

typedef struct {
    struct errors errors;
    struct caller_finder finder;
    PyTypeObject *Owner, *LockBase, *Steps, *Watch;
    PyObject *abspath;
    PyObject *timeout, *on_wait;                 /* the attributes' names */
    PyObject *lock_file;                         /* another one's, ... */
    PyObject *lock_file_attribute;               /* ... and what LockBase has under it */
    PyObject *acquire, *release, *acquire_async; /* the methods' */
    PyObject *remake;
    PyObject *waiting;  /* the module of coroutines, once it was used, */
    PyObject *waits_in; /* and its table of the loops in which somebody waits */
    size_t class_count;
    const struct lock_class *classes;
    struct class_state class_states[]; /* as many */
} State;

/* By its definition the module's state is found: it is given here when the module is made. */
void state_register(const PyModuleDef *definition);

/* The module's state, from any object of its types or of subclasses. */
State *state_of(PyObject *self);

/* NULL: there is none any more, at the interpreter's end. */
State *state_find(PyObject *self);

/* The class that the object's type is, or is a subclass of. NULL: of LockBase alone. */
const struct lock_class *class_of(PyObject *self);

/* What is kept for the mechanism's class, borrowed. NULL: nothing, or nothing any more: a
 * finalizer calls, whose module is gone. */
PyObject *state_resource(const State *state, const struct mechanism *mechanism);

/* For the garbage collector. */
int state_traverse(const State *state, visitproc visit, void *arg);
void state_clear(State *state);

/* ---- Lock objects ---- */

#define REFUSALS 8

/* What changes which lock an object means: told by assigned attributes, or by a subclass. */
enum told { TOLD_PATH, TOLD_LOCK_FILE, TOLD_HOSTNAME, TOLD_UNIQUE_NAME, TOLD_COUNT };

typedef struct {
    PyObject_HEAD
    PyObject *dict;
    PyObject *weak_references;
    /* Guarded by the mutex, as is all below; NULL until __init__ was called. */
    struct lock *lock; /* which one it means: */
    struct lock *made; /* what the constructor has made, unless it was told otherwise ... */
    PyObject *told[TOLD_COUNT]; /* ... this; NULL: nothing */
    bool may_be_told;           /* something was assigned at some time */
    bool has_moved;             /* it has meant another lock since it was made */
    bool names_lock_file;       /* the constructor was given it, ... */
    bool names_store;           /* ... and this: they do not follow the path */
    PyObject *path;             /* as given to the constructor */
    bool has_timeout;
    double timeout;
    PyObject *on_wait; /* NULL: None */
    /* What acquire() has acquired of a lock that its owner cannot acquire twice, and no block has
     * begun with yet: its serial, and whose call acquired it. */
    uint64_t acquired;
    uint64_t acquired_by;
    /* with blocks of a subclass in Python that brings its own acquire and release */
    struct nesting *nestings;
    uint64_t grants;            /* how often a call by this object has acquired */
    uint64_t refused[REFUSALS]; /* callers who have not acquired since they tried; 0: none */
    bool refused_more;          /* than there is room for */
} LockObject;

#endif
