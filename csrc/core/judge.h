/* Verdicts on what a mechanism has found, and what the report says of them. */
#ifndef LOCKFILE_JUDGE_H
#define LOCKFILE_JUDGE_H

#include "core/mechanism.h"

/* For the report, and as the outcome to return: FAILED, HELD. */
enum outcome judge_failed(struct report *report, int error, const char *doing);
enum outcome judge_held(struct attempt *attempt, enum life life, const char *reason);

/* Others share what was found. SHARED: the caller may join them; HELD. */
enum outcome judge_shared(struct attempt *attempt);

/* Is what was found in the table? OWNED; HELD: another owner's of this process; FOUND: it is not
 * in it, or may be joined. */
enum outcome judge_by_table(struct attempt *attempt);

/* The beacon of what was found is dark: does that prove anything about who is called so? STALE,
 * HELD. */
enum outcome judge_by_name(struct attempt *attempt, const char *name);

#endif
