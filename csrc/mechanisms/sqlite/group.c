#include "mechanisms/sqlite/group.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t
group_queue(const char *row)
{
    uint64_t mixed = table_hash(row) * UINT64_C(0x9E3779B97F4A7C15); /* its upper bits count */
    return beacon_queue((struct beacon){.byte = mixed >> 2});
}

/* ---- Listing ---- */

typedef void member_visitor(struct attempt *attempt, void *context, const struct row *row);

/* All of them, though not all at one moment: nothing is believed for its absence. FOUND; FREE,
 * HELD, FAILED, WAITING. */
static enum outcome
list(struct attempt *attempt, const struct spot *spot, member_visitor *visit, void *context)
{
    struct listed listed[DATABASE_LISTED];
    char last[DATABASE_NAME_SIZE] = "";
    int error = 0, count = DATABASE_LISTED;
    while (error == 0 && count == DATABASE_LISTED) {
        error = database_list_group(&place_of(attempt)->request, spot->place, last, listed, &count);
        for (int i = 0; i < count; i++) {
            visit(attempt, context, &listed[i].row);
            snprintf(last, sizeof last, "%s", listed[i].name);
            free(listed[i].name);
        }
    }
    if (rows_ask_again(attempt, error, 0)) {
        return LOCK_WAITING;
    }
    return error == 0 ? LOCK_FOUND
           : error == ENOENT || error == DATABASE_MOVED
               ? LOCK_FREE
               : rows_cannot_ask(attempt, error, "read the database");
}

/* ---- Judge ---- */

struct judgement {
    struct os_inode database;
    unsigned alive;
    bool is_own, is_dead, is_doubtful; /* there is one ... */
    struct row own, dead, doubtful;    /* ... which is this */
    unsigned count;
    uint64_t digest; /* of all of them */
};

static bool
is_provable(const struct attempt *attempt, const struct row *row)
{
    struct name name;
    return row->beacon.file == place_of((struct attempt *)attempt)->found.inode.number &&
           proof_read_name(row->owner, &name) && proof_is_possible(&name, attempt->ground);
}

/* A dark beacon proves nothing yet: its row may be gone by now. */
static void
judge_by_beacon(struct attempt *attempt, struct judgement *judgement, const struct row *row)
{
    struct holder *holder = &attempt->report.holder;
    struct os_file *found = &place_of(attempt)->found;
    int error = os_is_open(found) ? beacon_look(found, row->beacon) : EBADF;
    if (os_is_refused(error)) {
        judgement->alive++;
        holder->known = holder->known || proof_read_name(row->owner, &holder->name);
    } else if (error == 0 && is_provable(attempt, row)) {
        judgement->is_dead = true;
        judgement->dead = *row;
    } else {
        judgement->is_doubtful = true;
        judgement->doubtful = *row;
    }
}

static void
visit_to_judge(struct attempt *attempt, void *context, const struct row *row)
{
    struct judgement *judgement = context;
    judgement->count++;
    judgement->digest += row->beacon.byte * UINT64_C(0x9E3779B97F4A7C15);
    attempt->found = rows_identity(judgement->database, row->beacon);
    switch (judge_by_table(attempt)) {
    case LOCK_OWNED:
        judgement->is_own = true;
        judgement->own = *row;
        break;
    case LOCK_HELD:
        judgement->alive++;
        break;
    default:
        judge_by_beacon(attempt, judgement, row);
    }
}

static void
visit_again(struct attempt *attempt, void *context, const struct row *row)
{
    struct judgement *judgement = context;
    (void)attempt;
    judgement->count++;
    judgement->digest += row->beacon.byte * UINT64_C(0x9E3779B97F4A7C15);
}

/* All beacons were dark. A reader that leaves removes its row first; so those are dead whose rows
 * are there still. FOUND: just the same ones are; FREE, HELD, FAILED, WAITING. */
static enum outcome
find_same(struct attempt *attempt, struct spot *spot, const struct judgement *judgement)
{
    struct row row;
    struct judgement again = {.count = 0};
    enum outcome outcome = list(attempt, spot, visit_again, &again);
    if (outcome == LOCK_FOUND) {
        outcome = rows_find(attempt, spot, &row);
    }
    bool is_same = outcome == LOCK_FOUND && database_is_shared(&row) &&
                   again.count == judgement->count && again.digest == judgement->digest;
    return outcome == LOCK_FOUND && !is_same ? LOCK_FREE : outcome;
}

/* Nobody was seen to live. */
static enum outcome
judge_dark(struct attempt *attempt, struct spot *spot, const struct judgement *judgement)
{
    enum outcome outcome = find_same(attempt, spot, judgement);
    if (outcome != LOCK_FOUND) {
        return outcome;
    }
    if (judgement->is_doubtful || !judgement->is_dead) {
        return judge_held(attempt, LIFE_UNKNOWN,
                          "it is shared, and nothing tells whether all who share it are dead");
    }
    attempt->found = rows_identity(judgement->database, judgement->dead.beacon);
    proof_read_name(judgement->dead.owner, &attempt->report.holder.name);
    attempt->report.holder.known = true;
    return judge_by_name(attempt, judgement->dead.owner);
}

enum outcome
group_judge(struct attempt *attempt, struct spot *spot, const struct row *row)
{
    struct judgement judgement = {.database = spot->place.inode};
    struct identity there = rows_identity(spot->place.inode, row->beacon);
    enum outcome outcome = list(attempt, spot, visit_to_judge, &judgement);
    attempt->found = there;
    if (outcome != LOCK_FOUND) {
        return outcome;
    }
    if (judgement.is_own) {
        attempt->found = rows_identity(judgement.database, judgement.own.beacon);
        return LOCK_OWNED;
    }
    if (judgement.alive > 0) {
        attempt->report.holder.life = LIFE_ALIVE;
        return judge_shared(attempt);
    }
    return judge_dark(attempt, spot, &judgement);
}

/* ---- Join ---- */

static bool
others_wait(const struct spot *spot)
{
    struct os_file file;
    struct ground ground;
    if (beacon_share(spot->beacons, spot->place.mode, false, &file, &ground) != 0) {
        return false;
    }
    bool wait = ground.local && os_has_waiters(&file, group_queue(spot->place.row), 1);
    beacon_leave(&file);
    return wait;
}

enum outcome
group_join(struct attempt *attempt)
{
    struct spot spot;
    struct row row;
    if (!attempt->gives_way || spot_find(&spot, attempt->lock) != 0 || !others_wait(&spot)) {
        return LOCK_FREE;
    }
    enum outcome outcome = rows_find(attempt, &spot, &row);
    if (outcome != LOCK_FOUND) {
        return outcome;
    }
    if (!database_is_shared(&row)) {
        return LOCK_HELD;
    }
    attempt->has_given_way = true;
    attempt->report.holder.is_shared = true;
    return judge_held(attempt, LIFE_ALIVE, "others wait to have it alone, and come first");
}

/* ---- Who they are ---- */

struct readers {
    struct os_reader *readers;
    unsigned most;
    unsigned count;
};

static void
visit_reader(struct attempt *attempt, void *context, const struct row *row)
{
    struct name name;
    struct readers *readers = context;
    bool is_dark = beacon_look(&place_of(attempt)->found, row->beacon) == 0;
    if (readers->count < readers->most && !is_dark && proof_read_name(row->owner, &name)) {
        struct os_reader reader = lock_reader(name.host, (struct owner){.thread = name.thread});
        reader.process = (int)name.process;
        readers->readers[readers->count++] = reader;
    }
}

unsigned
group_list(struct attempt *attempt, const struct spot *spot, struct os_reader listed[],
           unsigned most)
{
    struct readers readers = {listed, most, 0};
    list(attempt, spot, visit_reader, &readers);
    return readers.count;
}
