/* Rows, as the steps of an attempt ask for them: once each, and again after a moment while the
 * database is busy. */
#ifndef LOCKFILE_ROWS_H
#define LOCKFILE_ROWS_H

#include <Python.h>

#include "core/judge.h"
#include "mechanisms/sqlite/spot.h"

/* What the mechanism keeps for as long as a call lasts. */
struct sqlite_place {
    struct request request;
    struct os_file found; /* the file that the beacon of what was found is in */
    bool is_of_group;     /* what was found stale is the row of one who shares the lock */
};

_Static_assert(sizeof(struct sqlite_place) <= sizeof(union place), "it must fit");

static inline struct sqlite_place *
place_of(struct attempt *attempt)
{
    return (struct sqlite_place *)attempt->place.bytes;
}

/* Which claim a row is. */
static inline struct identity
rows_identity(struct os_inode database, struct beacon beacon)
{
    return (struct identity){
        .place = {database.device, database.number},
        .claim = {beacon.file, beacon.byte},
    };
}

static inline struct beacon
rows_beacon(struct identity identity)
{
    return (struct beacon){identity.claim[0], identity.claim[1]};
}

/* For the report, and as the outcome to return. error: what database.h says of a statement, or
 * what the system says. */
enum outcome rows_failed(struct attempt *attempt, int error, const char *doing);

/* FOUND: there is a row; FREE, HELD, FAILED, WAITING. */
enum outcome rows_find(struct attempt *attempt, struct spot *spot, struct row *row);

/* After a statement: is a busy database asked again, in a moment? Then the step returns WAITING.
 * patience: of whom; 0: of who may wait for the lock, or of who would rather not. */
bool rows_ask_again(struct attempt *attempt, int error, int64_t patience);

/* A statement has failed. Whoever may wait asks again later: HELD; else FAILED. */
enum outcome rows_cannot_ask(struct attempt *attempt, int error, const char *doing);

/* Removes the row with that beacon; is_shared: of one who shares the lock. As a statement. */
int rows_remove(struct attempt *attempt, const struct spot *spot, struct beacon beacon,
                bool is_shared);

/* Rows of others that died together with an owner, which nobody may ever ask for again, are
 * removed; file: of their beacons. */
void rows_sweep(struct attempt *attempt, const struct spot *spot, const struct os_file *file);

#endif
