/* The exceptions, and how the outcomes of lock.h become messages.
 *
 * A message begins as the classic package's did, since programs match on that,
 * and then says what users need who read nothing else: who holds the lock, on
 * which host, in which process and thread, whether that lives, and what might help.
 *
 * Each raise_ function sets an exception and returns NULL.
 */
#ifndef LOCKFILE_ERRORS_H
#define LOCKFILE_ERRORS_H

#include <Python.h>

#include "core/lock.h"
#include "mechanisms/python_call.h"

/* Whom a call tells now and then, while it waits, for whom (notice.h). */
struct notice {
    PyObject *on_wait; /* NULL: nobody wants to know */
    PyObject *lock;    /* borrowed */
    int64_t pause;     /* before the next one */
    unsigned asked;    /* so often, without an answer, who it is that owns */
    bool is_under_way; /* it was settled whether a debug line is wanted, ... */
    bool is_logged;    /* and it is, once */
};

/* One call of a method: what there is to tell. */
struct call {
    struct attempt attempt;
    struct python_call python;
    struct notice notice;
    bool (*call_back)(struct call *call); /* while it waits, or NULL; false with an exception */
    bool lets_others_run;                 /* while it waits: the caller is a greenlet */
};

struct errors {
    PyObject *Error, *LockError, *LockTimeout, *AlreadyLocked, *LockFailed;
    PyObject *UnlockError, *NotLocked, *NotMyLock;
    PyTypeObject *Owner; /* of their attribute owner */
};

/* Makes them and adds them to the module; false with an exception. */
bool errors_add(PyObject *module, struct errors *errors, PyTypeObject *Owner);
int errors_traverse(const struct errors *errors, visitproc visit, void *arg);
void errors_clear(struct errors *errors);

/* acquire(): HELD, FAILED. timeout: seconds that the caller has asked for; NULL: for ever. */
PyObject *raise_not_acquired(const struct errors *errors, const struct call *call,
                             enum outcome outcome, const double *timeout);
PyObject *raise_not_locked(const struct errors *errors, const struct call *call);
PyObject *raise_not_mine(const struct errors *errors, const struct call *call);
PyObject *raise_failed_look(const struct errors *errors, const struct call *call);
PyObject *raise_failed_release(const struct errors *errors, struct call *call);
PyObject *raise_not_shared(const struct errors *errors, const struct call *call);
PyObject *raise_failed_downgrade(const struct errors *errors, struct call *call);
PyObject *raise_failed_break(const struct errors *errors, const struct call *call);

#endif
