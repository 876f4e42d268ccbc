/* The lock file of PIDLockFile: a PID file, which says who owns it. A hard link to the unique file,
 * as that of LinkFileLock; but others write and remove such files, too. */
#include "mechanisms/files/beside.h"
#include "mechanisms/files/contents.h"
#include "mechanisms/files/family.h"
#include "mechanisms/files/link.h"
#include "mechanisms/files/search.h"

#include <errno.h>

/* ---- Claim ---- */

static int
make_file(const struct unique_want *want, const char *name, void *made)
{
    return unique_file.make(want, name, made);
}

static int
write_process(const struct unique_want *want, const struct os_file *beacon)
{
    (void)want;
    int error = contents_write_process(beacon);
    if (error == 0) {
        /* The stamp is taken away: what is in it says as well whose it is. Refused, it keeps it. */
        os_set_mode(beacon, CONTENTS_PROCESS_MODE);
    }
    return error;
}

static int
light_file(const struct unique_want *want, const char *name, void *made)
{
    return beside_light_and_write(want, name, made, write_process);
}

enum outcome
pid_claim(struct attempt *attempt)
{
    static const struct unique_kind pid_file = {.make = make_file, .light = light_file};
    static const struct beside beside = {&pid_shape,      &pid_file,    link_publish,
                                         link_publishing, link_refused, false};
    return beside_claim(attempt, &beside);
}

/* ---- Judge ---- */

/* Does it still hold what the owner of its unique name has written? */
static bool
is_as_written(const struct files_place *place, int64_t process)
{
    struct name name;
    return proof_read_name(place->found_name, &name) && name.process == process;
}

/* A beacon proves something of a file that holds what its owner has written. outcome: what it says
 * then. */
static enum outcome
judge_contents(struct attempt *attempt, enum outcome outcome, int64_t process)
{
    enum life life = attempt->report.holder.life;
    enum outcome found = link_find_name(attempt, process);
    if (found == LOCK_FOUND && is_as_written(place_of(attempt), process)) {
        return outcome == LOCK_STALE ? link_judge_dark(attempt) : judge_held(attempt, life, NULL);
    }
    if (found == LOCK_FOUND) {
        found = judge_held(attempt, life, "something else than its owner has written it");
    }
    attempt->report.mine = found == LOCK_HELD && process == os_process();
    return found;
}

static enum outcome
pid_judge(struct attempt *attempt)
{
    const struct files_place *place = place_of(attempt);
    int64_t process = 0;
    enum outcome outcome = place_look_at_beacon(attempt, &place->found);
    int error = contents_read_process(&place->found, &process);
    if (error != 0 && error != ENOENT) {
        return judge_failed(&attempt->report, error, "read the PID file");
    }
    bool is_mine = outcome == LOCK_HELD && process == os_process();
    return outcome == LOCK_STALE || is_mine ? judge_contents(attempt, outcome, process) : outcome;
}

/* ---- Break ---- */

/* Something else may have written it since it was judged. */
static int
pid_take_beacon(struct attempt *attempt, struct os_file **beacon)
{
    int64_t process = 0;
    int error = link_take_beacon(attempt, beacon);
    if (error != 0) {
        return error;
    }
    error = contents_read_process(*beacon, &process);
    if (error == 0 && !is_as_written(place_of(attempt), process)) {
        error = ENOENT;
    }
    if (error != 0) {
        os_flock(*beacon, OS_UNLOCK);
    }
    return error;
}

/* ---- Own ---- */

/* Does it hold what one of the others has written that have the claim, too? It may change
 * meanwhile, from what one of its names says to what another says. ENOENT: it does not. */
static int
check_inherited(const struct files_claim *claim, int64_t process)
{
    char found[NAME_SIZE];
    struct name name;
    int64_t before;
    const struct claim *base = &claim->claim;
    int error;
    do {
        before = process;
        error =
            search_unique_name(&claim->directory, base->file, base->beacon.inode, process, found);
        if (error == 0 && !(proof_read_name(found, &name) && name.process == process)) {
            error = ENOENT;
        }
    } while (error == ENOENT && contents_read_process(&base->beacon, &process) == 0 &&
             process != before);
    return error;
}

/* Ours is what says so, too. */
static int
pid_mend(struct files_claim *claim)
{
    int64_t process = 0;
    int error = beside_mend(claim);
    if (error == 0) {
        error = contents_read_process(&claim->claim.beacon, &process);
    }
    if (error != 0 || process == os_process()) {
        return error;
    }
    claim->claim.is_misnamed = true;
    return claim->has_heirs ? check_inherited(claim, process) : ENOENT;
}

/* Both names are there while what it holds changes, so it always holds what one of them says. And
 * it has the stamp meanwhile, by which a name that is left is swept. */
static void
write_heir(struct files_claim *claim)
{
    char name[NAME_SIZE];
    struct os_status status;
    const struct os_file *file = &claim->claim.beacon;
    if (os_status(file, &status) != 0) {
        return;
    }
    os_stamp(file, &status);
    if (link_add_name(claim, name)) {
        if (contents_replace_process(file) == 0) {
            link_replace_name(claim, name);
        } else {
            entry_remove(&claim->directory, name, file->inode);
        }
    }
    os_set_mode(file, status.mode);
}

static void
pid_adopt(struct files_claim *claim)
{
    struct os_file turn;
    if (family_begin_naming(claim, &turn)) {
        write_heir(claim);
        family_end_naming(&turn);
    }
}

/* ---- break_lock() ---- */

/* Removed as well if its owner is dead. If not, it gets the stamp: what was written over would not
 * be swept without it, once that one is dead. */
static void
remove_unique(const struct os_file *directory, const char *file, const struct os_file *found,
              const struct os_status *status)
{
    char name[NAME_SIZE];
    if (search_unique_name(directory, file, found->inode, SEARCH_ANY_PROCESS, name) != 0) {
        return; /* a file of somebody's that has more names */
    }
    if (os_flock(found, OS_EXCLUSIVE) == 0) {
        entry_remove_dead(directory, name, found->inode);
        os_flock(found, OS_UNLOCK);
    } else {
        os_stamp(found, status);
    }
}

static int
pid_condemn(const struct os_file *directory, const char *file, struct os_file *emptied)
{
    (void)emptied;
    struct os_file found;
    struct os_status status;
    bool is_open = os_open(directory, file, OS_READ, &found, &status) == 0;
    int error = os_unlink(directory, file);
    if (error == 0 && is_open && status.kind == OS_REGULAR && status.links > 1) {
        remove_unique(directory, file, &found, &status);
    }
    if (is_open) {
        os_close(&found);
    }
    return error;
}

const struct shape pid_shape = {
    .check = beside_check,
    .judge = pid_judge,
    .take_beacon = pid_take_beacon,
    .remove = beside_remove,
    .mend = pid_mend,
    .adopt = pid_adopt,
    .condemn = pid_condemn,
};
