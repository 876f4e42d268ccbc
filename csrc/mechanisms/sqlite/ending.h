/* The interpreter's end, for locks in databases: a row can only be removed while Python still
 * works. */
#ifndef LOCKFILE_ENDING_H
#define LOCKFILE_ENDING_H

#include <Python.h>

/* The interpreter's pool of connections, as an object. It ends with the interpreter, and with
 * the main one all rows that this process owns. NULL with an exception. */
PyObject *ending_pool(void);

#endif
