/* The watches of this process: each tells one waiter of changes. Few, and kept for the next. */
#ifndef LOCKFILE_WATCHES_H
#define LOCKFILE_WATCHES_H

#include "platform/os.h"

/* For the caller alone, until it is given back. False: there are enough, or none is to be had. */
bool watches_take(struct os_file *watch);

/* What it watched is removed before. One that was lost, and so is none, gives back only the right
 * to open another. */
void watches_give_back(struct os_file *watch);

#endif
