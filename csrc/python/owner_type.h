/* Owner, the named tuple that owner() returns. */
#ifndef LOCKFILE_OWNER_TYPE_H
#define LOCKFILE_OWNER_TYPE_H

#include <Python.h>

#include "core/lock.h"

/* The type, and a tuple of it; NULL with an exception. */
PyTypeObject *owner_type_new(void);
PyObject *owner_new(PyTypeObject *type, const struct holder *holder);

/* The same with all that the system can tell of it, after lock_identify(). */
PyObject *owner_new_in_full(PyTypeObject *type, const struct attempt *attempt);

#endif
