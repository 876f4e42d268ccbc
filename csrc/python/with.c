#include "python/with.h"

#include "python/body.h"
#include "python/call.h"

/* ---- From with to release() ----
 *
 * What with calls may be a subclass's, so it cannot be given another argument. But
 * another thread of the same owner may enter or leave a block of its own just then. */

static _Thread_local const PyObject *to_release;    /* the object whose release() with calls */
static _Thread_local const PyObject *last_acquired; /* the object that acquire() acquired last */

bool
is_called_by_with(const PyObject *self)
{
    bool called = to_release == self;
    if (called) {
        to_release = NULL;
    }
    return called;
}

void
remember_acquired(const PyObject *self)
{
    last_acquired = self;
}

/* ---- How deep ----
 *
 * It is counted with the lock that is owned, or, for a subclass with a scheme of its own, in
 * the object. */

/* How deep an owner's with blocks are nested. */
struct nesting {
    struct nesting *next;
    uint64_t token;
    unsigned depth;
};

static bool
has_own_scheme(PyObject *self)
{
    os_mutex_lock();
    const struct lock *lock = ((LockObject *)self)->lock;
    bool own = lock == NULL || lock->mechanism == NULL;
    os_mutex_unlock();
    return own;
}

void
forget_nestings(LockObject *object)
{
    while (object->nestings != NULL) {
        struct nesting *next = object->nestings->next;
        PyMem_Free(object->nestings);
        object->nestings = next;
    }
}

static struct nesting **
find_nesting_locked(LockObject *object, uint64_t token)
{
    os_assert_locked();
    struct nesting **link = &object->nestings;
    while (*link != NULL && (*link)->token != token) {
        link = &(*link)->next;
    }
    return link;
}

/* Uses fresh, or frees it. */
static void
nest_in_object(LockObject *object, struct nesting *fresh)
{
    os_mutex_lock();
    struct nesting **link = find_nesting_locked(object, fresh->token);
    if (*link == NULL) {
        *link = fresh;
        fresh = NULL;
    }
    (*link)->depth++;
    os_mutex_unlock();
    PyMem_Free(fresh);
}

static bool
unnest_in_object(LockObject *object, uint64_t token)
{
    struct nesting *ended = NULL;
    os_mutex_lock();
    struct nesting **link = find_nesting_locked(object, token);
    bool outermost = *link == NULL || --(*link)->depth == 0;
    if (outermost && *link != NULL) {
        ended = *link;
        *link = ended->next;
    }
    os_mutex_unlock();
    PyMem_Free(ended);
    return outermost;
}

/* ---- Blocks ---- */

static bool
is_threaded(PyObject *self)
{
    os_mutex_lock();
    const struct lock *lock = ((LockObject *)self)->lock;
    bool threaded = lock == NULL || lock->threaded;
    os_mutex_unlock();
    return threaded;
}

/* Counts one block more, or less: what lock_enter() or lock_leave() says, or INTERRUPTED with
 * an exception. */
static enum outcome
count_block(PyObject *self, lock_operation *operation)
{
    struct call call;
    if (!call_begin_any(self, &call, 0)) {
        return LOCK_INTERRUPTED;
    }
    enum outcome outcome = call_run(&call, operation);
    if (outcome == LOCK_INTERRUPTED && operation == lock_leave) {
        lock_end_block(&call.attempt);
    }
    call_end(&call, Py_None);
    return outcome;
}

/* acquire(), until the block is counted: another thread of the same owner may have
 * left its own block, and so released, between the two. */
static bool
acquire_and_enter(PyObject *self, struct nesting *fresh)
{
    enum outcome outcome;
    do {
        last_acquired = NULL;
        PyObject *result = PyObject_CallMethod(self, "acquire", NULL);
        if (result == NULL) {
            PyMem_Free(fresh);
            return false;
        }
        Py_DECREF(result);
        if (has_own_scheme(self)) {
            nest_in_object((LockObject *)self, fresh);
            return true;
        }
        outcome = count_block(self, lock_enter);
    } while (outcome == LOCK_FREE && last_acquired == self && !is_threaded(self));
    PyMem_Free(fresh);
    return outcome != LOCK_INTERRUPTED;
}

PyObject *
base_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    /* Before the lock is acquired: nothing may fail once it is. */
    struct nesting *fresh = PyMem_Malloc(sizeof *fresh);
    if (fresh == NULL) {
        return PyErr_NoMemory();
    }
    *fresh = (struct nesting){NULL, 0, 0};
    if (!call_find_token(self, &fresh->token)) {
        PyMem_Free(fresh);
        return NULL;
    }
    return acquire_and_enter(self, fresh) ? Py_NewRef(self) : NULL;
}

PyObject *
base_count_block(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    enum outcome outcome = count_block(self, lock_enter);
    return outcome == LOCK_INTERRUPTED ? NULL : PyBool_FromLong(outcome == LOCK_OWNED);
}

/* Counts one block less. OWNED: it was the outermost; INTERRUPTED with an exception. */
static enum outcome
leave_block(PyObject *self)
{
    uint64_t token;
    if (!has_own_scheme(self)) {
        return count_block(self, lock_leave);
    }
    if (!call_find_token(self, &token)) {
        return LOCK_INTERRUPTED;
    }
    return unnest_in_object((LockObject *)self, token) ? LOCK_OWNED : LOCK_RELEASED;
}

/* False with an exception. */
static bool
leave(PyObject *self)
{
    enum outcome outcome = leave_block(self);
    if (outcome != LOCK_OWNED) {
        return outcome != LOCK_INTERRUPTED;
    }
    const PyObject *before = to_release;
    to_release = self;
    PyObject *released = PyObject_CallMethod(self, "release", NULL);
    to_release = before;
    Py_XDECREF(released);
    return released != NULL;
}

PyObject *
base_exit(PyObject *self, PyObject *exception)
{
    const struct errors *errors = &state_of(self)->errors; /* before an exception is set */
    bool left = leave(self) || body_comes_first(errors, exception);
    return left ? Py_NewRef(Py_None) : NULL;
}
