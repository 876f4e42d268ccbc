/* How what is owned is released. */
#ifndef LOCKFILE_RELEASE_H
#define LOCKFILE_RELEASE_H

#include "core/attempt.h"

/* As in struct mechanism. */
enum outcome release_claim(struct attempt *attempt, struct claim *claim, bool *has_waiters);
void release_stop(struct claim *claim);

#endif
