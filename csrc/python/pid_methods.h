/* What a class of PID files has besides LockBase's methods. */
#ifndef LOCKFILE_PID_METHODS_H
#define LOCKFILE_PID_METHODS_H

#include <Python.h>

extern PyMethodDef pid_methods[];

#endif
