/* How break_lock() removes a lock file, whoever owns it. */
#ifndef LOCKFILE_CONDEMN_H
#define LOCKFILE_CONDEMN_H

#include "core/attempt.h"

/* As in struct mechanism. */
enum outcome condemn_lock(struct attempt *attempt, const struct identity *waited_for);
void condemn_tidy(struct attempt *attempt);

/* Lets removals go on, if it has kept them off. */
void condemn_end(struct attempt *attempt);

#endif
