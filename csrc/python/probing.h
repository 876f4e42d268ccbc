/* What the command asks of a directory, and of a lock file, beyond what lock objects tell. */
#ifndef LOCKFILE_PROBING_H
#define LOCKFILE_PROBING_H

#include <Python.h>

/* Of the module. */
extern PyMethodDef probing_functions[];

#endif
