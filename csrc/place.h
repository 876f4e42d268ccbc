/* The place of a lock: the directory of its lock file, opened once for each round of
 * a call, and what lies at the lock file's name, whichever mechanism made it. What
 * the mechanisms on the file system share. */
#ifndef LOCKFILE_PLACE_H
#define LOCKFILE_PLACE_H

#include "lock.h"

/* For the report, and as the outcome to return. */
enum outcome place_fail(struct report *report, int error, const char *doing);
enum outcome place_hold(struct attempt *attempt, enum life life, const char *reason);

int place_open(struct attempt *attempt);
void place_close(struct attempt *attempt);

/* Opens what is at the lock file's name; watched: and watches it. STALE: it is open,
 * to be judged further; FREE, HELD, FAILED: that is the judgement. */
enum outcome place_find(struct attempt *attempt, bool watched, struct os_status *status);

/* Is what was found in the table? OWNED; HELD: another thread's; FREE: it is not. */
enum outcome place_look_up(struct attempt *attempt);

struct os_identity place_recognise(struct attempt *attempt);

/* Opens the directory of what is owned anew, if it is still the one; else ENOENT. */
int place_reopen(struct owned *owned);

/* ---- Removals and break_lock() keep off each other ----
 *
 * Each checks what it removes, and then removes it by its name. Between the two,
 * break_lock() excludes all others; for a moment, so who is refused may be patient.
 * EWOULDBLOCK: refused. */
int place_begin_removal(const struct os_file *directory);
void place_end_removal(const struct os_file *directory);
int place_begin_condemning(const struct os_file *directory);
void place_end_condemning(const struct os_file *directory);

/* Tries to take a lock that others hold for microseconds only, unless they are
 * stopped, or mean ill: for a second. */
int place_patiently(int (*take)(const struct os_file *file), const struct os_file *file);

#endif
