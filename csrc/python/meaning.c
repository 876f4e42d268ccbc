#include "python/meaning.h"

#include "python/paths.h"

#include <stdatomic.h>
#include <string.h>

void
complain(PyObject *exception, PyObject *self, const char *format, const char *method)
{
    PyObject *name = PyType_GetName(Py_TYPE(self));
    if (name != NULL) {
        PyErr_Format(exception, format, name, method);
        Py_DECREF(name);
    }
}

/* ---- What was assigned ---- */

/* Python makes the dictionary when it is first wanted, perhaps just now, in another thread. */
static bool
has_dictionary(PyObject *self)
{
    PyObject *_Atomic *dict = (PyObject * _Atomic *)&((LockObject *)self)->dict;
    return atomic_load_explicit(dict, memory_order_relaxed) != NULL;
}

PyObject *
assigned(PyObject *self, const char *name)
{
    if (!has_dictionary(self)) {
        return NULL;
    }
    PyObject *dict = PyObject_GenericGetDict(self, NULL);
    PyObject *key = dict != NULL ? PyUnicode_FromString(name) : NULL;
    PyObject *value = NULL;
    if (key != NULL) {
        /* At one go, since other threads may delete it; nobody has assigned this very key. */
        value = PyObject_CallMethod((PyObject *)&PyDict_Type, "get", "OOO", dict, key, key);
    }
    if (value != NULL && value == key) {
        Py_DECREF(value);
        value = NULL;
    }
    Py_XDECREF(dict);
    Py_XDECREF(key);
    return value;
}

int
assign(PyObject *self, PyObject *value, void *name)
{
    PyObject *dict = PyObject_GenericGetDict(self, NULL);
    if (dict == NULL) {
        return -1;
    }
    int result =
        value != NULL ? PyDict_SetItemString(dict, name, value) : PyDict_DelItemString(dict, name);
    Py_DECREF(dict);
    if (value == NULL && result < 0 && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Format(PyExc_AttributeError, "%s was not assigned", (const char *)name);
    }
    return result;
}

/* ---- What was told ---- */

static const char *const told_names[TOLD_COUNT] = {
    [TOLD_PATH] = "path",
    [TOLD_LOCK_FILE] = "lock_file",
    [TOLD_HOSTNAME] = "hostname",
    [TOLD_UNIQUE_NAME] = "unique_name",
};

static void
forget_told(PyObject *told[TOLD_COUNT])
{
    for (int i = 0; i < TOLD_COUNT; i++) {
        Py_CLEAR(told[i]);
    }
}

/* Does a subclass have a lock_file of its own? -1 with an exception. */
static int
subclass_tells(PyObject *self)
{
    const State *state = state_of(self);
    PyObject *found = PyObject_GetAttr((PyObject *)Py_TYPE(self), state->lock_file);
    int tells = found == NULL ? -1 : found != state->lock_file_attribute;
    Py_XDECREF(found);
    return tells;
}

static bool
gather_told(PyObject *self, bool asks, PyObject *told[TOLD_COUNT])
{
    for (int i = 0; i < TOLD_COUNT; i++) {
        told[i] = assigned(self, told_names[i]);
        if (told[i] == NULL && PyErr_Occurred()) {
            return false;
        }
    }
    if (!asks) {
        return true;
    }
    Py_XDECREF(told[TOLD_LOCK_FILE]);
    told[TOLD_LOCK_FILE] = PyObject_GetAttr(self, state_of(self)->lock_file);
    if (told[TOLD_LOCK_FILE] == NULL) {
        return false;
    }
    if (told[TOLD_LOCK_FILE] == Py_None) {
        Py_CLEAR(told[TOLD_LOCK_FILE]);
    }
    return true;
}

/* ---- The lock that is meant ---- */

/* What it is made from, as bytes; host: NULL: this one. */
struct meaning {
    PyObject *path, *lock_file, *store, *host;
};

static void
forget_meaning(struct meaning *meaning)
{
    Py_CLEAR(meaning->path);
    Py_CLEAR(meaning->lock_file);
    Py_CLEAR(meaning->store);
    Py_CLEAR(meaning->host);
}

static PyObject *
told_path(const struct lock *made, PyObject *told)
{
    return told != NULL ? encode_path(told, "path") : PyBytes_FromString(made->path);
}

/* An assigned one may be the path itself: who says so, wants that. */
static PyObject *
told_lock_file(PyObject *self, const struct lock *made, PyObject *const told[TOLD_COUNT],
               PyObject *path)
{
    const State *state = state_of(self);
    if (told[TOLD_LOCK_FILE] != NULL) {
        return make_named_lock_file(state, told[TOLD_LOCK_FILE]);
    }
    bool follows = told[TOLD_PATH] != NULL && !((LockObject *)self)->names_lock_file;
    return follows ? make_usual_lock_file(state, class_of(self), path)
                   : PyBytes_FromString(made->lock_file);
}

static PyObject *
told_store(PyObject *self, const struct lock *made, PyObject *lock_file)
{
    const struct lock_class *class = class_of(self);
    bool follows = class != NULL && class->store != NULL && !((LockObject *)self)->names_store;
    return follows ? make_store(class, Py_None, lock_file, state_of(self))
                   : PyBytes_FromString(made->store);
}

static PyObject *
told_host(PyObject *told)
{
    if (!PyUnicode_Check(told)) {
        PyErr_Format(PyExc_TypeError, "hostname must be a str, not %R", (PyObject *)Py_TYPE(told));
        return NULL;
    }
    PyObject *host = encode_path(told, "hostname");
    if (host != NULL && PyBytes_Size(host) >= OS_HOST_SIZE) {
        PyErr_SetString(PyExc_ValueError, "hostname is too long");
        Py_CLEAR(host);
    }
    return host;
}

static bool
find_meaning(PyObject *self, const struct lock *made, PyObject *const told[TOLD_COUNT],
             struct meaning *meaning)
{
    *meaning = (struct meaning){NULL, NULL, NULL, NULL};
    meaning->path = told_path(made, told[TOLD_PATH]);
    if (meaning->path != NULL) {
        meaning->lock_file = told_lock_file(self, made, told, meaning->path);
    }
    if (meaning->lock_file != NULL) {
        meaning->store = told_store(self, made, meaning->lock_file);
    }
    if (meaning->store != NULL && told[TOLD_HOSTNAME] != NULL) {
        meaning->host = told_host(told[TOLD_HOSTNAME]);
    }
    if (PyErr_Occurred()) {
        forget_meaning(meaning);
        return false;
    }
    return true;
}

/* A unique name that was assigned names the unique file, if it is one for the lock file's
 * directory. Any other only says what it was told: programs assign what they like. */
static bool
find_chosen_name(PyObject *self, PyObject *told, struct lock *lock)
{
    PyObject *encoded = is_path(told) ? encode_path(told, "unique_name") : NULL;
    if (encoded == NULL) {
        PyErr_Clear();
        return true;
    }
    PyObject *absolute = make_absolute(state_of(self), encoded);
    Py_DECREF(encoded);
    if (absolute == NULL) {
        return false;
    }
    lock_choose_name(lock, PyBytes_AsString(absolute));
    Py_DECREF(absolute);
    return true;
}

static struct lock *
make_meant(PyObject *self, const struct lock *made, PyObject *const told[TOLD_COUNT])
{
    struct meaning meaning;
    if (!find_meaning(self, made, told, &meaning)) {
        return NULL;
    }
    struct lock *lock = lock_new(made->mechanism, PyBytes_AsString(meaning.path),
                                 PyBytes_AsString(meaning.lock_file),
                                 PyBytes_AsString(meaning.store), made->ownership, made->is_shared);
    if (lock == NULL) {
        PyErr_NoMemory();
        forget_meaning(&meaning);
        return NULL;
    }
    lock->token = made->token; /* it is the same owner's */
    if (meaning.host != NULL) {
        lock_name_host(lock, PyBytes_AsString(meaning.host));
    }
    forget_meaning(&meaning);
    if (told[TOLD_UNIQUE_NAME] != NULL && !find_chosen_name(self, told[TOLD_UNIQUE_NAME], lock)) {
        lock_drop(lock);
        return NULL;
    }
    return lock;
}

/* ---- Settling ---- */

static bool
is_alike(const struct lock *one, const struct lock *other)
{
    return strcmp(one->path, other->path) == 0 && strcmp(one->lock_file, other->lock_file) == 0 &&
           strcmp(one->store, other->store) == 0 && strcmp(one->host, other->host) == 0 &&
           strcmp(one->chosen_name, other->chosen_name) == 0;
}

/* Takes over what was told, and the lock; NULL: it means what it meant. */
static void
settle_on(LockObject *object, struct lock *lock, PyObject *told[TOLD_COUNT])
{
    os_mutex_lock();
    struct lock *former = lock;
    if (lock != NULL && !is_alike(lock, object->lock)) {
        former = object->lock;
        object->lock = lock;
        object->has_moved = true;
    }
    for (int i = 0; i < TOLD_COUNT; i++) {
        PyObject *before = object->told[i];
        object->told[i] = told[i];
        told[i] = before;
    }
    os_mutex_unlock();
    if (former != NULL) {
        lock_drop(former);
    }
    forget_told(told);
}

/* What was told is new: so may be the lock. */
static bool
settle_told(PyObject *self, struct lock *made, PyObject *told[TOLD_COUNT])
{
    struct lock *lock = make_meant(self, made, told);
    if (lock != NULL) {
        settle_on((LockObject *)self, lock, told);
    }
    return lock != NULL;
}

static bool
settle(PyObject *self, bool asks)
{
    LockObject *object = (LockObject *)self;
    PyObject *told[TOLD_COUNT] = {NULL};
    if (!gather_told(self, asks, told)) {
        forget_told(told);
        return false;
    }
    os_mutex_lock();
    bool same = memcmp(told, object->told, sizeof told) == 0;
    struct lock *made = lock_share(object->made);
    os_mutex_unlock();
    bool settled = same || settle_told(self, made, told);
    forget_told(told);
    lock_drop(made);
    return settled;
}

struct lock *
share_made(PyObject *self)
{
    const LockObject *object = (LockObject *)self;
    os_mutex_lock();
    struct lock *made = object->made != NULL ? lock_share(object->made) : NULL;
    os_mutex_unlock();
    if (made == NULL) {
        complain(PyExc_RuntimeError, self, "%U.__init__() was not called", "");
    }
    return made;
}

PyObject *
constructor_path(PyObject *self)
{
    struct lock *made = share_made(self);
    if (made == NULL) {
        return NULL;
    }
    lock_drop(made);
    return Py_NewRef(((LockObject *)self)->path);
}

struct lock *
share_lock(PyObject *self)
{
    LockObject *object = (LockObject *)self;
    os_mutex_lock();
    bool made = object->made != NULL;
    bool settles = object->may_be_told || object->lock != object->made;
    os_mutex_unlock();
    if (!made) {
        complain(PyExc_RuntimeError, self, "%U.__init__() was not called", "");
        return NULL;
    }
    int asks = subclass_tells(self);
    if (asks < 0 || ((settles || asks > 0) && !settle(self, asks > 0))) {
        return NULL;
    }
    os_mutex_lock();
    struct lock *lock = lock_share(object->lock);
    os_mutex_unlock();
    return lock;
}

PyObject *
own_lock_file(PyObject *self)
{
    PyObject *told[TOLD_COUNT] = {NULL};
    struct meaning meaning;
    PyObject *lock_file = NULL;
    struct lock *made = share_made(self);
    if (made == NULL) {
        return NULL;
    }
    if (gather_told(self, false, told) && find_meaning(self, made, told, &meaning)) {
        lock_file = Py_NewRef(meaning.lock_file);
        forget_meaning(&meaning);
    }
    forget_told(told);
    lock_drop(made);
    return lock_file;
}

/* ---- Constructors ---- */

struct lock *
settle_anew(LockObject *object, const struct construction *made)
{
    PyObject *told[TOLD_COUNT] = {NULL};
    PyObject *path = Py_NewRef(made->path);
    os_mutex_lock();
    struct lock *former = object->made, *meant = object->lock;
    PyObject *former_path = object->path;
    object->made = made->lock;
    object->lock = lock_share(made->lock);
    object->has_moved = false;
    object->path = path;
    object->names_lock_file = made->names_lock_file;
    object->names_store = made->names_store;
    os_mutex_unlock();
    settle_on(object, NULL, told);
    Py_XDECREF(former_path);
    if (former != NULL) {
        lock_drop(former);
    }
    return meant;
}

int
forget_assigned(PyObject *self)
{
    static const char *const names[] = {"path", "lock_file", "hostname", "unique_name",
                                        "pid",  "tname",     "timeout"};
    for (size_t i = 0; has_dictionary(self) && i < sizeof names / sizeof *names; i++) {
        PyObject *before = assigned(self, names[i]);
        bool forgotten =
            before != NULL ? assign(self, NULL, (void *)names[i]) == 0 : PyErr_Occurred() == NULL;
        Py_XDECREF(before);
        if (!forgotten) {
            return -1;
        }
    }
    return 0;
}

/* ---- Assigning ---- */

int
assign_and_settle(PyObject *self, PyObject *value, void *name)
{
    LockObject *object = (LockObject *)self;
    PyObject *before = assigned(self, name);
    if ((before == NULL && PyErr_Occurred()) || assign(self, value, name) < 0) {
        Py_XDECREF(before);
        return -1;
    }
    os_mutex_lock();
    object->may_be_told = true;
    bool made = object->made != NULL;
    os_mutex_unlock();
    /* Relative paths count from here; and whoever is wrong, shall hear it here. */
    bool settled = !made || settle(self, false);
    if (!settled) {
        PyObject *kind, *error, *traceback;
        PyErr_Fetch(&kind, &error, &traceback);
        assign(self, before, name);
        PyErr_Restore(kind, error, traceback);
    }
    Py_XDECREF(before);
    return settled ? 0 : -1;
}
