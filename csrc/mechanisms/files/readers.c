#include "mechanisms/files/readers.h"

#include <errno.h>

/* The mark first: who finds the beacon granted, looks for it next. */
static int
share(const struct os_file *beacon, struct os_reader reader)
{
    int error = os_mark_reader(beacon, reader);
    if (error == 0 && (error = os_flock(beacon, OS_SHARED)) != 0) {
        os_unmark_reader(beacon);
    }
    return error;
}

int
readers_share(struct files_claim *claim, struct os_reader reader)
{
    int error = share(&claim->claim.beacon, reader);
    claim->is_lit_shared = error == 0;
    claim->reader = reader;
    return error;
}

int
readers_light(struct files_claim *claim, const struct os_file *directory, struct ground ground,
              const char *name, unique_opener *open)
{
    struct os_file *beacon = &claim->claim.beacon;
    bool shares = claim->claim.is_shared && ground.local;
    int error = shares ? share(beacon, claim->reader) : EOPNOTSUPP;
    if (error != 0 && !os_is_refused(error)) { /* refused, it is shared under another name */
        return unique_light(directory, ground, beacon, name, open);
    }
    error = unique_check_lit(directory, beacon, name, error);
    claim->is_lit_shared = error == 0;
    return error;
}

int
readers_open(const struct os_file *directory, const char *name, enum os_access access,
             struct os_file *file, struct os_status *status)
{
    int error = os_open(directory, name, access, file, status);
    bool is_of_another_kind = error == EISDIR || os_is_link(error) || os_is_special(error);
    return is_of_another_kind ? ENOENT : error;
}

static int
open_beacon(const struct os_file *directory, const char *name, struct os_file *file,
            struct os_status *status)
{
    int error = readers_open(directory, name, OS_WRITE, file, status);
    return os_is_forbidden(error) ? readers_open(directory, name, OS_READ, file, status) : error;
}

/* Another's mark, seen while the beacon is ours as well, keeps that reader from closing the lock:
 * as the last one it would need the beacon for itself. */
int
readers_look(const struct os_file *beacon)
{
    int error = os_flock(beacon, OS_SHARED);
    if (error == 0 && !os_is_refused(os_find_reader(beacon))) {
        os_flock(beacon, OS_UNLOCK);
        error = EWOULDBLOCK;
    }
    return error;
}

int
readers_join(const struct os_file *beacon, const struct os_file *marked, struct os_reader reader)
{
    int error = os_mark_reader(beacon, reader);
    if (error == 0) {
        error = os_find_mark(marked, OS_TURN);
    }
    if (error != 0) {
        os_unmark_reader(beacon);
        os_flock(beacon, OS_UNLOCK);
    }
    return error;
}

/* Refused, the kernel has taken away what was shared; and said outright, since a fork may have
 * copied the descriptor. */
enum readers_rest
readers_leave(const struct os_file *beacon)
{
    if (os_flock(beacon, OS_EXCLUSIVE) == 0) {
        return READERS_LAST;
    }
    os_unmark_reader(beacon);
    bool others = os_is_refused(os_may_have_reader(beacon));
    os_flock(beacon, OS_UNLOCK);
    return others ? READERS_OTHERS : READERS_DISTURBED;
}

/* ---- Downgrade ---- */

/* Where others than this kernel use the file system it stays exclusive, though its owner does not
 * mind. */
static int
downgrade(struct attempt *attempt, struct files_claim *claim)
{
    if (!claim->local) {
        return 0;
    }
    return readers_share(claim, lock_reader(attempt->lock->host, claim->claim.owner));
}

static void
tell_downgrade(const struct files_claim *claim)
{
    const struct os_file *marked = place_marked(claim);
    if (claim->is_lit_shared && os_has_waiters(marked, OS_QUEUE_TO_SHARE(OS_FILE_QUEUE), 1)) {
        os_touch_named(&claim->directory, claim->claim.file, marked);
    }
}

enum outcome
readers_downgrade(struct attempt *attempt, struct claim *claim)
{
    int error = EOPNOTSUPP;
    if (files_claim_of(claim)->has_heirs) {
        attempt->report.reason = "child processes may keep it since set_inheritable(True)";
    } else {
        error = downgrade(attempt, files_claim_of(claim));
    }
    if (error != 0) {
        return judge_failed(&attempt->report, error, "share the lock");
    }
    table_share(claim);
    tell_downgrade(files_claim_of(claim)); /* whoever it wakes up asks the table first */
    return LOCK_OWNED;
}

/* ---- Lost descriptors ---- */

/* Nothing pins the number meanwhile. Its unique name is the first reader's alone; for the others,
 * the lock file must have been born when theirs was. */
static int
check_identity(const struct files_claim *claim, struct os_inode inode)
{
    struct os_identity there;
    const struct claim *base = &claim->claim;
    if (!os_same(inode, base->beacon.inode)) {
        return ENOENT;
    }
    int error = base->has_joined ? os_identify(&claim->directory, base->file, &there) : 0;
    bool same = !base->has_joined || (error == 0 && os_same(there.inode, claim->inode) &&
                                      there.born == claim->lock_file_born);
    return error != 0 ? error : same ? 0 : ENOENT;
}

/* Dark, it may be taken for a dead owner's by one who has it shared: so it is lit exclusively
 * first, unless another reader shows that it is not dark. */
static int
light_again(const struct files_claim *claim, const struct os_file *beacon)
{
    if (os_flock(beacon, OS_EXCLUSIVE) == 0) {
        return share(beacon, claim->reader);
    }
    int error = readers_look(beacon);
    const struct os_file *marked = os_is_none(&claim->inside) ? beacon : &claim->inside;
    return error == 0 ? readers_join(beacon, marked, claim->reader) : error;
}

static int
relight(struct files_claim *claim, const struct os_file *directory)
{
    struct os_file file;
    struct os_status status;
    const struct claim *base = &claim->claim;
    bool is_lock_file = base->has_joined && os_is_none(&claim->inside);
    int error =
        open_beacon(directory, is_lock_file ? base->file : base->unique_name, &file, &status);
    if (error != 0) {
        return error;
    }
    error = check_identity(claim, status.inode);
    if (error == 0) {
        error = light_again(claim, &file);
    }
    if (error != 0) {
        os_close(&file);
        return error;
    }
    table_replace(&claim->claim.beacon, file);
    return 0;
}

int
readers_mend(struct files_claim *claim, const struct os_file *directory)
{
    return os_is_open(&claim->claim.beacon) ? 0 : relight(claim, directory);
}
