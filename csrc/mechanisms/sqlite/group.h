/* Rows of those who share a lock.
 *
 * The lock's row says that it is shared; it keeps all others off, as any row does. Each reader has
 * a row of its own besides, and a beacon of its own: so each is proven dead by itself. One
 * statement makes both, or joins those who are there; one removes a reader's, and the lock's with
 * the last. Who waits to have the lock alone marks a queue that is the lock's, not a claim's:
 * whoever comes to share it sees that, and gives way. */
#ifndef LOCKFILE_GROUP_H
#define LOCKFILE_GROUP_H

#include <Python.h>

#include "mechanisms/sqlite/rows.h"

/* Where those wait who want to have it alone; and behind, those who give way to them. */
uint64_t group_queue(const char *row);

/* What was found is shared, and the file of the beacons is open. OWNED, STALE: attempt->found is
 * that reader's; SHARED, HELD: it is the lock's; FREE: it has changed; FAILED, WAITING. */
enum outcome group_judge(struct attempt *attempt, struct spot *spot, const struct row *row);

/* As a mechanism's join(). FREE: nobody is in the way: claim. */
enum outcome group_join(struct attempt *attempt);

/* As a mechanism's list_readers(). The file of the beacons is open. */
unsigned group_list(struct attempt *attempt, const struct spot *spot, struct os_reader readers[],
                    unsigned most);

#endif
