#include "python/errors.h"

#include "core/own.h"
#include "python/owner_type.h"
#include "python/text.h"

#include <errno.h>
#include <string.h>

/* ---- The tree ---- */

static PyObject *
add_exception(PyObject *module, PyObject **place, const char *name, const char *doc,
              PyObject *bases)
{
    *place = PyErr_NewExceptionWithDoc(name, doc, bases, NULL);
    if (*place == NULL || PyModule_AddObjectRef(module, strchr(name, '.') + 1, *place) < 0) {
        return NULL;
    }
    return *place;
}

PyDoc_STRVAR(error_doc,
             "What this package raises.\n"
             "\n"
             "path, owner, timeout: the path of the lock, who held it (an Owner), and the\n"
             "seconds that were to be waited. Each is None where there is nothing to say.");

/* The base of them all. What programs raise themselves has the attributes, too. */
static bool
add_base(PyObject *module, PyObject **place)
{
    static const char *const attributes[] = {"path", "owner", "timeout"};
    PyObject *dict = PyDict_New();
    bool added = dict != NULL;
    for (size_t i = 0; added && i < sizeof attributes / sizeof *attributes; i++) {
        added = PyDict_SetItemString(dict, attributes[i], Py_None) == 0;
    }
    if (added) {
        *place = PyErr_NewExceptionWithDoc("lockfile.Error", error_doc, NULL, dict);
        added = *place != NULL && PyModule_AddObjectRef(module, "Error", *place) == 0;
    }
    Py_XDECREF(dict);
    return added;
}

bool
errors_add(PyObject *module, struct errors *errors, PyTypeObject *Owner)
{
    errors->Owner = (PyTypeObject *)Py_NewRef((PyObject *)Owner);
    if (!add_base(module, &errors->Error) ||
        !add_exception(module, &errors->LockError, "lockfile.LockError",
                       "The lock was not acquired.", errors->Error) ||
        !add_exception(module, &errors->AlreadyLocked, "lockfile.AlreadyLocked",
                       "It is held, and the caller did not want to wait.", errors->LockError) ||
        !add_exception(module, &errors->LockFailed, "lockfile.LockFailed",
                       "The lock file cannot be made, for another reason than being held.",
                       errors->LockError) ||
        !add_exception(module, &errors->UnlockError, "lockfile.UnlockError",
                       "The lock was not released, broken or looked at.", errors->Error) ||
        !add_exception(module, &errors->NotLocked, "lockfile.NotLocked", "Nobody holds it.",
                       errors->UnlockError) ||
        !add_exception(module, &errors->NotMyLock, "lockfile.NotMyLock", "Another owner holds it.",
                       errors->UnlockError)) {
        return false;
    }
    PyObject *bases = PyTuple_Pack(2, errors->LockError, PyExc_TimeoutError);
    bool added =
        bases != NULL && add_exception(module, &errors->LockTimeout, "lockfile.LockTimeout",
                                       "It was still held when the time to wait was over.", bases);
    Py_XDECREF(bases);
    return added;
}

int
errors_traverse(const struct errors *errors, visitproc visit, void *arg)
{
    Py_VISIT(errors->Error);
    Py_VISIT(errors->LockError);
    Py_VISIT(errors->LockTimeout);
    Py_VISIT(errors->AlreadyLocked);
    Py_VISIT(errors->LockFailed);
    Py_VISIT(errors->UnlockError);
    Py_VISIT(errors->NotLocked);
    Py_VISIT(errors->NotMyLock);
    Py_VISIT(errors->Owner);
    return 0;
}

void
errors_clear(struct errors *errors)
{
    Py_CLEAR(errors->Error);
    Py_CLEAR(errors->LockError);
    Py_CLEAR(errors->LockTimeout);
    Py_CLEAR(errors->AlreadyLocked);
    Py_CLEAR(errors->LockFailed);
    Py_CLEAR(errors->UnlockError);
    Py_CLEAR(errors->NotLocked);
    Py_CLEAR(errors->NotMyLock);
    Py_CLEAR(errors->Owner);
}

/* ---- What a message says ---- */

#define GROUP_SIZE 64

/* "held by ", "held by 3 readers, one of them " */
static void
describe_group(const struct holder *holder, char text[GROUP_SIZE])
{
    if (!holder->is_shared) {
        PyOS_snprintf(text, GROUP_SIZE, "held by ");
    } else if (holder->readers <= 1) {
        PyOS_snprintf(text, GROUP_SIZE, "held by a reader, ");
    } else {
        PyOS_snprintf(text, GROUP_SIZE, "held by %u readers, one of them ", holder->readers);
    }
}

/* "held by thread T of process P on host H, which is alive" */
static PyObject *
describe_owner(const struct holder *holder)
{
    char group[GROUP_SIZE];
    static const char *const lives[] = {
        [LIFE_UNKNOWN] = "", [LIFE_ALIVE] = ", which is alive", [LIFE_DEAD] = ", which is dead"};
    const struct name *name = &holder->name;
    describe_group(holder, group);
    if (!holder->known) {
        return PyUnicode_FromFormat("%san unknown owner%s", group, lives[holder->life]);
    }
    PyObject *host = decode(name->host);
    if (host == NULL) {
        return NULL;
    }
    PyObject *text = name->thread == 0
                         ? PyUnicode_FromFormat("%sprocess %d on host %U%s", group, name->process,
                                                host, lives[holder->life])
                         : PyUnicode_FromFormat("%sthread %llu of process %d on host %U%s", group,
                                                (unsigned long long)name->thread, name->process,
                                                host, lives[holder->life]);
    Py_DECREF(host);
    return text;
}

/* What the system, or a module of Python's, said; "" if nothing is wrong. */
static PyObject *
describe_error(const struct call *call)
{
    char buffer[256];
    const struct report *report = &call->attempt.report;
    return report->raised       ? PyObject_Str(call->python.error)
           : report->error != 0 ? decode(os_message(report->error, buffer, sizeof buffer))
                                : decode("");
}

/* Which part of this process it is. */
static const char *
describe_sibling(const struct holder *holder)
{
    static const char *const beside[] = {
        [OWNER_THREAD] = "; this is this thread itself, outside of its tasks",
        [OWNER_TASK] = "; this is another task of this thread",
        [OWNER_GREENLET] = "; this is another greenlet of this thread",
        [OWNER_PROCESS] = "",
        [OWNER_OBJECT] = "",
    };
    static const char *const elsewhere[] = {
        [OWNER_THREAD] = ("; this is another thread of this process: with threaded=False the "
                          "process would be the owner"),
        [OWNER_TASK] = "; this is a task in another thread of this process",
        [OWNER_GREENLET] = "; this is a greenlet in another thread of this process",
        [OWNER_PROCESS] = "",
        [OWNER_OBJECT] = "; this is another lock object of this process, which owns by itself",
    };
    return (holder->beside ? beside : elsewhere)[holder->kind];
}

/* Who holds, why nobody can tell better, and what might help. */
static PyObject *
describe_holder(const struct call *call)
{
    const struct holder *holder = &call->attempt.report.holder;
    const char *reason = call->attempt.report.reason;
    int error = call->attempt.report.error;
    PyObject *owner = describe_owner(holder);
    PyObject *why = owner != NULL ? describe_error(call) : NULL;
    if (why == NULL) {
        Py_XDECREF(owner);
        return NULL;
    }
    PyObject *text = PyUnicode_FromFormat("%U%s%s%s%U%s", owner, reason != NULL ? "; " : "",
                                          reason != NULL ? reason : "", error != 0 ? ": " : "", why,
                                          holder->sibling ? describe_sibling(holder) : "");
    Py_DECREF(owner);
    Py_DECREF(why);
    return text;
}

/* The file that a failure is about. */
static const char *
subject_of(const struct lock *lock)
{
    return lock->store[0] != '\0' ? lock->store : lock->lock_file;
}

/* Why, as far as the system has not said it, or what might help. */
static const char *
reason_of(const struct report *report)
{
    static const char too_long[] =
        "lock_file= can name a lock file elsewhere, by a shorter name or path";
    static const char read_only[] =
        "lock_file= can name a lock file elsewhere, where files can be made";
    return report->reason != NULL          ? report->reason
           : report->error == ENAMETOOLONG ? too_long
           : report->error == EROFS        ? read_only
                                           : NULL;
}

/* "could not create the unique file: No space left on device"
 * "could not read the database (/tmp/locks): disk I/O error" */
static PyObject *
describe_failure(const struct call *call)
{
    const struct report *report = &call->attempt.report;
    const char *reason = reason_of(report), *store = call->attempt.lock->store;
    PyObject *message = describe_error(call);
    PyObject *where = message == NULL ? NULL : decode(store);
    PyObject *text =
        where == NULL
            ? NULL
            : PyUnicode_FromFormat("could not %s%s%U%s: %U%s%s", report->doing,
                                   store[0] != '\0' ? " (" : "", where, store[0] != '\0' ? ")" : "",
                                   message, reason != NULL ? "; " : "", reason ? reason : "");
    Py_XDECREF(message);
    Py_XDECREF(where);
    return text;
}

static PyObject *
cause_of(const struct call *call)
{
    char buffer[256];
    int error = call->attempt.report.error;
    if (call->attempt.report.raised) {
        return Py_NewRef(call->python.error);
    }
    PyObject *message = decode(os_message(error, buffer, sizeof buffer));
    PyObject *file = decode(subject_of(call->attempt.lock));
    PyObject *exception = NULL;
    if (message != NULL && file != NULL) {
        exception = PyObject_CallFunction(PyExc_OSError, "iOO", error, message, file);
    }
    Py_XDECREF(message);
    Py_XDECREF(file);
    return exception;
}

/* ---- Raising ---- */

/* What is raised, and what its attributes say besides the path. */
struct raising {
    const struct errors *errors;
    PyObject *type;
    const struct call *call;
    const struct holder *holder; /* NULL: nobody is known to own */
    const double *timeout;       /* NULL: none */
};

/* Takes the value, which may be NULL, over. */
static bool
add_attribute(PyObject *exception, const char *name, PyObject *value)
{
    bool added = value != NULL && PyObject_SetAttrString(exception, name, value) == 0;
    Py_XDECREF(value);
    return added;
}

/* Of what is known already: the file system is not asked again. */
static bool
add_attributes(PyObject *exception, const struct raising *raising)
{
    const struct holder *holder = raising->holder;
    const double *timeout = raising->timeout;
    return add_attribute(exception, "path", decode(raising->call->attempt.lock->path)) &&
           (holder == NULL ||
            add_attribute(exception, "owner", owner_new(raising->errors->Owner, holder))) &&
           (timeout == NULL || add_attribute(exception, "timeout", PyFloat_FromDouble(*timeout)));
}

/* Chains it to the OSError if a system call had failed, or to what a module of Python's had
 * raised. */
static bool
add_cause(PyObject *exception, const struct call *call)
{
    PyObject *cause = call->attempt.report.error != 0 ? cause_of(call) : NULL;
    if (cause != NULL) {
        PyException_SetCause(exception, cause);
    }
    return cause != NULL || call->attempt.report.error == 0;
}

/* Raises type(text). Takes the text, which may be NULL, over. Always returns NULL. */
static PyObject *
raise_text(const struct raising *raising, PyObject *text)
{
    if (text == NULL) {
        return NULL;
    }
    PyObject *exception = PyObject_CallFunctionObjArgs(raising->type, text, NULL);
    Py_DECREF(text);
    if (exception != NULL && add_attributes(exception, raising) &&
        add_cause(exception, raising->call)) {
        PyErr_SetObject(raising->type, exception);
    }
    Py_XDECREF(exception);
    return NULL;
}

/* A classic message, which programs match on, and then what we know more: format
 * takes the path and the details. Takes the details, which may be NULL, over. */
static PyObject *
raise_detailed(const struct raising *raising, const char *format, const char *subject,
               PyObject *details)
{
    PyObject *name = decode(subject);
    PyObject *text =
        name != NULL && details != NULL ? PyUnicode_FromFormat(format, name, details) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(details);
    return raise_text(raising, text);
}

PyObject *
raise_not_locked(const struct errors *errors, const struct call *call)
{
    const struct raising raising = {errors, errors->NotLocked, call, NULL, NULL};
    PyObject *path = decode(call->attempt.lock->path);
    PyObject *text = path != NULL ? PyUnicode_FromFormat("%U is not locked", path) : NULL;
    Py_XDECREF(path);
    return raise_text(&raising, text);
}

PyObject *
raise_not_mine(const struct errors *errors, const struct call *call)
{
    const struct raising raising = {errors, errors->NotMyLock, call, &call->attempt.report.holder,
                                    NULL};
    return raise_detailed(&raising, "%U is locked, but not by me: %U", call->attempt.lock->path,
                          describe_holder(call));
}

/* holder: who owns all the same; NULL: nobody knows. */
static PyObject *
raise_unlock_error(const struct errors *errors, const struct call *call,
                   const struct holder *holder, const char *format)
{
    const struct raising raising = {errors, errors->UnlockError, call, holder, NULL};
    return raise_detailed(&raising, format, call->attempt.lock->path, describe_failure(call));
}

PyObject *
raise_failed_look(const struct errors *errors, const struct call *call)
{
    return raise_unlock_error(errors, call, NULL, "cannot tell whether %U is locked: %U");
}

PyObject *
raise_failed_release(const struct errors *errors, struct call *call)
{
    if (!call->attempt.report.owned) {
        return raise_unlock_error(
            errors, call, NULL,
            "%U is not locked by me any more, but something is left behind: %U");
    }
    own_identify(&call->attempt);
    return raise_unlock_error(errors, call, &call->attempt.report.holder,
                              "%U could not be unlocked and is still locked by me: %U");
}

PyObject *
raise_not_shared(const struct errors *errors, const struct call *call)
{
    return raise_unlock_error(errors, call, NULL, "the lock of %U stays this process's alone: %U");
}

PyObject *
raise_failed_downgrade(const struct errors *errors, struct call *call)
{
    own_identify(&call->attempt);
    const struct raising raising = {errors, errors->LockFailed, call, &call->attempt.report.holder,
                                    NULL};
    return raise_detailed(&raising, "%U could not be shared and is still locked by me alone: %U",
                          call->attempt.lock->path, describe_failure(call));
}

PyObject *
raise_failed_break(const struct errors *errors, const struct call *call)
{
    return raise_unlock_error(errors, call, NULL, "the lock of %U could not be broken: %U");
}

static PyObject *
raise_no_upgrade(const struct raising *raising)
{
    PyObject *path = decode(raising->call->attempt.lock->path);
    PyObject *text =
        path != NULL
            ? PyUnicode_FromFormat("%U is shared by the caller, who must release it to have it "
                                   "alone: two who waited for each other's release would wait "
                                   "for ever",
                                   path)
            : NULL;
    Py_XDECREF(path);
    return raise_text(raising, text);
}

PyObject *
raise_not_acquired(const struct errors *errors, const struct call *call, enum outcome outcome,
                   const double *timeout)
{
    struct raising raising = {errors, errors->LockFailed, call, NULL, timeout};
    if (outcome == LOCK_FAILED) {
        bool is_held = call->attempt.report.holder.known;
        raising.holder = is_held ? &call->attempt.report.holder : NULL;
        if (call->attempt.report.upgrades) {
            return raise_no_upgrade(&raising);
        }
        return raise_detailed(&raising, "failed to create %U: %U", call->attempt.lock->lock_file,
                              is_held ? describe_holder(call) : describe_failure(call));
    }
    bool waited = wait_is_wanted(&call->attempt.wait);
    raising.type = waited ? errors->LockTimeout : errors->AlreadyLocked;
    raising.holder = &call->attempt.report.holder;
    return raise_detailed(&raising,
                          waited ? "Timeout waiting to acquire lock for %U: %U"
                                 : "%U is already locked: %U",
                          call->attempt.lock->path, describe_holder(call));
}
