/* What the body of a with block has raised comes before what the end of the block raises. */
#ifndef LOCKFILE_BODY_H
#define LOCKFILE_BODY_H

#include <Python.h>

#include "python/errors.h"

/* An exception is set, and a block is over, whose __exit__() was given these arguments. True: its
 * body has raised, and what is set was one of ours, and is now a note of the body's; let that one
 * go on. */
bool body_comes_first(const struct errors *errors, PyObject *exit_arguments);

#endif
