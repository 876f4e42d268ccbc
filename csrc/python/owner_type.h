/* Owner, the named tuple that owner() returns. */
#ifndef LOCKFILE_OWNER_TYPE_H
#define LOCKFILE_OWNER_TYPE_H

#include <Python.h>

#include "core/lock.h"

/* The type, and a tuple of it; NULL with an exception. */
PyTypeObject *owner_type_new(void);
PyObject *owner_new(PyTypeObject *type, const struct holder *holder);

#endif
