/* Who calls: the running asyncio task; where threading is patched (gevent, eventlet), the greenlet;
 * else the thread. Nothing is imported for it: a module is asked only if it is loaded. */
#ifndef LOCKFILE_CALLER_H
#define LOCKFILE_CALLER_H

#include <Python.h>

#include "core/proof.h"

/* Of an interpreter; begins with zeros. */
struct caller_finder {
    PyObject *asyncio, *greenlet, *threading; /* the modules' names */
    PyObject *running_loop, *current_task;    /* asyncio's, once it is loaded */
    PyObject *current_greenlet;               /* greenlet's, once it is loaded */
    PyObject *numbers; /* of tasks and greenlets: by their addresses, as long as they live */
};
bool caller_finder_begin(struct caller_finder *finder); /* false with an exception */
int caller_finder_traverse(const struct caller_finder *finder, visitproc visit, void *arg);
void caller_finder_clear(struct caller_finder *finder);

/* A task's wait stops all others of its thread; a greenlet's need not. */
enum caller_kind { CALLER_THREAD, CALLER_TASK, CALLER_GREENLET };

/* The owner that calls; threaded: it owns for itself, not for the whole process. False with an
 * exception. */
bool caller_find(struct caller_finder *finder, bool threaded, struct owner *owner,
                 enum caller_kind *kind);

#endif
