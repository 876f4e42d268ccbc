/* The lock file of SymlinkLockFile: a symbolic link to the name of the owner's unique file, which
 * says for which lock file it was made. symlink() makes it or refuses. */
#include "mechanisms/files/beside.h"
#include "mechanisms/files/contents.h"
#include "mechanisms/files/target.h"

#include <errno.h>
#include <string.h>

/* ---- Claim ---- */

static int
make_file(const struct unique_want *want, const char *name, void *made)
{
    return unique_file.make(want, name, made);
}

static int
write_lock_file(const struct unique_want *want, const struct os_file *beacon)
{
    return contents_write_lock_file(beacon, want->file);
}

static int
light_file(const struct unique_want *want, const char *name, void *made)
{
    return beside_light_and_write(want, name, made, write_lock_file);
}

/* A network server may say that it has done what it has not. */
static int
publish(struct attempt *attempt, const struct files_claim *claim)
{
    const struct os_file *directory = &place_of(attempt)->directory;
    const struct claim *base = &claim->claim;
    int error = os_link_text(directory, base->unique_name, base->file);
    if (error == 0 && !attempt->ground.local) {
        error = target_check(directory, base->file, base->beacon.inode, base->unique_name, false);
        error = error == ENOENT ? EEXIST : error;
    }
    return error;
}

enum outcome
symlink_claim(struct attempt *attempt)
{
    static const struct unique_kind target = {.make = make_file, .light = light_file};
    static const struct beside beside = {
        &symlink_shape,
        &target,
        publish,
        "link to the unique file",
        "symbolic links are refused here; MkdirFileLock needs none",
        false};
    return beside_claim(attempt, &beside);
}

/* ---- Judge ---- */

/* Was the unique file made for this lock file? Else it is another lock's. */
static bool
is_made_for(const struct os_file *unique, const char *file)
{
    char made_for[CONTENTS_SIZE];
    return contents_read_lock_file(unique, made_for) && strcmp(made_for, file) == 0;
}

static enum outcome
symlink_judge(struct attempt *attempt)
{
    const struct files_place *place = place_of(attempt);
    enum outcome outcome = place_look_at_beacon(attempt, &place->found);
    if (outcome != LOCK_STALE) {
        return outcome;
    }
    return is_made_for(&place->found, attempt->lock->file)
               ? judge_by_name(attempt, place->found_name)
               : judge_held(attempt, LIFE_UNKNOWN,
                            "its lock file is a symbolic link, made by no "
                            "lock");
}

/* ---- Break ---- */

static int
symlink_take_beacon(struct attempt *attempt, struct os_file **beacon)
{
    const char *const names[] = {place_of(attempt)->found_name, NULL};
    return beside_take_beacon(attempt, names, beacon);
}

/* What says that it is this lock file's holds nothing else: it is removed, though others might have
 * written it, as they may on a file system without modes. */
static int
symlink_remove(const struct os_file *directory, const char *file, const struct os_file *inside,
               const char *unique_name, struct os_file *beacon, entry_remover *remove_unique,
               bool *freed)
{
    bool is_whole = remove_unique == entry_remove_dead && is_made_for(beacon, file);
    return beside_remove(directory, file, inside, unique_name, beacon,
                         is_whole ? entry_remove : remove_unique, freed);
}

/* The unique file, too, since its removal is what waiters are told of. */
static int
symlink_condemn(const struct os_file *directory, const char *file, struct os_file *emptied)
{
    (void)emptied;
    struct os_file unique;
    struct os_status status;
    char name[NAME_SIZE];
    bool ours = target_open(directory, file, &unique, &status, name) == 0;
    int error = os_unlink(directory, file);
    if (ours && error == 0 && is_made_for(&unique, file)) {
        entry_remove(directory, name, unique.inode);
    }
    if (ours) {
        os_close(&unique);
    }
    return error;
}

const struct shape symlink_shape = {
    .check = target_check,
    .judge = symlink_judge,
    .take_beacon = symlink_take_beacon,
    .remove = symlink_remove,
    .mend = beside_mend,
    .condemn = symlink_condemn,
};
