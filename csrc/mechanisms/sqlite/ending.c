#include "mechanisms/sqlite/ending.h"

#include "mechanisms/sqlite/sql.h"
#include "mechanisms/sqlite/sqlite.h"

#include <errno.h>
#include <stdio.h>

#define PATIENCE (2 * OS_SECOND) /* with a busy database, for all rows together */

/* ---- The rows ---- */

/* In the attempt's steps, as lock.h has it for who still has a lock object. */
static enum outcome
release_in_steps(struct attempt *attempt, struct claim *claim)
{
    enum outcome outcome;
    bool has_waiters;
    while ((outcome = sqlite_mechanism.release(attempt, claim, &has_waiters)) == LOCK_WAITING &&
           wait_sleep(&attempt->wait) == 0) {
    }
    return outcome;
}

/* False: what is left of its time, or of the user's patience, is not for rows. */
static bool
release_at_exit(struct python_call *call, struct claim *claim, int64_t limit)
{
    struct attempt attempt;
    struct lock *lock = lock_new(&sqlite_mechanism, claim->lock_file, claim->lock_file,
                                 claim->store, OWNED_BY_PROCESS, false);
    if (lock == NULL) {
        sqlite_mechanism.abandon(claim);
        return true;
    }
    python_call_offer(call);
    attempt_begin(&attempt, lock, claim->owner, 0);
    python_call_withdraw();
    attempt.patience_limit = limit;
    python_call_leave(call);
    bool goes_on = true;
    if (release_in_steps(&attempt, claim) == LOCK_FAILED) {
        goes_on = attempt.report.error != EBUSY;
        sqlite_mechanism.abandon(claim); /* whoever comes next finds it stale */
    }
    attempt_end(&attempt);
    python_call_return(call);
    lock_drop(lock);
    return goes_on;
}

static void
release_all(void *resource)
{
    struct python_call call = {.resource = resource};
    struct claim *claim;
    int64_t limit = os_now() + PATIENCE;
    bool goes_on = true;
    table_close();
    while ((claim = table_take_last(&sqlite_mechanism)) != NULL) {
        if (goes_on && os_now() < limit) {
            goes_on = release_at_exit(&call, claim, limit) && PyErr_CheckSignals() == 0;
            PyErr_Clear();
        } else {
            sqlite_mechanism.abandon(claim);
        }
    }
    Py_CLEAR(call.error);
}

/* ---- The interpreter ---- */

/* The last things that an interpreter throws away are those in the sys module: after the
 * handlers of atexit and all modules, even if somebody still keeps ours, or the module is
 * immortal. */
static const char sentinel_name[] = "lockfile.at_exit";

/* Other interpreters may end before the process does; what it owns is the process's. */
static void
end_interpreter(PyObject *sentinel)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *object = PyCapsule_GetContext(sentinel);
    struct pool *pool = pool_of(object);
    if (pool_is_prepared(pool)) {
        pool_end(pool);
        if (PyInterpreterState_GetID(PyInterpreterState_Get()) == 0) {
            release_all(pool);
        }
        pool_close(pool);
    }
    Py_DECREF(object);
    PyErr_Restore(type, value, traceback);
}

/* Once for each pool, however often the module is imported, and by however many threads: a sentinel
 * that another one takes the place of would end the pool at once. */
static bool
arrange_end(PyObject *pool)
{
    char key[64];
    snprintf(key, sizeof key, "_%s %p", sentinel_name, (void *)pool);
    if (pool_set_end_arranged(pool_of(pool), true)) {
        return true;
    }
    PyObject *sentinel = PyCapsule_New(pool_of(pool), sentinel_name, end_interpreter);
    bool arranged = sentinel != NULL && PyCapsule_SetContext(sentinel, Py_NewRef(pool)) == 0 &&
                    PySys_SetObject(key, sentinel) == 0;
    if (!arranged) {
        pool_set_end_arranged(pool_of(pool), false);
    }
    Py_XDECREF(sentinel);
    return arranged;
}

PyObject *
ending_pool(void)
{
    PyObject *pool = sql_pool();
    if (pool != NULL && !arrange_end(pool)) {
        Py_CLEAR(pool);
    }
    return pool;
}
