/* What dead owners have left, and nobody owns: reaped by name, or swept from a whole directory. */
#ifndef LOCKFILE_SWEEP_H
#define LOCKFILE_SWEEP_H

#include "core/proof.h"

/* Removes what a dead owner left under one of its names, if it owns nothing: its
 * unique file, or a lock directory that holds nothing else. A name proves nothing by its
 * form: users have files called HOST-20241101-1. So it must bear our stamp as well; then
 * the host's name does not matter, by which a machine may have been called before.
 * False: left alone. */
bool sweep_reap(const struct os_file *directory, const char *name, struct ground ground);

/* The same for a name that was chosen, whatever it looks like: its caller says that it is meant for
 * a unique file, which is empty. */
bool sweep_reap_chosen(const struct os_file *directory, const char *name, struct ground ground);

/* Does so for every name in the directory that an owner has. */
void sweep_all(const struct os_file *directory, struct ground ground);

#endif
