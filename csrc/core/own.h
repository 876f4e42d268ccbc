/* What the owner that calls has already, by the table. */
#ifndef LOCKFILE_OWN_H
#define LOCKFILE_OWN_H

#include "core/attempt.h"

/* The owner's claim, for this call alone. OWNED: it is taken; FREE: there is none; HELD, WAITING:
 * another call uses it. key: of what was found at its path; NULL: it is looked for by the path. */
enum outcome own_take(struct attempt *attempt, const struct table_key *key, struct claim **claim);

/* Is the lock the owner's? By the lock file's path; or by the lock file that was found, since it
 * may be its own by another path. OWNED, FAILED, HELD, WAITING; FREE: it is not, any more. */
enum outcome own_look_up(struct attempt *attempt);
enum outcome own_look_up_found(struct attempt *attempt);

/* Says in the report that the calling owner is the holder. */
void own_identify(struct attempt *attempt);

#endif
