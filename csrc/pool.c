#include "pool.h"

#include <stdlib.h>
#include <string.h>

/* So many connections are kept; those used least recently are closed. */
#define KEPT 8

struct pool {
    /* Guarded by os_lock(). */
    struct connection *list; /* most recently used first */
    uint64_t forker;         /* the thread that forks just now */
    bool is_ending;

    /* Made once. */
    struct sqlite3_names names;
    int texts_count;
    PyObject *texts[];
};

/* ---- Who uses a connection ---- */

/* Guarded by os_lock(). What a forked child finds is its parent's: it is neither
 * used nor closed, but left alone for good. */
static struct connection *
find(struct pool *pool, const char *path)
{
    struct connection **link = &pool->list;
    while (*link != NULL) {
        struct connection *connection = *link;
        if (connection->generation != os_generation()) {
            *link = connection->next;
            os_free_later(connection);
        } else if (strcmp(connection->path, path) == 0) {
            *link = connection->next;
            connection->next = pool->list;
            pool->list = connection;
            return connection;
        } else {
            link = &connection->next;
        }
    }
    return NULL;
}

/* Python code that runs inside a statement of this very thread (on Python 3.11, a garbage
 * collection may set off some) gets a connection for itself. */
struct connection *
pool_borrow(struct pool *pool, const char *path)
{
    uint64_t me = os_thread_token();
    struct connection *fresh = NULL;
    os_lock();
    struct connection *found;
    for (;;) {
        bool forking = pool->forker != 0 && pool->forker != me;
        /* While another forks, the list is left as it is: it goes through it. */
        found = forking && !pool->is_ending ? NULL : find(pool, path);
        bool used = found != NULL && found->user != 0 && found->user != me;
        if ((!forking && !used) || pool->is_ending) {
            break;
        }
        os_wait_unlocked();
    }
    bool keeping = pool->forker == 0 && !pool->is_ending;
    if (found != NULL && found->user == 0 && keeping) {
        found->user = me;
    } else if ((fresh = connection_new(path, &pool->names)) != NULL) {
        fresh->user = me;
        fresh->kept = found == NULL && keeping;
        if (fresh->kept) {
            fresh->next = pool->list;
            pool->list = fresh;
        }
        found = fresh;
    } else {
        found = NULL;
    }
    os_unlock();
    return found;
}

/* Takes out the one used least recently, if there are too many. Guarded by os_lock(). */
static struct connection *
take_oldest(struct pool *pool)
{
    struct connection **oldest = NULL;
    unsigned count = 0;
    for (struct connection **link = &pool->list; *link != NULL; link = &(*link)->next) {
        count++;
        if ((*link)->user == 0) {
            oldest = link;
        }
    }
    if (count <= KEPT || oldest == NULL) {
        return NULL;
    }
    struct connection *taken = *oldest;
    *oldest = taken->next;
    return taken;
}

void
pool_give_back(struct caller *caller, struct connection *connection)
{
    struct connection *ended = connection->kept ? NULL : connection;
    os_lock();
    connection->user = 0;
    if (ended == NULL) {
        ended = take_oldest(caller->pool);
    }
    os_wake_all();
    os_unlock();
    if (ended != NULL) {
        caller_return(caller);
        connection_close(ended);
        caller_leave(caller);
        free(ended);
    }
}

/* ---- Forks ---- */

/* Waits until no other thread uses a connection, and lets none take one. */
static void
hold_all(struct pool *pool)
{
    uint64_t me = os_thread_token();
    os_lock();
    for (;;) {
        const struct connection *used = pool->list;
        while (used != NULL && (used->user == 0 || used->user == me)) {
            used = used->next;
        }
        bool forking = pool->forker != 0 && pool->forker != me;
        if ((used == NULL && !forking) || pool->is_ending) {
            break;
        }
        os_wait_unlocked();
    }
    pool->forker = me;
    os_unlock();
}

/* Nobody else changes the list meanwhile. */
static void
close_idle(struct pool *pool)
{
    for (struct connection *each = pool->list; each != NULL; each = each->next) {
        if (each->user == 0 && each->generation == os_generation()) {
            connection_close(each);
        }
    }
}

static PyObject *
before_fork(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct pool *pool = pool_of(self);
    Py_BEGIN_ALLOW_THREADS
        hold_all(pool);
    Py_END_ALLOW_THREADS
    close_idle(pool);
    return Py_NewRef(Py_None);
}

static PyObject *
after_fork(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct pool *pool = pool_of(self);
    os_lock();
    pool->forker = 0;
    os_wake_all();
    os_unlock();
    return Py_NewRef(Py_None);
}

static PyMethodDef before_method = {"before_fork", before_fork, METH_NOARGS, NULL};
static PyMethodDef after_method = {"after_fork", after_fork, METH_NOARGS, NULL};

static bool
arrange_forks(PyObject *object)
{
    PyObject *os = PyImport_ImportModule("os");
    PyObject *arrange = os != NULL ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
    PyObject *before = PyCFunction_NewEx(&before_method, object, NULL);
    PyObject *after = PyCFunction_NewEx(&after_method, object, NULL);
    PyObject *arguments = PyTuple_New(0);
    PyObject *keywords = before != NULL && after != NULL
                             ? Py_BuildValue("{s:O,s:O,s:O}", "before", before, "after_in_parent",
                                             after, "after_in_child", after)
                             : NULL;
    PyObject *arranged = arrange != NULL && arguments != NULL && keywords != NULL
                             ? PyObject_Call(arrange, arguments, keywords)
                             : NULL;
    Py_XDECREF(os);
    Py_XDECREF(arrange);
    Py_XDECREF(before);
    Py_XDECREF(after);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    Py_XDECREF(arranged);
    return arranged != NULL;
}

/* ---- The pool ---- */

static const char capsule_name[] = "lockfile.pool";

struct pool *
pool_of(PyObject *object)
{
    return PyCapsule_GetPointer(object, capsule_name);
}

PyObject *
pool_text(const struct pool *pool, int number)
{
    return pool->texts[number];
}

void
pool_end(struct pool *pool)
{
    os_lock();
    pool->is_ending = true;
    os_wake_all();
    os_unlock();
    close_idle(pool);
}

static void
free_pool(struct pool *pool)
{
    while (pool->list != NULL) {
        struct connection *next = pool->list->next;
        if (pool->list->user == 0 && pool->list->generation == os_generation()) {
            connection_close(pool->list);
        }
        free(pool->list);
        pool->list = next;
    }
    sqlite3_names_clear(&pool->names);
    for (int i = 0; i < pool->texts_count; i++) {
        Py_XDECREF(pool->texts[i]);
    }
    PyMem_Free(pool);
}

static void
destroy(PyObject *object)
{
    free_pool(pool_of(object));
}

static bool
fill(struct pool *pool, const char *const texts[])
{
    for (int i = 0; i < pool->texts_count; i++) {
        pool->texts[i] = PyUnicode_InternFromString(texts[i]);
        if (pool->texts[i] == NULL) {
            return false;
        }
    }
    return sqlite3_names_fill(&pool->names);
}

PyObject *
pool_new(const char *const texts[], int count)
{
    struct pool *pool = PyMem_Calloc(1, sizeof *pool + (size_t)count * sizeof *pool->texts);
    if (pool == NULL) {
        return PyErr_NoMemory();
    }
    pool->texts_count = count;
    PyObject *object = fill(pool, texts) ? PyCapsule_New(pool, capsule_name, destroy) : NULL;
    if (object == NULL) {
        free_pool(pool);
        return NULL;
    }
    if (!arrange_forks(object)) {
        Py_DECREF(object);
        return NULL;
    }
    return object;
}
