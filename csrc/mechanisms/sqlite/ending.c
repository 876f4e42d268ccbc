#include "mechanisms/sqlite/ending.h"

#include "mechanisms/sqlite/sqlite.h"

#include <stdio.h>

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
            sqlite_release_all(pool);
        }
        pool_close(pool);
    }
    Py_DECREF(object);
    PyErr_Restore(type, value, traceback);
}

/* Once for each pool, however often the module is imported. */
static bool
arrange_end(PyObject *pool)
{
    char key[64];
    snprintf(key, sizeof key, "_%s %p", sentinel_name, (void *)pool);
    if (PySys_GetObject(key) != NULL) {
        return true;
    }
    PyObject *sentinel = PyCapsule_New(pool_of(pool), sentinel_name, end_interpreter);
    bool arranged = sentinel != NULL && PyCapsule_SetContext(sentinel, Py_NewRef(pool)) == 0 &&
                    PySys_SetObject(key, sentinel) == 0;
    Py_XDECREF(sentinel);
    return arranged;
}

PyObject *
ending_pool(void)
{
    PyObject *pool = database_pool();
    if (pool != NULL && !arrange_end(pool)) {
        Py_CLEAR(pool);
    }
    return pool;
}
