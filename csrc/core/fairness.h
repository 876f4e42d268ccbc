/* Courtesy. A process that releases and claims again at once beats every sleeper that its
 * release has woken. So whoever releases a lock to waiters lets one of them in before it claims
 * that lock again. */
#ifndef LOCKFILE_FAIRNESS_H
#define LOCKFILE_FAIRNESS_H

#include "core/proof.h"

/* How long a courtesy lasts. */
#define FAIRNESS_TIME (OS_MILLISECOND / 2)

/* Between two looks at whether one of them has come. */
#define FAIRNESS_PAUSE (OS_MILLISECOND / 50)

/* The owner has released that lock to waiters. */
void fairness_owe(const char *lock_file, struct owner owner);

/* Until when the owner owes a courtesy, which is paid by asking. 0: it owes none. */
int64_t fairness_ask(const char *lock_file, struct owner owner);

#endif
