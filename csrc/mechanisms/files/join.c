#include "mechanisms/files/join.h"

#include "mechanisms/files/readers.h"
#include "mechanisms/files/search.h"
#include "mechanisms/files/shape.h"

#include <errno.h>
#include <string.h>

/* ---- What is there ---- */

/* A lock file, and the file that has its beacon: the lock file itself, or the one in it. */
struct opened {
    struct os_file inside; /* the lock file, where it is a directory; else none */
    struct os_file beacon;
    struct os_status status; /* the beacon's file's */
    char name[NAME_SIZE];    /* its unique name, where it is in the lock file; else "" */
};

static void
close_opened(struct opened *opened)
{
    os_close(&opened->beacon);
    os_close(&opened->inside);
}

static int
open_inside(struct opened *opened)
{
    int error = search_inside(&opened->inside, opened->name);
    return error != 0
               ? error
               : os_open(&opened->inside, opened->name, OS_READ, &opened->beacon, &opened->status);
}

/* EINVAL: it is nothing that could have a beacon. */
static int
open_lock(const struct os_file *directory, const char *file, struct opened *opened)
{
    *opened = (struct opened){.inside = OS_NO_FILE, .beacon = OS_NO_FILE};
    int error = os_open(directory, file, OS_READ, &opened->beacon, &opened->status);
    if (error == 0 && opened->status.kind == OS_DIRECTORY && os_can_share_directories) {
        opened->inside = opened->beacon;
        opened->beacon = OS_NO_FILE;
        error = open_inside(opened);
    }
    if (error == 0 && opened->status.kind != OS_REGULAR) {
        error = EINVAL;
    }
    if (error != 0) {
        close_opened(opened);
    }
    return error;
}

unsigned
join_list_readers(struct attempt *attempt, struct os_reader readers[], unsigned most)
{
    struct opened opened;
    const struct os_file *directory = &place_of(attempt)->directory;
    if (!attempt->ground.local || open_lock(directory, attempt->lock->file, &opened) != 0) {
        return 0;
    }
    unsigned count = os_list_readers(&opened.beacon, readers, most);
    close_opened(&opened);
    return count;
}

/* ---- Join ---- */

/* The last one to leave removes the lock file, whoever has made it, and what is in it. */
static bool
may_remove(const struct os_file *directory, const struct opened *opened)
{
    struct os_status status;
    if (opened->status.user == os_user()) {
        return true;
    }
    bool may_empty = os_is_none(&opened->inside) || os_may_write(&opened->inside);
    return may_empty && os_status(directory, &status) == 0 &&
           (!status.sticky || status.user == os_user()) && os_may_write(directory);
}

static enum outcome
cannot_open(struct attempt *attempt, int error)
{
    if (error == ENOENT) {
        return LOCK_FREE;
    }
    attempt->report.holder.life = LIFE_UNKNOWN; /* a look tells why */
    return LOCK_HELD;
}

static enum outcome
refuse(struct files_claim *claim, enum outcome outcome)
{
    place_drop(claim);
    return outcome;
}

/* Do the paths still lead to what was opened? Its birth is kept, too. */
static int
check_paths(const struct os_file *directory, struct files_claim *claim)
{
    struct os_identity there;
    const struct claim *base = &claim->claim;
    int error = os_identify(directory, base->file, &there);
    if (error != 0) {
        return error;
    }
    claim->lock_file_born = there.born;
    bool same = os_same(there.inode, claim->inode);
    return !same ? ENOENT
           : os_is_none(&claim->inside)
               ? 0
               : entry_check(&claim->inside, base->unique_name, base->beacon.inode);
}

/* Opens the beacon's file once more, so that the claim's end is an event for those who wait: the
 * closing of what could write. Who only looks, and then goes away, must make none. Another user's
 * file may only be read: then there is no event. */
static int
open_to_own(const struct os_file *directory, struct files_claim *claim)
{
    struct os_file file;
    struct os_status status;
    struct claim *base = &claim->claim;
    bool is_inside = !os_is_none(&claim->inside);
    int error = readers_open(is_inside ? &claim->inside : directory,
                             is_inside ? base->unique_name : base->file, OS_WRITE, &file, &status);
    if (error != 0) {
        return os_is_forbidden(error) ? 0 : error;
    }
    error = os_same(status.inode, base->beacon.inode) ? os_flock(&file, OS_SHARED) : ENOENT;
    if (error != 0) {
        os_close(&file);
        return error;
    }
    struct os_file looked_at = base->beacon;
    table_replace(&base->beacon, file);
    os_flock(&looked_at, OS_UNLOCK);
    os_close(&looked_at);
    return 0;
}

/* It is in the table, and has the beacon; so those stay whose mark was seen. */
static enum outcome
join(struct attempt *attempt, struct files_claim *claim)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    struct os_file *beacon = &claim->claim.beacon;
    int error = open_to_own(directory, claim);
    if (error == 0) {
        error = readers_join(beacon, place_marked(claim), claim->reader);
    }
    if (error == 0) {
        error = check_paths(directory, claim);
    }
    if (error == 0) {
        claim->is_lit_shared = true;
        return place_own(attempt, claim);
    }
    os_unmark_reader(beacon);
    os_flock(beacon, OS_UNLOCK);
    if (error == ENOENT) { /* broken meanwhile; or made anew */
        return refuse(claim, LOCK_FREE);
    }
    if (os_is_refused(error)) {
        wait_hurry(&attempt->wait); /* another is about to break it */
        return refuse(claim, LOCK_HELD);
    }
    judge_failed(&attempt->report, error, "share the lock file");
    return refuse(claim, LOCK_FAILED);
}

/* Takes over what was opened. */
static struct files_claim *
claim_opened(struct attempt *attempt, struct opened *opened)
{
    bool has_inside = !os_is_none(&opened->inside);
    struct files_claim *claim = place_new_claim(attempt, has_inside ? &mkdir_shape : &link_shape);
    if (claim == NULL) {
        close_opened(opened);
        return NULL;
    }
    struct claim *base = &claim->claim;
    base->beacon = opened->beacon;
    base->has_joined = true;
    memcpy(base->unique_name, opened->name, NAME_SIZE);
    claim->inside = opened->inside;
    claim->inode = has_inside ? opened->inside.inode : opened->beacon.inode;
    return claim;
}

static bool
gives_way(struct attempt *attempt, const struct opened *opened)
{
    const struct os_file *marked = os_is_none(&opened->inside) ? &opened->beacon : &opened->inside;
    attempt->has_given_way = attempt->gives_way && os_has_waiters(marked, OS_FILE_QUEUE, 1);
    return attempt->has_given_way;
}

/* The last reader on its way out has the beacon alone, and its mark still: that takes some
 * microseconds. */
#define PASSING_TIME OS_MILLISECOND
#define PASSING_PAUSE (OS_MILLISECOND / 50)

static enum outcome
meet_one_alone(struct attempt *attempt, const struct os_file *beacon)
{
    if (os_is_refused(os_find_reader(beacon)) &&
        attempt_is_patient(attempt, PASSING_TIME, PASSING_PAUSE)) {
        return LOCK_WAITING;
    }
    wait_hurry(&attempt->wait); /* whoever it is may be just about to remove it */
    return LOCK_HELD;
}

static enum outcome
refuse_to_join(struct attempt *attempt)
{
    attempt->cannot_join = true;
    return judge_held(attempt, LIFE_ALIVE,
                      "it is another user's, and this one could not remove it in the end");
}

/* FOUND: its beacon is ours as well; HELD, WAITING. */
static enum outcome
judge(struct attempt *attempt, const struct opened *opened)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    attempt->cannot_join = false;
    if (!may_remove(directory, opened)) {
        return refuse_to_join(attempt);
    }
    if (gives_way(attempt, opened)) {
        return judge_held(attempt, LIFE_ALIVE, "others wait to have it alone, and come first");
    }
    if (readers_look(&opened->beacon) != 0) {
        return meet_one_alone(attempt, &opened->beacon);
    }
    if (!os_may_unlink(directory, attempt->lock->file)) { /* at last, since asking is to open it */
        os_flock(&opened->beacon, OS_UNLOCK);
        return refuse_to_join(attempt);
    }
    return LOCK_FOUND;
}

enum outcome
join_readers(struct attempt *attempt)
{
    struct opened opened;
    if (!attempt->ground.local) {
        return LOCK_FREE; /* nobody shares there: it is claimed, or waited for */
    }
    int error = open_lock(&place_of(attempt)->directory, attempt->lock->file, &opened);
    if (error != 0) {
        return cannot_open(attempt, error);
    }
    enum outcome outcome = judge(attempt, &opened);
    if (outcome != LOCK_FOUND) {
        close_opened(&opened);
        return outcome;
    }
    struct files_claim *claim = claim_opened(attempt, &opened);
    if (claim == NULL) {
        return LOCK_FAILED;
    }
    enum table_entry entry = place_join(attempt, claim);
    if (entry == TABLE_ENTERED) {
        return join(attempt, claim);
    }
    os_flock(&claim->claim.beacon, OS_UNLOCK);
    attempt->found = claim->claim.identity;
    judge_failed(&attempt->report, ECANCELED, "share the lock file"); /* at the process's end */
    return refuse(claim, entry == TABLE_KNOWN ? LOCK_FOUND : LOCK_FAILED);
}
