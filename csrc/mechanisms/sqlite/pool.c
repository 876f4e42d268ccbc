#include "mechanisms/sqlite/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* So many connections are kept; those used least recently are closed. */
#define KEPT 8

/* How long the end of an interpreter waits for statements of other threads. */
#define END_PATIENCE (100 * OS_MILLISECOND)

struct pool {
    /* Guarded by the mutex. */
    struct connection *list; /* most recently used first */
    uint64_t ender;          /* the thread that ends the interpreter; 0: it goes on */
    bool is_prepared;
    bool is_end_arranged;

    /* Of Pythons with a GIL, which guards them. */
    int collections_held;
    bool collects;

    /* Made once. */
    struct sqlite3_names names;
    int texts_count;
    PyObject *texts[];
};

/* Of all interpreters: SQLite's memory is the process's. Guarded by the mutex. */
static struct {
    uint64_t generation;
    unsigned running; /* statements */
    uint64_t forker;  /* the thread that forks just now */
    bool is_broken;   /* SQLite's memory is a copy from the middle of a statement */
} forks;
static _Thread_local unsigned running_here;

/* What a forked child finds is its parent's. */
static void
forget_parent_locked(void)
{
    if (os_has_forked(&forks.generation)) {
        forks.is_broken = forks.is_broken || forks.running > running_here;
        forks.running = running_here;
        forks.forker = 0;
    }
}

/* ---- Who uses a connection ---- */

/* A parent's connection is neither used nor closed by its child, but left alone for good. */
static struct connection *
find_locked(struct pool *pool, const char *path)
{
    os_assert_locked();
    struct connection **link = &pool->list;
    while (*link != NULL) {
        struct connection *connection = *link;
        if (connection->generation != os_generation()) {
            *link = connection->next;
            if (connection->user == 0) {
                os_free_later_locked(connection);
            }
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

/* Another thread, unless that one waits for us? */
static bool
is_forking_locked(uint64_t me)
{
    os_assert_locked();
    return forks.forker != 0 && forks.forker != me && running_here == 0;
}

/* Waits until no other thread forks, or uses it. NULL: there is none. */
static struct connection *
await_locked(struct pool *pool, const char *path, uint64_t me)
{
    for (;;) {
        forget_parent_locked();
        struct connection *found = find_locked(pool, path);
        bool used = found != NULL && found->user != 0 && found->user != me;
        if ((!is_forking_locked(me) && !used) || pool->ender != 0) {
            return found;
        }
        os_mutex_wait();
    }
}

/* Python code that runs inside a statement of this very thread (on Python 3.11, a garbage
 * collection may set off some) gets a connection for itself; so does who ends all. */
static struct connection *
take_locked(struct pool *pool, const char *path, uint64_t me)
{
    struct connection *found = await_locked(pool, path, me);
    if (found != NULL && found->user == 0) {
        found->user = me;
        return found;
    }
    struct connection *fresh = connection_new(path, &pool->names);
    if (fresh != NULL) {
        fresh->user = me;
        fresh->nested = found != NULL && found->user == me && found->latched;
        fresh->kept = found == NULL;
    }
    if (fresh != NULL && fresh->kept) {
        fresh->next = pool->list;
        pool->list = fresh;
    }
    return fresh;
}

/* From now on a fork waits for it. */
static void
start_running_locked(void)
{
    os_assert_locked();
    forks.running++;
    running_here++;
}

int
pool_borrow(struct pool *pool, const char *path, struct connection **connection)
{
    uint64_t me = os_thread_token();
    int error = 0;
    *connection = NULL;
    if (pool == NULL) {
        return ECANCELED; /* a finalizer calls, whose module is gone */
    }
    os_mutex_lock();
    forget_parent_locked();
    if (forks.is_broken) {
        error = ECHILD;
    } else if (pool->ender != 0 && pool->ender != me) {
        error = ECANCELED; /* a daemon thread, which will never run Python again */
    } else if ((*connection = take_locked(pool, path, me)) == NULL) {
        error = ENOMEM;
    } else {
        start_running_locked();
    }
    os_mutex_unlock();
    return error;
}

/* Newer ones collect garbage between the steps of Python code only. */
static bool
collects_anywhere(void)
{
    return Py_Version < 0x030C0000;
}

void
pool_hold_collections(struct pool *pool)
{
    if (collects_anywhere() && pool->collections_held++ == 0) {
        pool->collects = PyGC_Disable() != 0;
    }
}

void
pool_allow_collections(struct pool *pool)
{
    if (collects_anywhere() && --pool->collections_held == 0 && pool->collects) {
        PyGC_Enable();
    }
}

/* Takes out the one used least recently, if there are too many. */
static struct connection *
take_oldest_locked(struct pool *pool)
{
    os_assert_locked();
    struct connection **oldest = NULL;
    unsigned count = 0;
    for (struct connection **link = &pool->list; *link != NULL; link = &(*link)->next) {
        bool idle = (*link)->user == 0;
        if (idle && (*link)->foreign) {
            continue; /* stays open for good: a close may take another SQLite's locks away */
        }
        count++;
        if (idle) {
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

static void
end_connection(struct connection *connection)
{
    connection_close(connection);
    connection_close_latch(connection);
    free(connection);
}

/* Takes out what is to be closed: the connection itself, or one too many. NULL: nothing. */
static struct connection *
release_locked(struct pool *pool, struct connection *connection)
{
    os_assert_locked();
    if (!connection->kept) {
        return connection;
    }
    connection->user = 0;
    return take_oldest_locked(pool);
}

/* From now on a fork does not wait for it. */
static void
stop_running_locked(void)
{
    os_assert_locked();
    forget_parent_locked();
    forks.running -= forks.running > 0;
    running_here--;
    os_mutex_wake_all();
}

static void
allow_forks(void)
{
    os_mutex_lock();
    stop_running_locked();
    os_mutex_unlock();
}

/* SQLite closes with a mutex of its own held, without the GIL: a fork waits for that, too. */
static void
end_idle(struct request *request, struct connection *ended)
{
    python_call_return(request->python);
    pool_hold_collections(request->pool);
    end_connection(ended);
    pool_allow_collections(request->pool);
    python_call_leave(request->python);
    allow_forks();
}

void
pool_give_back(struct request *request, struct connection *connection)
{
    os_mutex_lock();
    forget_parent_locked();
    struct connection *ended = release_locked(request->pool, connection);
    if (ended == NULL) {
        stop_running_locked();
    } else {
        os_mutex_wake_all();
    }
    os_mutex_unlock();
    if (ended != NULL) {
        end_idle(request, ended);
    }
}

/* ---- Forks ---- */

static void
hold_statements(void)
{
    uint64_t me = os_thread_token();
    os_mutex_lock();
    forget_parent_locked();
    while (forks.forker != 0 && forks.forker != me) {
        os_mutex_wait();
    }
    forks.forker = me;
    while (forks.running > running_here) {
        os_mutex_wait();
    }
    os_mutex_unlock();
}

static PyObject *
before_fork(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
        hold_statements();
    Py_END_ALLOW_THREADS
    return Py_NewRef(Py_None);
}

static PyObject *
after_fork(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    os_mutex_lock();
    forget_parent_locked();
    forks.forker = 0;
    os_mutex_wake_all();
    os_mutex_unlock();
    return Py_NewRef(Py_None);
}

static PyMethodDef before_method = {"before_fork", before_fork, METH_NOARGS, NULL};
static PyMethodDef after_method = {"after_fork", after_fork, METH_NOARGS, NULL};

/* A system without forks has nothing to register with. */
static bool
arrange_forks(void)
{
    PyObject *os = PyImport_ImportModule("os");
    if (os != NULL && !PyObject_HasAttrString(os, "register_at_fork")) {
        Py_DECREF(os);
        return true;
    }
    PyObject *arrange = os != NULL ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
    PyObject *before = PyCFunction_NewEx(&before_method, NULL, NULL);
    PyObject *after = PyCFunction_NewEx(&after_method, NULL, NULL);
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

bool
pool_is_prepared(struct pool *pool)
{
    os_mutex_lock();
    bool prepared = pool->is_prepared;
    os_mutex_unlock();
    return prepared;
}

static void
hold_off_forks(void)
{
    uint64_t me = os_thread_token();
    os_mutex_lock();
    forget_parent_locked();
    while (is_forking_locked(me)) {
        os_mutex_wait();
        forget_parent_locked();
    }
    start_running_locked();
    os_mutex_unlock();
}

/* A fork waits for this, too: while a module is imported, Python holds a lock of that module. In a
 * child whose parent's other thread held it, it is held for ever, and the child's own import of
 * the module would never return. */
static bool
import_names(struct sqlite3_names *names)
{
    Py_BEGIN_ALLOW_THREADS
        hold_off_forks();
    Py_END_ALLOW_THREADS
    bool filled = sqlite3_names_fill(names);
    allow_forks();
    return filled;
}

bool
pool_prepare(struct pool *pool)
{
    struct sqlite3_names names = {0};
    if (pool_is_prepared(pool)) {
        return true;
    }
    if (!import_names(&names)) {
        sqlite3_names_clear(&names);
        return false;
    }
    os_mutex_lock();
    if (!pool->is_prepared) {
        pool->names = names;
        pool->is_prepared = true;
        names = (struct sqlite3_names){0};
    }
    os_mutex_unlock();
    sqlite3_names_clear(&names); /* another thread was faster */
    return true;
}

/* By another thread, whose statement runs? */
static bool
is_used(const struct connection *connection)
{
    return connection->user != 0 && connection->user != os_thread_token() &&
           connection->generation == os_generation();
}

static bool
is_any_used(const struct pool *pool)
{
    os_mutex_lock();
    const struct connection *used = pool->list;
    while (used != NULL && !is_used(used)) {
        used = used->next;
    }
    os_mutex_unlock();
    return used != NULL;
}

/* What threads that have died with their statement still keep. Nobody else changes the list by
 * now. */
static void
close_latches(struct pool *pool)
{
    for (struct connection *each = pool->list; each != NULL; each = each->next) {
        if (is_used(each)) {
            os_close(&each->latch);
            os_mutex_lock();
            forks.running -= forks.running > 0;
            os_mutex_unlock();
        }
    }
}

void
pool_end(struct pool *pool)
{
    int64_t until = os_now() + END_PATIENCE;
    os_mutex_lock();
    pool->ender = os_thread_token();
    os_mutex_wake_all();
    os_mutex_unlock();
    Py_BEGIN_ALLOW_THREADS
        while (is_any_used(pool) && os_now() < until) {
            os_pause(OS_MILLISECOND);
        }
        close_latches(pool);
    Py_END_ALLOW_THREADS
}

/* Takes out one that nobody uses. NULL: there is none. */
static struct connection *
take_idle(struct pool *pool)
{
    os_mutex_lock();
    struct connection **link = &pool->list;
    while (*link != NULL && ((*link)->user != 0 || (*link)->generation != os_generation())) {
        link = &(*link)->next;
    }
    struct connection *taken = *link;
    if (taken != NULL) {
        *link = taken->next;
    }
    os_mutex_unlock();
    return taken;
}

void
pool_close(struct pool *pool)
{
    struct connection *idle;
    while ((idle = take_idle(pool)) != NULL) {
        end_connection(idle);
    }
}

/* What pool_close() has left, is a parent's, or in use by a thread that will never run again. */
static void
destroy(PyObject *object)
{
    struct pool *pool = pool_of(object);
    sqlite3_names_clear(&pool->names);
    for (int i = 0; i < pool->texts_count; i++) {
        Py_XDECREF(pool->texts[i]);
    }
    PyMem_Free(pool);
}

static PyObject *
make(const char *const texts[], int count)
{
    struct pool *pool = PyMem_Calloc(1, sizeof *pool + (size_t)count * sizeof *pool->texts);
    if (pool == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *object = PyCapsule_New(pool, capsule_name, destroy);
    if (object == NULL) {
        PyMem_Free(pool);
        return NULL;
    }
    pool->texts_count = count;
    for (int i = 0; i < count; i++) {
        pool->texts[i] = PyUnicode_InternFromString(texts[i]);
        if (pool->texts[i] == NULL) {
            Py_DECREF(object);
            return NULL;
        }
    }
    return object;
}

bool
pool_set_end_arranged(struct pool *pool, bool arranged)
{
    os_mutex_lock();
    bool before = pool->is_end_arranged;
    pool->is_end_arranged = arranged;
    os_mutex_unlock();
    return before;
}

/* The one that is there by now: another thread, whose module is another, may have been faster. A
 * fork may be arranged for twice. */
static PyObject *
add_pool(PyObject *all, PyObject *key, const char *const texts[], int count)
{
    PyObject *fresh = make(texts, count);
    PyObject *pool = fresh != NULL && arrange_forks()
                         ? PyObject_CallMethod(all, "setdefault", "OO", key, fresh)
                         : NULL;
    Py_XDECREF(fresh);
    return pool;
}

/* In the interpreter's own dictionary: modules are thrown away and imported anew, and there may be
 * several of them. Another build of this one knows another address. It is never taken out. */
PyObject *
pool_get(const char *const texts[], int count)
{
    PyObject *all = PyInterpreterState_GetDict(PyInterpreterState_Get());
    PyObject *key = PyUnicode_FromFormat("%s at %p", capsule_name, (const void *)capsule_name);
    PyObject *pool = all != NULL && key != NULL ? PyDict_GetItemWithError(all, key) : NULL;
    Py_XINCREF(pool);
    if (pool == NULL && all != NULL && key != NULL && !PyErr_Occurred()) {
        pool = add_pool(all, key, texts, count);
    }
    Py_XDECREF(key);
    return pool == NULL && !PyErr_Occurred() ? PyErr_NoMemory() : pool;
}
