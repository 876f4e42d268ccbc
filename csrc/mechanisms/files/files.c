/* What is there, whatever the shape of the lock file; and the mechanisms that are made of this and
 * of the rooms beside it. */
#include "mechanisms/files/files.h"

#include "core/judge.h"
#include "mechanisms/files/condemn.h"
#include "mechanisms/files/join.h"
#include "mechanisms/files/owned.h"
#include "mechanisms/files/readers.h"
#include "mechanisms/files/release.h"
#include "mechanisms/files/search.h"
#include "mechanisms/files/shape.h"
#include "mechanisms/files/stale.h"

#include <errno.h>
#include <string.h>

/* ---- The end of a call ---- */

/* The last try, for who is not called again. */
static void
finish_emptied(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    if (place->is_emptied && os_is_open(&place->directory)) {
        place->shape->finish(&place->directory, attempt->lock->file, &place->found);
    }
    place->is_emptied = false;
}

static void
files_close(struct attempt *attempt)
{
    finish_emptied(attempt);
    condemn_end(attempt);
    mkdir_end_backing_off(attempt);
    place_close(attempt);
}

/* ---- Look ---- */

static enum outcome
files_look(struct attempt *attempt, bool will_wait)
{
    struct files_place *place = place_of(attempt);
    struct os_status status;
    if (place->is_emptied) {
        return LOCK_STALE; /* its removal goes on */
    }
    enum outcome outcome = place_find(attempt, will_wait, &status);
    if (outcome != LOCK_FOUND) {
        return outcome;
    }
    outcome = judge_by_table(attempt);
    if (outcome != LOCK_FOUND) {
        return outcome;
    }
    if (status.kind == OS_OTHER) {
        return judge_held(attempt, LIFE_UNKNOWN, "its lock file is a special file");
    }
    if (shape_is_pid_file(attempt) && status.kind != OS_REGULAR) {
        return judge_held(attempt, LIFE_UNKNOWN, "it is no plain file, so no PID file");
    }
    place->shape = shape_of(attempt, status.kind);
    return place->shape->judge(attempt);
}

static bool
files_is_there(struct attempt *attempt)
{
    struct os_status status;
    return os_status_at(&place_of(attempt)->directory, attempt->lock->file, &status) != ENOENT;
}

/* One of those who share it, if one is of this host, and how many they are. */
static void
identify_readers(struct attempt *attempt)
{
    struct os_reader readers[READERS_COUNTED];
    struct holder *holder = &attempt->report.holder;
    const char *host = attempt->lock->host;
    holder->readers = join_list_readers(attempt, readers, READERS_COUNTED);
    holder->known = holder->sibling;
    for (unsigned i = 0; !holder->known && i < holder->readers; i++) {
        holder->known = lock_is_host(host, readers[i]);
        holder->name = (struct name){.thread = readers[i].thread, .process = readers[i].process};
        memcpy(holder->name.host, host, OS_HOST_SIZE);
    }
}

static void
identify_by_unique_name(struct attempt *attempt)
{
    struct holder *holder = &attempt->report.holder;
    const struct files_place *place = place_of(attempt);
    char name[NAME_SIZE];
    if (!os_is_none(&place->found) &&
        search_unique_name(&place->directory, attempt->lock->file, place->found.inode,
                           SEARCH_ANY_PROCESS, name) == 0) {
        holder->known = proof_read_name(name, &holder->name);
    }
}

/* The unique name is that of a first reader who has left? The table knows what it has still. */
static bool
is_of_one_who_left(const struct attempt *attempt)
{
    const struct holder *holder = &attempt->report.holder;
    return holder->known && !holder->sibling && !attempt->report.mine &&
           holder->name.process == os_process() && holder->name.thread == attempt->owner.thread &&
           strcmp(holder->name.host, attempt->lock->host) == 0;
}

static void
files_identify(struct attempt *attempt)
{
    struct holder *holder = &attempt->report.holder;
    const struct files_place *place = place_of(attempt);
    holder->beacon = os_is_none(&place->beacon) ? place->found.inode : place->beacon.inode;
    if (holder->is_shared) {
        identify_readers(attempt);
        return;
    }
    if (!holder->known) {
        identify_by_unique_name(attempt);
    }
    if (is_of_one_who_left(attempt)) {
        holder->known = false;
    }
}

/* ---- The mechanisms ---- */

#define SHARED_OPERATIONS                                                                    \
    .join = join_readers, .downgrade = readers_downgrade, .list_readers = join_list_readers, \
    .shares_beacon = true

#define FILES_OPERATIONS                                                                  \
    .begin = place_begin, .leave_to_parent = place_leave_to_parent, .open = place_open,   \
    .close = files_close, .look = files_look, .is_there = files_is_there,                 \
    .identify = files_identify, .recognise = place_recognise, .break_stale = stale_break, \
    .confirm = owned_confirm, .discard = owned_discard, .release = release_claim,         \
    .stop_release = release_stop, .share = owned_share, .is_last = owned_is_last,         \
    .abandon = owned_abandon, .condemn = condemn_lock, .tidy = condemn_tidy

const struct mechanism link_mechanism = {FILES_OPERATIONS, SHARED_OPERATIONS, .claim = link_claim};
const struct mechanism symlink_mechanism = {FILES_OPERATIONS, .claim = symlink_claim};
const struct mechanism pid_mechanism = {
    FILES_OPERATIONS,
    .claim = pid_claim,
    .excludes_owner = true,
};
const struct mechanism mkdir_mechanism = {
    FILES_OPERATIONS,
    SHARED_OPERATIONS,
    .claim = mkdir_claim,
    .unique_file_is_inside = true,
};
