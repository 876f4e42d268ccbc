/* How the lock file of MkdirFileLock is made.
 *
 * It is made under the owner's own name and then renamed to the lock file's, if that
 * is free: so a lock directory of ours is never seen without its unique file. Where
 * the file system cannot promise to replace nothing (it might swallow an empty
 * directory, which is somebody's plain mkdir lock), the lock file is made by mkdir,
 * and is ours once nothing but our own file is in it. */
#include "mechanisms/files/mkdir.h"
#include "mechanisms/files/readers.h"
#include "mechanisms/files/search.h"
#include "mechanisms/files/shape.h"
#include "mechanisms/files/unique.h"

#include <errno.h>

/* The directory and the unique file in it, both under one name; made is the claim. */
static int
make_directory(const struct unique_want *want, const char *name, void *made)
{
    struct files_claim *claim = made;
    return os_make_directory(want->directory, name, &claim->inside);
}

/* What is refused or vanishes meanwhile is another's to remove. */
static void
unmake(const struct unique_want *want, const char *name, struct files_claim *claim, int error)
{
    os_close(&claim->claim.beacon);
    claim->is_lit_shared = false;
    if (!os_is_refused(error) && error != ENOENT && error != EEXIST) {
        os_unlink(&claim->inside, name);
        os_remove_directory(want->directory, name);
    }
    os_close(&claim->inside);
}

static int
light_inside(const struct unique_want *want, const char *name, void *made)
{
    struct files_claim *claim = made;
    const struct os_file *inside = &claim->inside;
    int error = os_create_inside(inside, name, &claim->claim.beacon);
    if (error == 0) {
        error = readers_light(claim, inside, want->ground, name, os_open_inside);
    }
    if (error == 0) {
        error = entry_check(want->directory, name, inside->inode);
    }
    if (error != 0) {
        unmake(want, name, claim, error);
    }
    return error;
}

static const struct unique_kind unique_directory = {.make = make_directory, .light = light_inside};

static struct unique_want
want_in(struct attempt *attempt, const struct os_file *directory)
{
    return (struct unique_want){directory,       attempt->lock->host, attempt->owner,
                                attempt->ground, attempt->lock->file, NULL};
}

static int
check_published(struct attempt *attempt, const struct files_claim *claim)
{
    return entry_check_afresh(&place_of(attempt)->directory, claim->claim.file, claim->inode,
                              attempt->ground.local);
}

/* Believes the directory rather than the answer, as for a link. */
static int
publish(struct attempt *attempt, const struct files_claim *claim)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    int refused = os_rename(directory, claim->claim.unique_name, claim->claim.file);
    if (refused == 0) {
        return 0;
    }
    int error = check_published(attempt, claim);
    return error == ENOENT ? refused : error;
}

static void
withdraw(struct attempt *attempt, struct files_claim *claim)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    struct claim *base = &claim->claim;
    if (check_published(attempt, claim) == ENOENT &&
        entry_check(directory, base->unique_name, claim->inode) == 0) {
        entry_remove(&claim->inside, base->unique_name, base->beacon.inode);
        os_close(&base->beacon); /* a network client keeps what is open under another name */
        os_remove_directory(directory, base->unique_name);
    }
    place_drop(claim);
}

/* ---- Claim, where a rename cannot promise to replace nothing ---- */

/* Nothing in the lock file but our own unique file? By its name: what we have open
 * may have been removed, and a removed directory lists as empty. The error says that it
 * could not be looked at for want of something. */
static bool
is_all_ours(const struct os_file *directory, const struct files_claim *claim, int *error)
{
    struct os_file inside;
    struct os_status status;
    char name[NAME_SIZE];
    const struct claim *base = &claim->claim;
    int refused = os_open(directory, base->file, OS_READ, &inside, &status);
    bool ours = false;
    if (refused == 0) {
        refused = search_inside(&inside, name);
        ours = os_same(status.inode, claim->inode) && refused == 0 &&
               entry_check(&inside, base->unique_name, base->beacon.inode) == 0;
        os_close(&inside);
    }
    *error = os_is_exhausted(refused) ? refused : 0;
    return ours;
}

static enum outcome
go_on_backing_off(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    struct files_claim *claim = place->backing_off;
    int failed = place->backs_off_for;
    int error = mkdir_remove_emptied(&place->directory, claim->claim.file, &claim->inside);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    place->backing_off = NULL;
    place_drop(claim);
    attempt->report.reason = unique_explain(failed);
    judge_failed(&attempt->report, failed, "create the unique file");
    return failed == 0 || failed == ENOENT || failed == EEXIST ? LOCK_HELD : LOCK_FAILED;
}

void
mkdir_end_backing_off(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    struct files_claim *claim = place->backing_off;
    if (claim != NULL) {
        mkdir_remove_emptied(&place->directory, claim->claim.file, &claim->inside);
        place->backing_off = NULL;
        place_drop(claim);
    }
}

static enum outcome
back_off(struct attempt *attempt, struct files_claim *claim, int error)
{
    struct files_place *place = place_of(attempt);
    struct claim *base = &claim->claim;
    if (!os_is_none(&base->beacon)) {
        entry_remove(&claim->inside, base->unique_name, base->beacon.inode);
    }
    os_close(&base->beacon);
    place->backing_off = claim;
    place->backs_off_for = error;
    return go_on_backing_off(attempt);
}

static enum outcome
refuse_claim(struct attempt *attempt, int error, const char *doing)
{
    judge_failed(&attempt->report, error, doing);
    return error == EEXIST ? LOCK_HELD : error == ENOENT ? LOCK_FREE : LOCK_FAILED;
}

static enum outcome
claim_in_place(struct attempt *attempt, struct files_claim *claim)
{
    struct claim *base = &claim->claim;
    const struct os_file *directory = &place_of(attempt)->directory;
    int error = os_make_directory(directory, base->file, &claim->inside);
    if (error != 0) {
        place_drop(claim);
        return refuse_claim(attempt, error, "make the lock directory");
    }
    struct unique_want want = want_in(attempt, &claim->inside);
    error = unique_make(want, &unique_file, &base->beacon, base->unique_name);
    if (error == 0 && !place_enter(attempt, claim, claim->inside.inode)) {
        error = ECANCELED;
    }
    bool ours = error == 0 && is_all_ours(directory, claim, &error);
    if (ours && base->is_shared && attempt->ground.local) {
        readers_share(claim, claim->reader); /* not earlier: it might have to go again */
    }
    return ours ? place_own(attempt, claim) : back_off(attempt, claim, error);
}

/* ---- Claim, by a rename ---- */

enum outcome
mkdir_claim(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    if (place->backing_off != NULL) {
        return go_on_backing_off(attempt);
    }
    struct files_claim *claim = place_new_claim(attempt, &mkdir_shape);
    if (claim == NULL) {
        return LOCK_FAILED;
    }
    struct unique_want want = want_in(attempt, &place->directory);
    int error = unique_make(want, &unique_directory, claim, claim->claim.unique_name);
    if (error != 0) {
        place_drop(claim);
        attempt->report.reason = unique_explain(error);
        judge_failed(&attempt->report, error, "make the lock directory");
        return error == ENOENT ? LOCK_FREE : LOCK_FAILED;
    }
    error = place_enter(attempt, claim, claim->inside.inode) ? publish(attempt, claim) : ECANCELED;
    if (error == 0) {
        return place_own(attempt, claim);
    }
    withdraw(attempt, claim);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING; /* another program has something in it open */
    }
    if (os_rename_is_unsupported(error)) {
        claim = place_new_claim(attempt, &mkdir_shape);
        return claim != NULL ? claim_in_place(attempt, claim) : LOCK_FAILED;
    }
    return refuse_claim(attempt, error, "rename the lock directory");
}
