/* What all mechanisms have in common: the order in which a lock is claimed,
 * looked at, waited for, released and broken. */
#include "core/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How long to wait for another call of the same owner, which may have come from another
 * thread: what such calls take, and then longer, up to a moment in which nobody misses a signal.
 * A claim that would not wait for the lock waits so long for what only looks. */
#define FIRST_PATIENCE OS_MILLISECOND
#define LONGEST_PATIENCE (50 * OS_MILLISECOND)
#define CLAIM_PATIENCE OS_SECOND

/* Rounds without sleep before a lock that comes and goes counts as held. */
#define ROUNDS 100

/* A database that could not be asked for so long has not just been busy. */
#define BUSY_TIME OS_SECOND

/* What a thread waited for in vain, by a lock object. */
struct waited {
    struct waited *next;
    uint64_t token;
    struct os_identity lock; /* inode number 0: it changed hands */
};

/* ---- Lock objects ---- */

struct lock *
lock_new(const struct mechanism *mechanism, const char *path, const char *lock_file,
         const char *database, bool threaded)
{
    size_t path_size = strlen(path) + 1;
    size_t file_size = strlen(lock_file) + 1;
    size_t database_size = strlen(database) + 1;
    size_t size = file_size + file_size + path_size + database_size;
    struct lock *lock = calloc(1, sizeof *lock + size);
    if (lock == NULL) {
        return NULL;
    }
    lock->mechanism = mechanism;
    lock->threaded = threaded;
    lock->references = 1;
    owner_host(lock->host);
    memcpy(lock->lock_file, lock_file, file_size);
    lock->file = strrchr(lock->lock_file, '/') + 1;
    lock->directory = lock->lock_file + file_size;
    memcpy(lock->directory, lock_file, (size_t)(lock->file - lock->lock_file));
    lock->path = lock->directory + file_size;
    memcpy(lock->path, path, path_size);
    lock->database = lock->path + path_size;
    memcpy(lock->database, database, database_size);
    return lock;
}

void
lock_drop(struct lock *lock)
{
    os_lock();
    bool last = --lock->references == 0;
    os_unlock();
    while (last && lock->waited != NULL) {
        struct waited *next = lock->waited->next;
        free(lock->waited);
        lock->waited = next;
    }
    if (last) {
        free(lock);
    }
}

/* ---- One call ---- */

void
attempt_begin(struct attempt *attempt, struct lock *lock, int64_t deadline)
{
    memset(attempt, 0, sizeof *attempt);
    attempt->lock = lock;
    attempt->owner = owner_caller(lock->threaded);
    attempt->directory.descriptor = -1;
    attempt->found.descriptor = -1;
    attempt->beacon.descriptor = -1;
    attempt->patience = FIRST_PATIENCE;
    wait_begin(&attempt->wait, deadline);
}

static void
leave_place(struct attempt *attempt)
{
    wait_unwatch(&attempt->wait);
    attempt->lock->mechanism->close(attempt);
}

void
attempt_end(struct attempt *attempt)
{
    if (attempt->lock->mechanism != NULL) {
        leave_place(attempt);
    }
    wait_end(&attempt->wait);
}

struct table_key
attempt_key(const struct attempt *attempt)
{
    return (struct table_key){attempt->found.inode, attempt->directory.inode, attempt->lock->file};
}

static enum outcome
cannot_open_place(struct attempt *attempt, int error)
{
    attempt->report = (struct report){.error = error, .doing = "open the directory"};
    return LOCK_FAILED;
}

/* To whoever does not want to make a lock file, a missing directory holds none. */
static enum outcome
open_to_look(struct attempt *attempt)
{
    int error = attempt->lock->mechanism->open(attempt);
    return error == 0               ? LOCK_HELD
           : owner_is_absent(error) ? LOCK_FREE
                                    : cannot_open_place(attempt, error);
}

/* ---- What the caller owns ---- */

/* OWNED, FAILED; FREE: it was broken, and is dropped. */
static enum outcome
confirm(struct attempt *attempt, struct owned *owned)
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    enum outcome outcome = mechanism->confirm(attempt, owned);
    if (outcome == LOCK_BROKEN) {
        mechanism->discard(owned);
        return LOCK_FREE;
    }
    table_keep(owned);
    return outcome;
}

static void
identify_caller(struct attempt *attempt)
{
    struct holder *holder = &attempt->report.holder;
    holder->known = true;
    holder->life = LIFE_ALIVE;
    holder->name.thread = attempt->owner.thread;
    holder->name.process = os_process();
    memcpy(holder->name.host, attempt->lock->host, OS_HOST_SIZE);
}

/* Another call of this owner uses the entry, for longer than such calls take: HELD, for a
 * claim that waits for the lock anyway, or would rather not wait for it; INTERRUPTED. */
static enum outcome
find_busy(struct attempt *attempt, enum table_answer answer)
{
    attempt->patient += attempt->patience;
    bool waits = attempt->wait.deadline > 0;
    bool refused = attempt->patient >= CLAIM_PATIENCE || answer == TABLE_RELEASING;
    if (!attempt->claiming || !(waits || refused)) {
        int64_t longer = 2 * attempt->patience;
        attempt->patience = longer < LONGEST_PATIENCE ? longer : LONGEST_PATIENCE;
        return LOCK_INTERRUPTED;
    }
    identify_caller(attempt);
    attempt->report.reason = answer == TABLE_RELEASING
                                 ? "another call of its owner is releasing it just now"
                                 : "another call of its owner is at work on it";
    wait_hurry(&attempt->wait);
    return LOCK_HELD;
}

/* The caller's entry. OWNED: it is taken; FREE: there is none; HELD, INTERRUPTED: another call
 * uses it. key: of what was found at its path; NULL: the entry is looked for by the path. */
static enum outcome
take(struct attempt *attempt, const struct table_key *key, struct owned **owned)
{
    struct table_name name = lock_name(attempt->lock);
    enum table_answer answer = key != NULL
                                   ? table_take_key(*key, attempt->owner, attempt->patience, owned)
                                   : table_take(name, attempt->owner, attempt->patience, owned);
    return answer == TABLE_TAKEN  ? LOCK_OWNED
           : answer == TABLE_NONE ? LOCK_FREE
                                  : find_busy(attempt, answer);
}

/* By the lock file's path. */
static enum outcome
look_up(struct attempt *attempt)
{
    struct owned *owned;
    enum outcome outcome = take(attempt, NULL, &owned);
    return outcome == LOCK_OWNED ? confirm(attempt, owned) : outcome;
}

/* By the lock file that was found: it may be ours by another path. */
static enum outcome
look_up_found(struct attempt *attempt)
{
    struct owned *owned;
    struct table_key key = attempt_key(attempt);
    enum outcome outcome = take(attempt, &key, &owned);
    return outcome == LOCK_OWNED ? confirm(attempt, owned) : outcome;
}

/* ---- Courtesy ----
 *
 * A process that releases and claims again at once beats every sleeper that its
 * release has woken. So whoever releases a lock to waiters lets one of them in
 * before it claims that lock again. */

#define COURTESY_TIME (OS_MILLISECOND / 2)
#define COURTESY_PAUSE (OS_MILLISECOND / 50)
#define COURTESIES 16

static struct courtesy {
    uint64_t lock; /* hash of the lock file's path */
    uint64_t token;
    int64_t until;
} courtesies[COURTESIES]; /* guarded by os_lock() */
static unsigned next_courtesy;

static void
owe_courtesy(const char *lock_file, struct owner owner)
{
    struct courtesy courtesy = {table_hash(lock_file), owner.token, os_now() + COURTESY_TIME};
    os_lock();
    courtesies[next_courtesy++ % COURTESIES] = courtesy;
    os_unlock();
}

/* Until when the caller owes a courtesy, which is paid by asking. 0: it owes none. */
static int64_t
take_courtesy(const char *lock_file, struct owner owner)
{
    int64_t until = 0;
    uint64_t hash = table_hash(lock_file);
    os_lock();
    for (struct courtesy *owed = courtesies; owed < courtesies + COURTESIES; owed++) {
        if (owed->lock == hash && owed->token == owner.token) {
            until = owed->until > until ? owed->until : until;
            owed->lock = 0;
        }
    }
    os_unlock();
    return until;
}

static void
give_way(struct attempt *attempt)
{
    int64_t until = take_courtesy(attempt->lock->lock_file, attempt->owner);
    if (wait_is_over(&attempt->wait)) {
        return; /* who does not wait is not made to */
    }
    while (os_now() < until) {
        if (attempt->lock->mechanism->is_there(attempt)) {
            attempt->contended = true;
            return;
        }
        os_pause(COURTESY_PAUSE);
    }
}

/* ---- What was waited for in vain ----
 *
 * What break_lock() may condemn: only a lock that was there during all of the wait.
 * One that came while we waited may be that of another waiter, who has just broken
 * the one that both waited for. Each thread remembers for itself: threads that share
 * a lock object time out, and break, each for itself. */

#define WAITED_THREADS 64

/* Guarded by os_lock(). */
static struct waited **
find_waited(struct lock *lock, uint64_t token)
{
    struct waited **link = &lock->waited;
    while (*link != NULL && (*link)->token != token) {
        link = &(*link)->next;
    }
    return link;
}

static void
forget_waited_for(struct lock *lock)
{
    os_lock();
    struct waited **link = find_waited(lock, os_thread_token());
    struct waited *waited = *link;
    if (waited != NULL) {
        *link = waited->next;
    }
    os_unlock();
    free(waited);
}

/* Threads end without a word: of too many, the oldest is forgotten. */
static struct waited *
take_oldest(struct lock *lock)
{
    struct waited **link = &lock->waited;
    unsigned count = 1;
    if (*link == NULL) {
        return NULL;
    }
    while ((*link)->next != NULL) {
        link = &(*link)->next;
        count++;
    }
    struct waited *oldest = count > WAITED_THREADS ? *link : NULL;
    if (oldest != NULL) {
        *link = NULL;
    }
    return oldest;
}

/* HELD; FAILED: it cannot be remembered, and break_lock() would condemn whatever is there. */
static enum outcome
remember_waited_for(struct attempt *attempt)
{
    struct lock *lock = attempt->lock;
    struct os_identity there = lock->mechanism->recognise(attempt);
    forget_waited_for(lock);
    if (!attempt->waiting) {
        return LOCK_HELD;
    }
    struct waited *waited = malloc(sizeof *waited);
    if (waited == NULL) {
        attempt->report = (struct report){.error = ENOMEM, .doing = "allocate"};
        return LOCK_FAILED;
    }
    waited->token = os_thread_token();
    waited->lock = os_is_identical(there, attempt->seen) ? there : (struct os_identity){{0, 0}, 0};
    os_lock();
    waited->next = lock->waited;
    lock->waited = waited;
    struct waited *oldest = take_oldest(lock);
    os_unlock();
    free(oldest);
    return LOCK_HELD;
}

static bool
has_waited_for(struct lock *lock, struct os_identity *identity)
{
    os_lock();
    const struct waited *waited = *find_waited(lock, os_thread_token());
    if (waited != NULL) {
        *identity = waited->lock;
    }
    os_unlock();
    return waited != NULL;
}

/* ---- Acquire ---- */

/* Judges what is in the way, and removes it if it is stale. */
static enum outcome
look(struct attempt *attempt)
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    bool watched = !wait_is_over(&attempt->wait);
    if (watched && !attempt->wait.signals.held) {
        os_signals_hold(&attempt->wait.signals);
    }
    wait_begin_look(&attempt->wait);
    enum outcome outcome = mechanism->look(attempt, watched);
    wait_end_look(&attempt->wait);
    if (outcome == LOCK_STALE) {
        outcome = mechanism->break_stale(attempt);
    }
    return outcome == LOCK_OWNED ? look_up_found(attempt) : outcome;
}

/* OWNED, HELD, FAILED; FREE: worth another round at once. */
static enum outcome
claim_or_look(struct attempt *attempt)
{
    enum outcome outcome = attempt->contended ? look(attempt) : LOCK_FREE;
    if (outcome == LOCK_FREE) {
        outcome = attempt->lock->mechanism->claim(attempt);
        attempt->contended = outcome == LOCK_HELD && attempt->busy_since == 0;
        if (attempt->contended) {
            outcome = look(attempt);
        }
    }
    return outcome;
}

/* One round, from opening the directory to its end or a sleep: the directory may
 * be replaced while we sleep, so each round finds it anew. */
static enum outcome
acquire_round(struct attempt *attempt)
{
    int error = attempt->lock->mechanism->open(attempt);
    if (error != 0) {
        return cannot_open_place(attempt, error);
    }
    if (!attempt->contended) {
        give_way(attempt);
    }
    return claim_or_look(attempt);
}

/* Sleeps until another round is worth it: FREE, INTERRUPTED; HELD: time is up. */
static enum outcome
sleep_on(struct attempt *attempt)
{
    /* Before all else: time may be up before it could sleep at all. */
    if (!attempt->waiting && attempt->wait.deadline > 0) {
        attempt->waiting = true;
        attempt->seen = attempt->lock->mechanism->recognise(attempt);
    }
    if (wait_is_over(&attempt->wait)) {
        return LOCK_HELD;
    }
    if (!attempt->wait.signals.held) {
        os_signals_hold(&attempt->wait.signals);
    }
    if (wait_polls(&attempt->wait)) {
        leave_place(attempt); /* a network server may not let go of what is kept open */
    }
    attempt->asleep = wait_for_change(&attempt->wait, &attempt->found) == EINTR;
    return attempt->asleep ? LOCK_INTERRUPTED : LOCK_FREE;
}

/* Nothing has changed for who was only to see to signals, unless their handlers, or a fork in
 * one, have closed what it sleeps on. */
static bool
may_sleep_on(struct attempt *attempt)
{
    const struct wait *wait = &attempt->wait;
    bool sleeps_on = attempt->asleep && wait_stands(wait) && !wait_is_over(wait);
    if (attempt->asleep && !sleeps_on) {
        wait_unwatch(&attempt->wait);
    }
    attempt->asleep = false;
    return sleeps_on;
}

/* Of the caller's own entry, by the lock file's path. FREE: go on. */
static enum outcome
begin_acquire(struct attempt *attempt)
{
    attempt->claiming = true;
    enum outcome outcome = look_up(attempt);
    if (outcome == LOCK_HELD && !wait_is_over(&attempt->wait)) {
        attempt->contended = true; /* so it waits for that lock file, as for another's */
        outcome = LOCK_FREE;
    } else if (outcome == LOCK_HELD) {
        attempt->waiting = attempt->wait.deadline > 0; /* for nothing that is to be condemned */
        outcome = remember_waited_for(attempt);
    }
    return outcome;
}

enum outcome
lock_acquire(struct attempt *attempt)
{
    enum outcome outcome = attempt->contended ? LOCK_FREE : begin_acquire(attempt);
    unsigned rounds = 0;
    if (outcome != LOCK_FREE) {
        return outcome;
    }
    do {
        outcome = may_sleep_on(attempt) ? LOCK_HELD : acquire_round(attempt);
        if (outcome == LOCK_FREE && ++rounds == ROUNDS) {
            outcome = attempt->report.error != 0 ? LOCK_FAILED : LOCK_HELD;
        }
        if (outcome == LOCK_HELD) {
            rounds = 0;
            outcome = sleep_on(attempt);
        }
        if (outcome == LOCK_HELD && attempt->busy_since != 0 &&
            os_now() - attempt->busy_since >= BUSY_TIME) {
            outcome = LOCK_FAILED;
        } else if (outcome == LOCK_HELD) {
            attempt->lock->mechanism->identify(attempt);
            outcome = remember_waited_for(attempt);
        }
    } while (outcome == LOCK_FREE);
    if (!attempt->asleep) {
        leave_place(attempt);
    }
    os_signals_release(&attempt->wait.signals);
    if (outcome == LOCK_OWNED) {
        forget_waited_for(attempt->lock);
    }
    return outcome;
}

/* ---- Look ---- */

enum outcome
lock_look(struct attempt *attempt)
{
    enum outcome outcome = look_up(attempt);
    if (outcome == LOCK_OWNED || outcome == LOCK_FAILED) {
        return outcome;
    }
    outcome = open_to_look(attempt);
    if (outcome == LOCK_HELD) {
        outcome = attempt->lock->mechanism->look(attempt, false);
    }
    return outcome == LOCK_OWNED ? look_up_found(attempt) : outcome;
}

enum outcome
lock_identify(struct attempt *attempt)
{
    enum outcome outcome = lock_look(attempt);
    if (outcome == LOCK_OWNED) {
        identify_caller(attempt);
    } else if (outcome == LOCK_HELD || outcome == LOCK_STALE) {
        attempt->lock->mechanism->identify(attempt);
    }
    return outcome;
}

/* ---- Release ---- */

/* The caller's entry, by this path or by another: OWNED, FREE, INTERRUPTED. */
static enum outcome
take_own(struct attempt *attempt, struct owned **owned)
{
    enum outcome outcome = take(attempt, NULL, owned);
    if (outcome != LOCK_FREE) {
        return outcome;
    }
    outcome = lock_look(attempt);
    if (outcome == LOCK_OWNED) {
        struct table_key key = attempt_key(attempt);
        return take(attempt, &key, owned);
    }
    return outcome == LOCK_INTERRUPTED ? outcome : LOCK_FREE;
}

/* Counts one with block less, unless it is the outermost: that one counts until
 * the lock is released. */
static bool
leave_inner(struct owned *owned)
{
    os_lock();
    bool inner = owned->depth > 1;
    owned->depth -= inner;
    os_unlock();
    return inner;
}

static enum outcome
release(struct attempt *attempt, struct owned *owned)
{
    bool awaited = false;
    if (attempt->leaving && leave_inner(owned)) {
        table_keep(owned); /* another thread of this owner has entered meanwhile */
        return LOCK_RELEASED;
    }
    table_begin_release(owned);
    enum outcome outcome = attempt->lock->mechanism->release(attempt, owned, &awaited);
    attempt->report.releasing = outcome == LOCK_FAILED;
    if (outcome == LOCK_FAILED && attempt->report.owned) {
        if (attempt->leaving) {
            table_end_block(lock_name(attempt->lock), attempt->owner); /* it is over all the same */
        }
        table_keep(owned);
    }
    if (outcome == LOCK_RELEASED && awaited) {
        owe_courtesy(attempt->lock->lock_file, attempt->owner);
    }
    return outcome;
}

enum outcome
lock_release(struct attempt *attempt)
{
    struct owned *owned;
    enum outcome outcome = attempt->broken ? LOCK_FREE : take_own(attempt, &owned);
    if (outcome == LOCK_OWNED) {
        outcome = release(attempt, owned);
    }
    if (outcome != LOCK_FREE && outcome != LOCK_BROKEN) {
        return outcome;
    }
    attempt->broken = true; /* if it is called again */
    /* Whoever owns it now: what we had was broken. */
    outcome = lock_identify(attempt);
    return outcome == LOCK_STALE ? LOCK_FREE : outcome == LOCK_OWNED ? LOCK_HELD : outcome;
}

enum outcome
lock_break(struct attempt *attempt)
{
    struct lock *lock = attempt->lock;
    struct os_identity waited_for;
    bool waited = has_waited_for(lock, &waited_for);
    enum outcome outcome = open_to_look(attempt);
    if (outcome == LOCK_HELD) {
        outcome = lock->mechanism->condemn(attempt, waited ? &waited_for : NULL);
    }
    if (outcome == LOCK_FREE) {
        forget_waited_for(lock);
    }
    return outcome;
}

/* ---- with blocks ---- */

enum outcome
lock_enter(struct attempt *attempt)
{
    struct owned *owned;
    enum outcome outcome = take_own(attempt, &owned);
    if (outcome == LOCK_OWNED) {
        os_lock();
        owned->depth++;
        os_unlock();
        table_keep(owned);
    }
    return outcome;
}

void
lock_end_block(struct attempt *attempt)
{
    table_end_block(lock_name(attempt->lock), attempt->owner);
}

enum outcome
lock_leave(struct attempt *attempt)
{
    struct owned *owned;
    enum outcome outcome = take_own(attempt, &owned);
    if (outcome == LOCK_OWNED) {
        outcome = leave_inner(owned) ? LOCK_RELEASED : LOCK_OWNED;
        table_keep(owned);
    }
    return outcome == LOCK_FREE ? LOCK_OWNED : outcome;
}

/* ---- What a lock tells of itself ---- */

/* Who owns nothing of that name by any path need not look at the file system. Does not wait
 * for another call that uses the entry: what is told of it does not change. */
static bool
tell(struct attempt *attempt, struct table_told *told)
{
    const struct lock *lock = attempt->lock;
    struct table_name name = lock_name(lock);
    if (table_tell(&name, NULL, attempt->owner, told)) {
        return true;
    }
    if (lock->mechanism == NULL || !table_has_file(lock->file, attempt->owner) ||
        open_to_look(attempt) != LOCK_HELD || lock->mechanism->look(attempt, false) != LOCK_OWNED) {
        return false;
    }
    struct table_key key = attempt_key(attempt);
    return table_tell(NULL, &key, attempt->owner, told);
}

bool
lock_unique_name(struct attempt *attempt, char name[OWNER_NAME_SIZE])
{
    const struct mechanism *mechanism = attempt->lock->mechanism;
    struct table_told told;
    if (tell(attempt, &told)) {
        memcpy(name, told.unique_name, OWNER_NAME_SIZE);
        mechanism = told.mechanism;
    } else {
        owner_format(name, attempt->lock->host, attempt->owner, 0, 0);
    }
    return mechanism != NULL && mechanism->unique_file_is_inside;
}

int
lock_descriptor(struct attempt *attempt)
{
    struct table_told told;
    return tell(attempt, &told) ? told.descriptor : -1;
}

/* ---- Exit ---- */

void
lock_release_all(void)
{
    struct owned *owned;
    table_close();
    while ((owned = table_take_last(NULL)) != NULL) {
        struct attempt attempt = {0};
        bool awaited;
        if (owned->mechanism->release(&attempt, owned, &awaited) == LOCK_FAILED &&
            attempt.report.owned) {
            table_drop(owned); /* the beacon goes; whoever comes next finds it stale */
        }
    }
}
