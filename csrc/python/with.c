#include "python/with.h"

#include "python/body.h"
#include "python/call.h"
#include "python/locking.h"
#include "python/meaning.h"

/* ---- Who began a block ----
 *
 * A block is the owner's who began it, whoever ends it: a generator may be closed by another task
 * or thread than the one that it ran in, and so may the two halves of a web framework's dependency
 * run in two. How deep blocks are is counted with the lock that is owned, or, for a subclass with a
 * scheme of its own, in the object. */

/* Blocks of an owner, by one object. */
struct nesting {
    struct nesting *next;
    struct owner owner;
    unsigned depth;
};

struct nesting *
nesting_new(void)
{
    struct nesting *nesting = PyMem_Malloc(sizeof *nesting);
    if (nesting == NULL) {
        PyErr_NoMemory();
    }
    return nesting;
}

void
nesting_free(struct nesting *nesting)
{
    PyMem_Free(nesting);
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
    while (*link != NULL && (*link)->owner.token != token) {
        link = &(*link)->next;
    }
    return link;
}

static void
forget_refusals_locked(LockObject *object)
{
    os_assert_locked();
    for (unsigned i = 0; i < REFUSALS; i++) {
        object->refused[i] = 0;
    }
    object->refused_more = false;
}

void
block_begun(PyObject *self, const struct caller *caller, struct nesting *fresh)
{
    LockObject *object = (LockObject *)self;
    os_mutex_lock();
    struct nesting **link = find_nesting_locked(object, caller->owner.token);
    if (object->nestings == NULL) {
        forget_refusals_locked(object); /* by other blocks than this one */
    }
    forget_refusal_locked(object, caller);
    if (*link == NULL) {
        *fresh = (struct nesting){.owner = caller->owner};
        *link = fresh;
        fresh = NULL;
    }
    (*link)->depth++;
    os_mutex_unlock();
    PyMem_Free(fresh);
}

static bool
was_refused_locked(const LockObject *object, const struct caller *caller)
{
    os_assert_locked();
    bool refused = object->refused_more;
    for (unsigned i = 0; i < REFUSALS; i++) {
        refused = refused || object->refused[i] == caller->owner.caller;
    }
    return refused;
}

/* By this path, whoever's object it was acquired by. */
static bool
owns(PyObject *self, const struct caller *caller)
{
    struct table_told told;
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        PyErr_Clear();
        return false;
    }
    struct table_name name = lock_name(lock);
    bool is_owner = lock->mechanism != NULL && table_tell(&name, NULL, caller->owner, &told);
    lock_drop(lock);
    return is_owner;
}

/* Another's, if there is but one: who would know which? Not if the caller could not acquire the
 * lock: then it has begun none, and calls __exit__() in error. NULL: none. */
static struct nesting **
find_others_locked(LockObject *object, const struct caller *caller)
{
    bool is_only = object->nestings != NULL && object->nestings->next == NULL;
    return is_only && !was_refused_locked(object, caller) ? &object->nestings : NULL;
}

/* Has the caller begun one by this object? */
static bool
has_begun(PyObject *self, const struct caller *caller)
{
    os_mutex_lock();
    bool has = *find_nesting_locked((LockObject *)self, caller->owner.token) != NULL;
    os_mutex_unlock();
    return has;
}

void
block_over_by(PyObject *self, struct caller *caller, bool owns_lock, bool *outermost)
{
    struct nesting *ended = NULL;
    LockObject *object = (LockObject *)self;
    bool is_own = owns_lock || has_begun(self, caller);
    os_mutex_lock();
    struct nesting **link = is_own ? find_nesting_locked(object, caller->owner.token)
                                   : find_others_locked(object, caller);
    link = link != NULL && *link != NULL ? link : NULL;
    *outermost = link == NULL || --(*link)->depth == 0;
    if (link != NULL) {
        uint64_t calls = caller->owner.caller;
        caller->owner = (*link)->owner;
        caller->owner.caller = calls;
    }
    if (link != NULL && *outermost) {
        ended = *link;
        *link = ended->next;
    }
    os_mutex_unlock();
    PyMem_Free(ended);
}

void
block_over(PyObject *self, struct caller *caller, bool *outermost)
{
    block_over_by(self, caller, owns(self, caller), outermost);
}

/* ---- How deep ---- */

static bool
has_own_scheme(PyObject *self)
{
    os_mutex_lock();
    const struct lock *lock = ((LockObject *)self)->lock;
    bool own = lock == NULL || lock->mechanism == NULL;
    os_mutex_unlock();
    return own;
}

static bool
is_common(PyObject *self)
{
    os_mutex_lock();
    const struct lock *lock = ((LockObject *)self)->lock;
    bool common = lock != NULL && lock_is_common(lock);
    os_mutex_unlock();
    return common;
}

/* One block more, or less: what lock_enter() or lock_leave() says, or INTERRUPTED with an
 * exception. entering: as in an attempt. */
static enum outcome
count_block(PyObject *self, const struct caller *caller, lock_operation *operation,
            uint64_t entering)
{
    struct call call;
    if (!call_begin_as(self, &call, caller, 0)) {
        return LOCK_INTERRUPTED;
    }
    call.attempt.entering = entering;
    enum outcome outcome = call_run(&call, operation);
    if (outcome == LOCK_INTERRUPTED && operation == lock_leave) {
        lock_end_block(&call.attempt);
    }
    call_end(&call, Py_None);
    return outcome;
}

/* Another thread or task than the one that acquired it must not get in beside that one. */
static uint64_t
take_acquired(LockObject *object, const struct caller *caller)
{
    os_mutex_lock();
    bool is_its = object->acquired_by == caller->owner.caller;
    uint64_t serial = is_its ? object->acquired : 0;
    object->acquired = is_its ? 0 : object->acquired;
    os_mutex_unlock();
    return serial;
}

enum outcome
block_enter_acquired(PyObject *self, const struct caller *caller)
{
    uint64_t serial = take_acquired((LockObject *)self, caller);
    return serial != 0 ? count_block(self, caller, lock_enter, serial) : LOCK_FREE;
}

enum outcome
block_count(PyObject *self, const struct caller *caller)
{
    take_acquired((LockObject *)self, caller); /* this block begins with it */
    enum outcome outcome =
        has_own_scheme(self) ? LOCK_OWNED : count_block(self, caller, lock_enter, 0);
    return outcome == LOCK_FREE && !is_common(self) ? LOCK_OWNED : outcome;
}

enum outcome
block_leave(PyObject *self, const struct caller *caller, bool outermost)
{
    if (has_own_scheme(self)) {
        return outermost ? LOCK_OWNED : LOCK_RELEASED;
    }
    return count_block(self, caller, lock_leave, 0);
}

/* ---- with ---- */

/* acquire(), until the block is counted: another thread of the same owner may have
 * left its own block, and so released, between the two. */
static bool
acquire_and_count(PyObject *self, const struct caller *caller)
{
    enum outcome outcome;
    bool acquired;
    do {
        if (!acquire_for_block(self, caller, &acquired)) {
            return false;
        }
        outcome = block_count(self, caller);
    } while (outcome == LOCK_FREE && acquired);
    return outcome != LOCK_INTERRUPTED;
}

PyObject *
base_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct caller caller;
    struct nesting *fresh = call_find_caller(self, &caller) ? nesting_new() : NULL;
    if (fresh != NULL) {
        note_refused(self, &caller);
    }
    enum outcome outcome = fresh != NULL ? block_enter_acquired(self, &caller) : LOCK_INTERRUPTED;
    if (outcome == LOCK_FREE && acquire_and_count(self, &caller)) {
        outcome = LOCK_OWNED;
    }
    if (outcome != LOCK_OWNED) {
        nesting_free(fresh);
        return NULL;
    }
    block_begun(self, &caller, fresh);
    return Py_NewRef(self);
}

PyObject *
base_enter_acquired(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct caller caller;
    struct nesting *fresh = call_find_caller(self, &caller) ? nesting_new() : NULL;
    enum outcome outcome = fresh != NULL ? block_enter_acquired(self, &caller) : LOCK_INTERRUPTED;
    if (outcome == LOCK_OWNED) {
        block_begun(self, &caller, fresh);
    } else {
        nesting_free(fresh);
    }
    return outcome == LOCK_INTERRUPTED ? NULL : PyBool_FromLong(outcome == LOCK_OWNED);
}

/* Since it had granted so many. None: whatever it has, the lock must be owned. */
static bool
has_granted_none(PyObject *self, PyObject *grants)
{
    os_mutex_lock();
    uint64_t now = ((LockObject *)self)->grants;
    os_mutex_unlock();
    return PyLong_Check(grants) && PyLong_AsUnsignedLongLong(grants) == now;
}

PyObject *
base_begin_block(PyObject *self, PyObject *grants)
{
    struct caller caller;
    struct nesting *fresh = call_find_caller(self, &caller) ? nesting_new() : NULL;
    enum outcome outcome = fresh != NULL ? block_count(self, &caller) : LOCK_INTERRUPTED;
    if (outcome == LOCK_FREE && has_granted_none(self, grants)) {
        outcome = LOCK_OWNED; /* ours has acquired nothing: it is a scheme of the subclass's */
    }
    if (outcome == LOCK_OWNED) {
        block_begun(self, &caller, fresh);
    } else {
        nesting_free(fresh);
    }
    return outcome == LOCK_INTERRUPTED ? NULL : PyBool_FromLong(outcome == LOCK_OWNED);
}

/* False with an exception. */
static bool
leave(PyObject *self)
{
    struct caller caller;
    bool outermost;
    if (!call_find_caller(self, &caller)) {
        return false;
    }
    block_over(self, &caller, &outermost);
    enum outcome outcome = block_leave(self, &caller, outermost);
    return outcome == LOCK_OWNED ? release_for_block(self, &caller) : outcome != LOCK_INTERRUPTED;
}

PyObject *
base_exit(PyObject *self, PyObject *exception)
{
    const struct errors *errors = &state_of(self)->errors; /* before an exception is set */
    bool left = leave(self) || body_comes_first(errors, exception);
    return left ? Py_NewRef(Py_None) : NULL;
}
