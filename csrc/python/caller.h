/* Who calls: the running asyncio task; where threading is patched (gevent, eventlet), the greenlet;
 * else the thread. Nothing is imported for it: a module is asked only if it is loaded. */
#ifndef LOCKFILE_CALLER_H
#define LOCKFILE_CALLER_H

#include <Python.h>

#include "core/lock.h"

/* Of an interpreter; begins with zeros. */
struct caller_finder {
    PyObject *modules;                                 /* those that are loaded */
    PyObject *asyncio, *greenlet, *threading, *select; /* their names */

    /* What is found in them once they are loaded, and then kept. */
    _Atomic(PyObject *) running_loop, current_task, current_greenlet;
    PyObject *numbers; /* of tasks and greenlets: by their addresses, as long as they live */
};
bool caller_finder_begin(struct caller_finder *finder); /* false with an exception */
int caller_finder_traverse(const struct caller_finder *finder, visitproc visit, void *arg);
void caller_finder_clear(struct caller_finder *finder);

struct caller {
    struct owner owner;
    bool lets_others_run; /* its waits go to the patched select(): other greenlets run meanwhile */
};

/* The owner that calls, as the lock says. lock NULL: whoever calls. False with an exception. */
bool caller_find(struct caller_finder *finder, const struct lock *lock, struct caller *caller);

#endif
