#include "python/watch.h"

#include "core/watches.h"

#include <errno.h>

typedef struct {
    PyObject_HEAD
    struct os_file file;
} WatchObject;

const struct os_file *
watch_of(PyObject *watch)
{
    static const struct os_file none = {.descriptor = -1};
    return watch != NULL ? &((WatchObject *)watch)->file : &none;
}

static int
watch_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    WatchObject *watch = (WatchObject *)self;
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Watch", names)) {
        return -1;
    }
    bool taken =
        watch->file.descriptor >= 0 || (os_watch_serves_many && watches_take(&watch->file));
    if (!taken) {
        PyErr_SetString(PyExc_OSError, "no watch is to be had");
    }
    return taken ? 0 : -1;
}

static PyObject *
watch_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *self = PyType_GenericAlloc(type, 0);
    if (self != NULL) {
        ((WatchObject *)self)->file = OS_NO_FILE;
    }
    return self;
}

/* All that used it have ended their watching, since they keep it. */
static void
watch_dealloc(PyObject *self)
{
    WatchObject *watch = (WatchObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (!os_is_none(&watch->file)) {
        watches_give_back(&watch->file);
    }
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

static PyObject *
watch_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const struct os_file *file = &((WatchObject *)self)->file;
    return PyLong_FromLong(os_is_open(file) ? file->descriptor : -1);
}

static PyObject *
watch_read(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct os_event events[OS_EVENTS];
    const struct os_file *file = &((WatchObject *)self)->file;
    size_t count = os_is_open(file) ? os_watch_events(file, events) : 0;
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *event =
            Py_BuildValue("(iNN)", events[i].watched, PyBool_FromLong(events[i].closed),
                          PyBool_FromLong(events[i].gone));
        if (event == NULL || PyList_SetItem(list, (Py_ssize_t)i, event) != 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* What a link leads to is not followed. */
static int
add_path(const struct os_file *watch, const char *path, int *watched)
{
    struct os_status status;
    int error = os_status_at(&os_anywhere, path, &status);
    return error != 0 ? error : os_watch_add(watch, path, status.kind, watched);
}

static PyObject *
watch_add(PyObject *self, PyObject *given)
{
    const struct os_file *file = &((WatchObject *)self)->file;
    PyObject *path;
    int watched = -1;
    if (!PyUnicode_FSConverter(given, &path)) {
        return NULL;
    }
    int error = os_is_open(file) ? add_path(file, PyBytes_AsString(path), &watched) : EBADF;
    Py_DECREF(path);
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, given);
    }
    return PyLong_FromLong(watched);
}

PyDoc_STRVAR(add_doc,
             "add($self, path, /)\n--\n\n"
             "Watch what is at that path now, and give the number of it. OSError: nothing,\n"
             "or it cannot be watched.");

PyDoc_STRVAR(read_doc,
             "read($self, /)\n--\n\n"
             "What has happened, as far as one look can tell: of each event the number of\n"
             "what is watched, whether that was closed, and whether it is not watched any more.");

static PyMethodDef watch_methods[] = {
    {"fileno", watch_fileno, METH_NOARGS,
     PyDoc_STR("fileno($self, /)\n--\n\nReadable when something has happened; -1: it was closed.")},
    {"add", watch_add, METH_O, add_doc},
    {"read", watch_read, METH_NOARGS, read_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot watch_slots[] = {
    {Py_tp_doc, (void *)"Watch()\n--\n\nTells a loop what happens to the locks that its tasks "
                        "wait for. OSError: none is to be had."},
    {Py_tp_new, watch_new},
    {Py_tp_init, watch_init},
    {Py_tp_dealloc, watch_dealloc},
    {Py_tp_methods, watch_methods},
    {0, NULL},
};

PyType_Spec watch_spec = {
    .name = "lockfile._lockfile.Watch",
    .basicsize = sizeof(WatchObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = watch_slots,
};
