#include "mechanisms/sqlite/claims.h"

#include "core/mechanism.h"
#include "mechanisms/sqlite/group.h"

#include <errno.h>
#include <stdlib.h>

#define LIGHT_ATTEMPTS 10

/* A claim of this mechanism; its note is what the row is called. */
struct row_claim {
    struct claim claim;
    bool local; /* the file system of its beacon is: waiters leave marks */
};

static struct row_claim *
row_claim_of(struct claim *claim)
{
    return (struct row_claim *)claim;
}

struct claim *
claims_new(struct attempt *attempt, const struct spot *spot)
{
    const struct lock *lock = attempt->lock;
    return table_new(sizeof(struct row_claim), lock->mechanism, attempt->owner, lock_name(lock),
                     spot->row);
}

/* ---- Lighting ---- */

static int
light(const struct os_file *file, struct beacon *beacon)
{
    int error = EWOULDBLOCK;
    for (int i = 0; os_is_refused(error) && i < LIGHT_ATTEMPTS; i++) {
        error = beacon_light(file, beacon);
    }
    return error;
}

/* Closes nothing: the beacon's file is this process's for all claims. */
static void
drop_dark(struct claim *claim)
{
    beacon_leave(&claim->beacon);
    table_replace(&claim->beacon, OS_NO_FILE);
    table_remove(claim);
    free(claim);
}

void
claims_drop(struct claim *claim)
{
    if (os_is_open(&claim->beacon)) {
        beacon_darken(&claim->beacon, rows_beacon(claim->identity));
    }
    drop_dark(claim);
}

/* Makes their file if need be, but none beside a database that cannot be ours. */
static int
share_beacons(struct attempt *attempt, const struct spot *spot, struct os_file *file)
{
    unsigned mode = spot->place.mode;
    int error = beacon_share(spot->beacons, mode, false, file, &attempt->ground);
    if (error == ENOENT) {
        error = database_recognise(&place_of(attempt)->request, spot->place);
        if (error == 0) {
            error = beacon_share(spot->beacons, mode, true, file, &attempt->ground);
        }
    }
    return error;
}

int
claims_light(struct attempt *attempt, const struct spot *spot, struct claim *claim)
{
    struct beacon beacon;
    int error = share_beacons(attempt, spot, &claim->beacon);
    if (error != 0) {
        return error;
    }
    error = light(&claim->beacon, &beacon);
    if (error == 0 && !attempt->ground.local && beacon_is_vain(spot->beacons, beacon)) {
        beacon_darken(&claim->beacon, beacon);
        error = EOPNOTSUPP; /* it is granted to everybody, and proves nothing */
    }
    if (os_flock_is_unsupported(error) && !attempt->ground.local) {
        attempt->ground.kernel = 0; /* no beacon, so no .K that would promise one */
        beacon = (struct beacon){0, os_random() >> 2};
        error = 0;
    }
    if (error != 0) {
        beacon_leave(&claim->beacon);
        claim->beacon = OS_NO_FILE;
        return error;
    }
    row_claim_of(claim)->local = attempt->ground.local;
    claim->identity = rows_identity(spot->place.inode, beacon);
    proof_write_name(claim->unique_name, attempt->lock->host, attempt->owner, attempt->ground, 0);
    return 0;
}

/* ---- Finding again ---- */

/* Programs close descriptors behind our back. ENOENT: the file is another by now. */
static int
relight(const struct spot *spot, struct claim *claim)
{
    struct os_file file;
    struct ground ground;
    struct beacon beacon = rows_beacon(claim->identity);
    if (beacon.file == 0 || os_is_open(&claim->beacon)) {
        return 0;
    }
    int error = beacon_share(spot->beacons, spot->place.mode, true, &file, &ground);
    if (error != 0) {
        return error;
    }
    error = file.inode.number != beacon.file ? ENOENT : beacon_take(&file, beacon);
    if (error != 0) {
        beacon_leave(&file);
        return error;
    }
    beacon_leave(&claim->beacon);
    table_replace(&claim->beacon, file);
    return 0;
}

int
claims_find(struct attempt *attempt, struct spot *spot, struct claim *claim)
{
    int error = spot_find(spot, attempt->lock);
    if (error != 0) {
        return os_is_absent(error) ? ENOENT : error;
    }
    struct os_inode inode = spot->place.inode;
    if (inode.device != claim->identity.place[0] || inode.number != claim->identity.place[1]) {
        return ENOENT;
    }
    spot->place.row = claim->note;
    return relight(spot, claim);
}

/* ---- Releasing ---- */

bool
claims_have_proof(struct claim *claim)
{
    return row_claim_of(claim)->local && rows_beacon(claim->identity).file != 0 &&
           os_is_open(&claim->beacon);
}

/* Of those who share it, only the last one makes room; but none knows that it is the last. Those
 * who would share what somebody has alone wait in a queue of their own. */
static bool
has_waiters_for(const struct claim *claim, const struct os_file *file)
{
    return claim->is_shared ? os_has_waiters(file, group_queue(claim->note), 1)
                            : os_has_waiters(file, beacon_queue(rows_beacon(claim->identity)), 2);
}

void
claims_tell_shared(struct claim *claim)
{
    bool is_awaited = row_claim_of(claim)->local && has_waiters_for(claim, &claim->beacon);
    table_share(claim);
    if (is_awaited) {
        os_touch(&claim->beacon); /* whoever it wakes up asks the table first */
    }
}

enum outcome
claims_end_release(struct claim *claim, bool *has_waiters)
{
    struct os_file file = claim->beacon;
    struct beacon beacon = rows_beacon(claim->identity);
    beacon_darken(&file, beacon);
    *has_waiters = row_claim_of(claim)->local && has_waiters_for(claim, &file);
    if (*has_waiters) {
        os_touch(&file);
    }
    drop_dark(claim);
    return LOCK_RELEASED;
}
