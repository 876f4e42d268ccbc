/* Claims that are rows: their beacons, lit, lost and darkened. */
#ifndef LOCKFILE_CLAIMS_H
#define LOCKFILE_CLAIMS_H

#include <Python.h>

#include "mechanisms/sqlite/spot.h"

/* One whose row is called as the spot says; NULL: out of memory. */
struct claim *claims_new(struct attempt *attempt, const struct spot *spot);

/* Lights its beacon, and so gives it its identity and its unique name; where there are no beacons,
 * the row is to say so by its file's number, 0. 0, or an error as database.h has it. */
int claims_light(struct attempt *attempt, const struct spot *spot, struct claim *claim);

/* Darkens the beacon, and frees the claim. */
void claims_drop(struct claim *claim);

/* The database that the row is in, and the row, as it was called then; a beacon that was lost is
 * lit again. ENOENT: it is not there any more; EWOULDBLOCK: another is proving us dead just now,
 * and removes the row, or gives up. */
int claims_find(struct attempt *attempt, struct spot *spot, struct claim *claim);

/* Does the row prove nothing without its beacon? */
bool claims_have_proof(struct claim *claim);

/* What it has alone is shared from now on: so is told who waits for that. */
void claims_tell_shared(struct claim *claim);

/* The row is gone, or is that of a dead owner as soon as its beacon is dark: RELEASED, and whoever
 * waits is woken. */
enum outcome claims_end_release(struct claim *claim, bool *has_waiters);

#endif
