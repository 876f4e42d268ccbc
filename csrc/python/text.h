/* Paths and names of the system's, as str. */
#ifndef LOCKFILE_TEXT_H
#define LOCKFILE_TEXT_H

#include <Python.h>

static inline PyObject *
decode(const char *text)
{
    return PyUnicode_DecodeFSDefault(text);
}

#endif
