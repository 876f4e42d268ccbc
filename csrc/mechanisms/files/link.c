/* The lock file of LinkFileLock: a hard link to the owner's unique file. link()
 * makes it or refuses, on every file system that has hard links, network ones
 * included. */
#include "mechanisms/files/link.h"

#include "mechanisms/files/beside.h"
#include "mechanisms/files/family.h"
#include "mechanisms/files/search.h"

#include <errno.h>

/* ---- Claim ---- */

/* Some FUSE file systems number hard links apart: there nobody could ever tell
 * whose a lock file is. Nobody breaks it meanwhile, so it is what we have made. */
static int
unpublish_if_numbered_apart(struct attempt *attempt, const struct files_claim *claim)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    struct os_identity lock_file, unique;
    int error = entry_check_afresh(directory, claim->claim.file, claim->claim.beacon.inode, false);
    if (error != ENOENT) {
        return error; /* not seen is not numbered apart */
    }
    if (os_identify(directory, claim->claim.file, &lock_file) != 0 ||
        os_identify(directory, claim->claim.unique_name, &unique) != 0 ||
        lock_file.born != unique.born) {
        return EEXIST;
    }
    os_unlink(directory, claim->claim.file);
    return EOPNOTSUPP;
}

/* Links are never counted: a backup that makes one of its own would make the count lie. */
int
link_publish(struct attempt *attempt, const struct files_claim *claim)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    if (attempt->ground.local) {
        return os_link(directory, claim->claim.unique_name, claim->claim.file);
    }
    int error = os_link(directory, claim->claim.unique_name, claim->claim.file);
    return error != 0 ? error : unpublish_if_numbered_apart(attempt, claim);
}

const char link_publishing[] = "link the unique file";
const char link_refused[] = "hard links are refused here; MkdirFileLock needs none";

enum outcome
link_claim(struct attempt *attempt)
{
    static const struct beside beside = {&link_shape,     &unique_file, link_publish,
                                         link_publishing, link_refused, true};
    return beside_claim(attempt, &beside);
}

/* ---- Judge ---- */

/* Some FUSE file systems give two kernel inodes to two hard links: then a beacon
 * is seen by the name alone that it was taken by. */
static int
look_by_unique_name(const struct files_place *place)
{
    struct os_file file;
    struct os_status status;
    int error = os_open(&place->directory, place->found_name, OS_READ, &file, &status);
    if (error != 0) {
        return error;
    }
    error = os_flock(&file, OS_SHARED);
    os_flock(&file, OS_UNLOCK);
    os_close(&file);
    return error;
}

const char link_not_ours[] = "its lock file was not made by this protocol";

enum outcome
link_find_name(struct attempt *attempt, int64_t process)
{
    struct files_place *place = place_of(attempt);
    struct identity there = place_recognise(attempt);
    if (!identity_is_none(there) && identity_is_same(there, place->foreign)) {
        return judge_held(attempt, LIFE_UNKNOWN, link_not_ours); /* a directory is long to search */
    }
    int error = search_unique_name(&place->directory, attempt->lock->file, place->found.inode,
                                   process, place->found_name);
    if (error == ENOENT) {
        error = entry_check(&place->directory, attempt->lock->file, place->found.inode);
        if (error == ENOENT) {
            return LOCK_FREE; /* released while we searched */
        }
        place->foreign = there;
        return judge_held(attempt, LIFE_UNKNOWN, link_not_ours);
    }
    return error == 0 ? LOCK_FOUND : judge_failed(&attempt->report, error, "list the directory");
}

enum outcome
link_judge_dark(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    int error = attempt->ground.local ? 0 : look_by_unique_name(place);
    if (error != 0) {
        return judge_held(attempt, os_is_refused(error) ? LIFE_ALIVE : LIFE_UNKNOWN, NULL);
    }
    return judge_by_name(attempt, place->found_name);
}

/* The beacon was granted to us, and the unique file's name was chosen: no name says whose it is,
 * but the beacon proves it all the same. */
static bool
is_stale_chosen(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    if (!attempt->ground.local || !unique_is_chosen(&place->found) ||
        search_other_name(&place->directory, attempt->lock->file, place->found.inode,
                          place->found_name) != 0) {
        return false;
    }
    attempt->report.holder.life = LIFE_DEAD;
    return true;
}

static enum outcome
link_judge(struct attempt *attempt)
{
    enum outcome outcome = place_look_at_beacon(attempt, &place_of(attempt)->found);
    if (outcome == LOCK_STALE && !is_stale_chosen(attempt)) {
        outcome = link_find_name(attempt, SEARCH_ANY_PROCESS);
    }
    return outcome == LOCK_FOUND ? link_judge_dark(attempt) : outcome;
}

/* ---- Break ---- */

int
link_take_beacon(struct attempt *attempt, struct os_file **beacon)
{
    const char *const names[] = {attempt->lock->file, place_of(attempt)->found_name, NULL};
    return beside_take_beacon(attempt, names, beacon);
}

/* The unique file as well, if its name was chosen: whoever chooses that name again would wait for
 * its beacon, though there is no lock file any more. */
static int
link_condemn(const struct os_file *directory, const char *file, struct os_file *emptied)
{
    (void)emptied;
    char name[NAME_SIZE];
    struct os_file found;
    struct os_status status;
    bool is_open = os_open(directory, file, OS_READ, &found, &status) == 0;
    int error = os_unlink(directory, file);
    if (error == 0 && is_open && unique_is_chosen(&found) &&
        search_other_name(directory, file, found.inode, name) == 0) {
        entry_remove(directory, name, found.inode);
    }
    if (is_open) {
        os_close(&found);
    }
    return error;
}

/* ---- Inheritance ---- */

/* From the lock file, which has its name for as long as it is the family's. */
bool
link_add_name(struct files_claim *claim, char name[NAME_SIZE])
{
    const struct claim *base = &claim->claim;
    const struct os_file *directory = &claim->directory;
    if (unique_rename(directory, base->file, base->owner, base->file, base->unique_name, os_link,
                      name) != 0) {
        return false;
    }
    bool is_ours = entry_check(directory, name, base->beacon.inode) == 0;
    if (!is_ours) {
        os_unlink(directory, name); /* it was another's by then, which we have just linked */
    }
    return is_ours;
}

/* Elsewhere several may be at it at once: each removes no name that it has not known before. */
void
link_replace_name(struct files_claim *claim, const char *name)
{
    struct claim *base = &claim->claim;
    if (claim->local) {
        family_remove_names(&claim->directory, base->file, base->beacon.inode, name, entry_remove);
    } else {
        entry_remove(&claim->directory, base->unique_name, base->beacon.inode);
    }
    table_rename(base, name);
}

static void
link_adopt(struct files_claim *claim)
{
    char name[NAME_SIZE];
    struct os_file turn;
    if (!family_begin_naming(claim, &turn)) {
        return;
    }
    if (link_add_name(claim, name)) {
        link_replace_name(claim, name);
    }
    family_end_naming(&turn);
}

const struct shape link_shape = {
    .check = beside_check,
    .judge = link_judge,
    .take_beacon = link_take_beacon,
    .remove = beside_remove,
    .mend = beside_mend,
    .adopt = link_adopt,
    .condemn = link_condemn,
};
