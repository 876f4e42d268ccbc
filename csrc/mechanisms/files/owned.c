#include "mechanisms/files/owned.h"

#include "mechanisms/files/family.h"
#include "mechanisms/files/readers.h"
#include "mechanisms/files/removals.h"
#include "mechanisms/files/search.h"
#include "mechanisms/files/shape.h"
#include "mechanisms/files/unique.h"

#include <errno.h>
#include <string.h>

/* ---- Those that keep it together ---- */

static const struct os_file *
unique_files_directory(const struct files_claim *claim)
{
    return os_is_none(&claim->inside) ? &claim->directory : &claim->inside;
}

static int
share(struct files_claim *claim, bool inheritable)
{
    int error = os_keep_in_program(&claim->claim.beacon, inheritable);
    if (error == 0) {
        place_share(claim, inheritable);
    }
    return error;
}

/* Where kernel locks show nothing, nobody could tell who of those that keep it is the last. */
int
owned_share(struct claim *base, bool inheritable)
{
    struct name name;
    struct os_identity unique;
    struct files_claim *claim = files_claim_of(base);
    if (!inheritable || base->is_inheritable) {
        return share(claim, inheritable);
    }
    if (proof_read_name(base->unique_name, &name) && name.kernel == PROOF_NO_KERNEL) {
        return ENOLCK;
    }
    int error = os_identify(unique_files_directory(claim), base->unique_name, &unique);
    if (error == 0) {
        error = unique_spend_names(&claim->directory);
    }
    if (error != 0) {
        return error;
    }
    bool had_heirs = claim->has_heirs;
    claim->born = unique.born;
    claim->has_heirs = true; /* before any child may have it */
    error = share(claim, true);
    if (error != 0) {
        claim->has_heirs = had_heirs;
    }
    return error;
}

/* ---- Removals ---- */

/* Keeps off break_lock(); and, without a beacon that is ours, whoever may prove us dead. EAGAIN:
 * one is at work. */
static int
exclude_removals(const struct files_claim *claim, const struct os_file *directory)
{
    bool marked;
    int error = removals_exclude(directory, claim->local, &marked);
    if (error == 0 && marked && (error = removals_find(directory)) != 0) {
        removals_admit(directory, claim->local);
    }
    return error;
}

static int
keep_off(const struct files_claim *claim, const struct os_file *directory)
{
    return claim->is_lit_by_others ? exclude_removals(claim, directory)
                                   : removals_begin(directory, claim->local);
}

/* Said outright: a fork may have copied the descriptor. Closed, it was a parent's, whose other
 * thread was at it during the fork. */
void
owned_end_turn(struct files_claim *claim)
{
    if (os_is_open(&claim->turn)) {
        removals_end(&claim->turn, claim->local);
        removals_admit(&claim->turn, claim->local);
        os_unmark(&claim->turn, OS_HEIR);
        os_close(&claim->turn);
    }
    claim->turn = OS_NO_FILE;
}

/* Of those who keep a lock each may release it, and claim it anew at once: then another, which has
 * looked before, would remove the new one. So they take turns. They have the same open files, whose
 * marks do not exclude each other, and are taken back by any of them: so the directory is opened
 * anew. Without marks its flock keeps off all others, too. */
static int
take_turn(struct files_claim *claim)
{
    struct os_status status;
    int error = os_open(&claim->directory, ".", OS_READ, &claim->turn, &status);
    if (error != 0) {
        return error;
    }
    bool marks = claim->local && os_mark(&claim->turn, OS_HEIR) == 0;
    error = marks ? os_find_mark(&claim->turn, OS_HEIR) : os_flock(&claim->turn, OS_EXCLUSIVE);
    bool keeps_off_all = !marks && error == 0;
    if (!marks && os_flock_is_unsupported(error)) {
        error = 0;
    }
    if (error == 0 && !keeps_off_all) {
        error = keep_off(claim, &claim->turn);
    }
    if (error != 0) {
        owned_end_turn(claim);
    }
    return error;
}

int
owned_begin_removing(struct files_claim *claim)
{
    return claim->has_heirs ? take_turn(claim) : keep_off(claim, &claim->directory);
}

void
owned_end_removing(struct files_claim *claim)
{
    if (claim->has_heirs) {
        owned_end_turn(claim);
    } else if (claim->is_lit_by_others) {
        removals_admit(&claim->directory, claim->local);
    } else {
        removals_end(&claim->directory, claim->local);
    }
}

/* ---- Mend and confirm ---- */

/* Programs close descriptors behind our back (daemons close all). ENOENT: what they
 * stood for is not there any more. */
int
owned_mend(struct files_claim *claim)
{
    int error = os_is_open(&claim->directory) ? 0 : place_reopen(claim);
    if (error == 0) {
        error = claim->shape->mend(claim);
    }
    if (error == 0 && claim->claim.is_inheritable) {
        share(claim, true); /* those that were opened anew */
    }
    return error;
}

/* The open file is shared with those who keep the lock: closed here, its beacon is granted to
 * another open file only if nobody else has it open. */
bool
owned_is_last(struct claim *base)
{
    struct os_file beacon;
    struct files_claim *claim = files_claim_of(base);
    if (owned_mend(claim) != 0 ||
        place_open_beacon(claim, unique_files_directory(claim), &beacon) != 0) {
        return false;
    }
    os_close(&base->beacon);
    table_replace(&base->beacon, beacon);
    return unique_take_beacon(&base->beacon) == 0;
}

int
owned_check(const struct files_claim *claim)
{
    return claim->shape->check(&claim->directory, claim->claim.file, claim->inode,
                               claim->claim.unique_name, claim->local);
}

/* Whoever of those who keep it calls, is named: so that a name tells of one that lives, mostly. */
static void
name_owner(struct files_claim *claim)
{
    char name[NAME_SIZE];
    struct claim *base = &claim->claim;
    const struct os_file *directory = unique_files_directory(claim);
    if (!claim->has_heirs || claim->shape->adopt == NULL) {
        return;
    }
    bool is_there = entry_check(directory, base->unique_name, base->beacon.inode) == 0;
    if (base->is_misnamed || !is_there) {
        base->is_misnamed = true;
        claim->shape->adopt(claim);
    }
    /* If it cannot be, or another is at it just now: the name that there is. */
    if (base->is_misnamed && !is_there &&
        search_unique_name(directory, base->file, base->beacon.inode, SEARCH_ANY_PROCESS, name) ==
            0) {
        table_rename(base, name);
        base->is_misnamed = true;
    }
}

enum outcome
owned_confirm(struct attempt *attempt, struct claim *base)
{
    struct files_claim *claim = files_claim_of(base);
    int error = owned_mend(claim);
    if (place_is_patient(attempt, error)) {
        return LOCK_WAITING;
    }
    if (error == 0) {
        error = owned_check(claim);
    }
    if (error == 0) {
        name_owner(claim);
    }
    if (error == 0 && !place_is_there(claim)) {
        return LOCK_FREE;
    }
    return error == 0        ? LOCK_OWNED
           : error == ENOENT ? LOCK_BROKEN
                             : judge_failed(&attempt->report, error, "look at the lock file");
}

/* Those that others of those who keep it have given it. */
void
owned_remove_other_names(const struct files_claim *claim)
{
    const struct claim *base = &claim->claim;
    if (claim->has_heirs && os_is_open(&base->beacon)) {
        family_remove_names(&claim->directory, base->file, base->beacon.inode, NULL, entry_remove);
    }
}

/* Its name, if another than who owns now has made it. ENOENT: it is not there. */
static int
find_unique_name(const struct files_claim *claim, char name[NAME_SIZE])
{
    const struct claim *base = &claim->claim;
    const struct os_file *directory = &claim->directory;
    struct os_inode inode = base->beacon.inode;
    if (!base->has_joined || !os_is_none(&claim->inside)) {
        memcpy(name, base->unique_name, NAME_SIZE);
        return 0;
    }
    int error = search_unique_name(directory, base->file, inode, SEARCH_ANY_PROCESS, name);
    return error != 0 && unique_is_chosen(&base->beacon)
               ? search_other_name(directory, base->file, inode, name)
               : error;
}

void
owned_remove_unique_name(const struct files_claim *claim)
{
    char name[NAME_SIZE];
    if (find_unique_name(claim, name) == 0) {
        entry_remove(&claim->directory, name, claim->claim.beacon.inode);
    }
}

/* Of those who share it, the last one is left alone with it. */
static void
leave_readers(struct files_claim *claim)
{
    const struct os_file *beacon = &claim->claim.beacon;
    if (claim->is_lit_shared && os_is_open(beacon) && readers_leave(beacon) == READERS_LAST) {
        claim->is_lit_shared = false;
    }
}

/* A chosen name may bear another file by the time at which it is removed, if others may remove it:
 * whoever chooses it next finds it dark, and removes it. */
static bool
removes_unique_name(const struct files_claim *claim)
{
    if (claim->has_heirs && unique_is_chosen(&claim->claim.beacon)) {
        return false;
    }
    return !claim->is_lit_shared || !claim->claim.has_joined;
}

/* The lock file is not ours any more: nor shall the unique file be. Of those who have joined, the
 * last one removes it, if the first reader has not done so; it may be about to. */
void
owned_discard(struct claim *base)
{
    struct files_claim *claim = files_claim_of(base);
    leave_readers(claim);
    if (!claim->is_lit_shared) {
        owned_mend(claim);
    }
    if (base->is_shared) {
        unique_spend_names(&claim->directory);
    }
    if (removes_unique_name(claim)) {
        owned_remove_unique_name(claim);
    }
    owned_end_turn(claim);
    owned_remove_other_names(claim);
    place_drop(claim);
}

void
owned_abandon(struct claim *claim)
{
    place_drop(files_claim_of(claim));
}
