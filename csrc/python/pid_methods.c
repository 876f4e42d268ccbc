#include "python/pid_methods.h"

#include "python/call.h"
#include "python/lock_type.h"
#include "python/meaning.h"

#include <errno.h>
#include <string.h>

#define TEXT_SIZE 320

/* Without the GIL. False: it says nothing. */
static bool
read_process(const char *path, int64_t *process)
{
    char text[TEXT_SIZE];
    size_t length;
    struct os_file file;
    struct os_status status;
    if (os_open(&os_anywhere, path, OS_READ, &file, &status) != 0) {
        return false;
    }
    int error = status.kind == OS_REGULAR ? os_read(&file, text, TEXT_SIZE - 1, &length) : EISDIR;
    os_close(&file);
    if (error != 0) {
        return false;
    }
    text[length] = '\0';
    return strlen(text) == length && name_parse_process(text, process);
}

PyDoc_STRVAR(read_pid_doc, "read_pid($self, /)\n--\n\n"
                           "The process number that the PID file holds, whoever wrote it.\n"
                           "\n"
                           "None if there is none, or nothing in it that is a number. A symbolic\n"
                           "link is not followed.");

static PyObject *
pid_read(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    int64_t process = 0;
    struct lock *lock = share_lock(self);
    if (lock == NULL) {
        return NULL;
    }
    PyThreadState *thread = PyEval_SaveThread();
    bool told = read_process(lock->lock_file, &process);
    lock_drop(lock);
    PyEval_RestoreThread(thread);
    return told ? PyLong_FromLongLong(process) : Py_NewRef(Py_None);
}

/* Is it ours, neither a subclass's nor patched? */
static bool
is_own_read(PyObject *self, PyObject *method)
{
    return PyCFunction_Check(method) && PyCFunction_GetSelf(method) == self &&
           PyCFunction_GetFunction(method) == pid_read;
}

/* A subclass that reads PID files in its own way is asked. NULL with an exception. */
static PyObject *
ask_other_read(PyObject *self, PyObject *method)
{
    PyObject *locked = PyObject_CallMethod(self, "is_locked", NULL);
    int is_locked = locked != NULL ? PyObject_IsTrue(locked) : -1;
    Py_XDECREF(locked);
    if (is_locked <= 0) {
        return is_locked < 0 ? NULL : Py_NewRef(Py_False);
    }
    PyObject *process = PyObject_CallNoArgs(method);
    PyObject *own = process != NULL ? PyLong_FromLong(os_process()) : NULL;
    PyObject *answer = own != NULL ? PyObject_RichCompare(process, own, Py_EQ) : NULL;
    Py_XDECREF(process);
    Py_XDECREF(own);
    return answer;
}

PyDoc_STRVAR(i_am_locking_doc,
             "i_am_locking($self, /)\n--\n\n"
             "Whether this process holds the lock: the PID file holds its number, and was\n"
             "not left by a dead process that had the same one.\n"
             "\n"
             "Raises UnlockError if the file system fails.");

static PyObject *
pid_i_am_locking(PyObject *self, PyObject *ignored)
{
    PyObject *method = PyObject_GetAttrString(self, "read_pid");
    if (method == NULL) {
        return NULL;
    }
    PyObject *answer =
        is_own_read(self, method) ? base_i_am_locking(self, ignored) : ask_other_read(self, method);
    Py_DECREF(method);
    return answer;
}

PyMethodDef pid_methods[] = {
    {"read_pid", pid_read, METH_NOARGS, read_pid_doc},
    {"i_am_locking", pid_i_am_locking, METH_NOARGS, i_am_locking_doc},
    {NULL, NULL, 0, NULL},
};
