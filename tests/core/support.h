/* What the C programs of these tests share: calls of the core, made as the Python
 * face makes them, and looks at what must not be left behind. */
#ifndef LOCKFILE_TESTS_SUPPORT_H
#define LOCKFILE_TESTS_SUPPORT_H

#include "core/lock.h"
#include "mechanisms/files/files.h"

/* Says what went wrong, on one line. What then happens is the program's own. */
void defect(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define DEMAND(condition, ...) ((condition) ? (void)0 : defect(__VA_ARGS__))

const char *outcome_name(enum outcome outcome);

/* Ends the program: a test that cannot begin proves nothing. */
void need(bool done, const char *what);

/* The calling thread, as the owner that the lock has. */
void begin(struct attempt *attempt, struct lock *lock, int64_t deadline);

struct lock *make_lock(const struct mechanism *mechanism, const char *directory, const char *name,
                       bool threaded);
struct lock *share(struct lock *lock); /* to be dropped */
int64_t deadline_in(int64_t nanoseconds);

/* One call, gone on with after signals. report NULL: not wanted. */
enum outcome call(lock_operation *operation, struct lock *lock, int64_t deadline,
                  struct report *report);

/* with: acquire(), until the block is counted. OWNED, or what acquire() said. */
enum outcome enter(struct lock *lock, int64_t deadline, struct report *report);
/* ... and its end: RELEASED, if it was not an inner one. */
enum outcome leave(struct lock *lock, struct report *report);

/* How many descriptors are open, without the watches and beacon files that are kept
 * for later. */
unsigned count_descriptors(void);

/* How many names a directory has, and one of them. */
unsigned count_names(const char *directory, char name[OS_PATH_SIZE]);

/* A process acquires the lock and ends. */
void leave_stale(struct lock *lock);

/* A beacon that is a byte of this file, lit, looked at and darkened, and a queue for it. */
void light_byte(const char *beacon_file);

#endif
