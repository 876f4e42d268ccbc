/* How a lock file is broken whose owner is proven dead. */
#ifndef LOCKFILE_STALE_H
#define LOCKFILE_STALE_H

#include "core/attempt.h"

enum outcome stale_break(struct attempt *attempt); /* as in struct mechanism */

#endif
