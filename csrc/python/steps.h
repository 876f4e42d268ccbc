/* acquire(), and the two ends of a block, in steps: what each of them does. How Python sees them:
 * steps_type.h; how a coroutine awaits them: awaiting.h. */
#ifndef LOCKFILE_STEPS_H
#define LOCKFILE_STEPS_H

#include <Python.h>

#include "python/attributes.h"
#include "python/call.h"

#include <stdatomic.h>

/* How far they are. */
enum stage_of_steps {
    STEPS_NEW,
    STEPS_UNDER_WAY, /* there is a call */
    STEPS_DONE,
};

enum kind_of_steps { STEPS_ACQUIRE, STEPS_ENTER, STEPS_EXIT };

typedef struct {
    PyObject_HEAD
    PyObject *lock;
    PyObject *exception; /* the arguments of __aexit__(); NULL: it is no block's end */
    enum kind_of_steps kind;
    enum stage_of_steps stage;
    struct timeout timeout;
    PyObject *on_wait; /* NULL: nobody wants to know */
    struct caller caller;
    PyObject *watch;       /* the one that the loop reads; NULL: none */
    bool is_awaited;       /* so a watch is the loop's, or there is none yet */
    struct nesting *fresh; /* of a block that is entered; NULL: it is used up */
    atomic_bool in_use;    /* by a thread, which may have given up the GIL */
    bool granted;          /* what is to be given back if nobody takes it */
    bool acquired;         /* the lock, which its owner had not before */
    struct call call;
} StepsObject;

/* The owner is who calls now, not who awaits: asyncio.wait_for() and gather() make tasks of their
 * own. exception: the arguments of __aexit__(). NULL with an exception. */
StepsObject *steps_to_acquire(PyObject *lock, enum kind_of_steps kind, struct timeout timeout);
StepsObject *steps_to_exit(PyObject *lock, PyObject *exception);

/* The next one. WAITING; INTERRUPTED with an exception; else they are done. */
enum outcome steps_take(StepsObject *steps);

/* All of them, where there is no loop: waits as acquire() and release() do. The same. */
enum outcome steps_run(StepsObject *steps);

/* A first one that does not claim the lock, for which the other ones wait. */
enum outcome steps_join(StepsObject *steps, const StepsObject *ahead);

/* Calls on_wait if it is time. False with an exception. */
bool steps_see_to_notices(StepsObject *steps);

/* Ends them; give_back: and releases the lock, if they have acquired it. False with an exception.
 */
bool steps_end(StepsObject *steps, bool give_back);

/* Do they share the lock? -1 with an exception. */
int steps_share(const StepsObject *steps);

PyObject *steps_seconds_to_wait(const StepsObject *steps);

#endif
