#include "core/attempt.h"

#include "core/mechanism.h"
#include "core/vain.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Lock objects ---- */

struct lock *
lock_new(const struct mechanism *mechanism, const char *path, const char *lock_file,
         const char *store, enum ownership ownership, bool is_shared)
{
    size_t path_size = strlen(path) + 1;
    size_t file_size = strlen(lock_file) + 1;
    size_t store_size = strlen(store) + 1;
    struct lock *lock = calloc(1, sizeof *lock + 2 * file_size + path_size + store_size);
    if (lock == NULL) {
        return NULL;
    }
    lock->mechanism = mechanism;
    lock->ownership = ownership;
    lock->is_shared = is_shared;
    lock->token = ownership == OWNED_BY_OBJECT ? os_new_token() : 0;
    lock->references = 1;
    os_host_name(lock->host);
    memcpy(lock->lock_file, lock_file, file_size);
    lock->file = os_last_name(lock->lock_file);
    lock->directory = lock->lock_file + file_size;
    memcpy(lock->directory, lock_file, (size_t)(lock->file - lock->lock_file));
    lock->path = lock->directory + file_size;
    memcpy(lock->path, path, path_size);
    lock->store = lock->path + path_size;
    memcpy(lock->store, store, store_size);
    return lock;
}

struct owner
owner_of(const struct lock *lock, struct owner calling, struct owner thread)
{
    switch (lock->ownership) {
    case OWNED_BY_THREAD:
        return (struct owner){calling.caller, thread.token, thread.thread, OWNER_THREAD};
    case OWNED_BY_PROCESS:
        return (struct owner){calling.caller, 0, 0, OWNER_PROCESS};
    case OWNED_BY_OBJECT:
        return (struct owner){calling.caller, lock->token, 0, OWNER_OBJECT};
    default:
        return calling;
    }
}

void
lock_name_host(struct lock *lock, const char *host)
{
    snprintf(lock->host, sizeof lock->host, "%s", host);
    for (char *at = lock->host; *at != '\0'; at++) {
        *at = os_is_separator(*at) ? '_' : *at;
    }
}

void
lock_choose_name(struct lock *lock, const char *path)
{
    const char *name = os_last_name(path);
    size_t length = (size_t)(name - path);
    bool beside = length == strlen(lock->directory) && strncmp(path, lock->directory, length) == 0;
    if (beside && strlen(name) < sizeof lock->chosen_name && !os_same_name(name, lock->file)) {
        strcpy(lock->chosen_name, name);
    }
}

struct lock *
lock_share(struct lock *lock)
{
    os_assert_locked();
    lock->references++;
    return lock;
}

void
lock_drop(struct lock *lock)
{
    os_mutex_lock();
    bool last = --lock->references == 0;
    os_mutex_unlock();
    if (last) {
        vain_free(lock);
        free(lock);
    }
}

static unsigned
host_digest(const char *host)
{
    return (unsigned)table_hash(host) & ((1U << OS_HOST_DIGEST) - 1);
}

struct os_reader
lock_reader(const char *host, struct owner owner)
{
    return (struct os_reader){os_process(), owner.thread, host_digest(host)};
}

bool
lock_is_host(const char *host, struct os_reader reader)
{
    return reader.host == host_digest(host);
}

/* ---- One call ---- */

/* How long to wait for another call of the same owner: what such calls take, at first. */
#define FIRST_PATIENCE OS_MILLISECOND

void
attempt_begin(struct attempt *attempt, struct lock *lock, struct owner owner, int64_t deadline)
{
    assert(owner.caller != 0); /* it would look like nobody */
    memset(attempt, 0, sizeof *attempt);
    attempt->lock = lock;
    attempt->owner = owner;
    attempt->generation = os_generation();
    attempt->call_patience = FIRST_PATIENCE;
    attempt->shares = lock != NULL && lock->is_shared;
    wait_begin(&attempt->wait, deadline);
    if (lock != NULL && lock->mechanism != NULL) {
        lock->mechanism->begin(attempt);
    }
}

/* The descriptors were closed by the fork, and the claims are discarded with the table. */
static void
leave_to_parent(struct attempt *attempt)
{
    attempt->generation = os_generation();
    attempt->reached = false;
    attempt->releasing = NULL;
    attempt->condemned = 0;
    if (attempt->lock != NULL && attempt->lock->mechanism != NULL) {
        attempt->lock->mechanism->leave_to_parent(attempt);
    }
}

void
attempt_begin_step(struct attempt *attempt)
{
    attempt->was_patient = false;
    if (attempt->generation != os_generation()) {
        leave_to_parent(attempt);
    }
    if (!attempt->runs) {
        attempt->reached = false; /* the program may have closed it since */
    }
}

void
attempt_end(struct attempt *attempt)
{
    attempt_begin_step(attempt);
    wait_end(&attempt->wait);
    if (attempt->releasing != NULL) {
        attempt->releasing->mechanism->stop_release(attempt->releasing);
        attempt->releasing = NULL;
    }
    if (attempt->lock != NULL && attempt->lock->mechanism != NULL) {
        attempt->lock->mechanism->close(attempt);
    }
    attempt->reached = false;
}

struct table_key
attempt_key(const struct attempt *attempt)
{
    return (struct table_key){attempt->found, attempt->lock->file};
}

/* ---- Its place ---- */

int
attempt_reach(struct attempt *attempt)
{
    int error = attempt->reached ? 0 : attempt->lock->mechanism->open(attempt);
    attempt->reached = error == 0;
    return error;
}

void
attempt_leave_place(struct attempt *attempt)
{
    wait_unwatch(&attempt->wait);
    attempt->lock->mechanism->close(attempt);
    attempt->reached = false;
}

enum outcome
attempt_cannot_reach(struct attempt *attempt, int error)
{
    attempt->report = (struct report){.error = error, .doing = "open the directory"};
    return LOCK_FAILED;
}

bool
attempt_is_beyond_paths(const struct attempt *attempt)
{
    const struct lock *lock = attempt->lock;
    return strlen(lock->directory) >= OS_PATH_SIZE || strlen(lock->store) >= OS_PATH_SIZE;
}

enum outcome
attempt_reach_to_look(struct attempt *attempt)
{
    int error = attempt_reach(attempt);
    if (error == 0) {
        return LOCK_FOUND;
    }
    bool absent = os_is_absent(error) && !attempt_is_beyond_paths(attempt);
    return absent ? LOCK_FREE : attempt_cannot_reach(attempt, error);
}

/* ---- Patience ---- */

bool
attempt_is_patient(struct attempt *attempt, int64_t patience, int64_t pause)
{
    int64_t now = os_now();
    int64_t limit = attempt->patience_limit;
    if (attempt->patient_since == 0) {
        attempt->patient_since = now;
    }
    int64_t until = attempt->patient_since + patience;
    if (now >= until || (limit != 0 && now >= limit)) {
        return false;
    }
    wait_for_moment(&attempt->wait, pause);
    attempt->was_patient = true;
    return true;
}

void
attempt_renew_patience(struct attempt *attempt)
{
    attempt->patient_since = 0;
}

enum outcome
attempt_end_step(struct attempt *attempt, enum outcome outcome)
{
    if (!attempt->was_patient) {
        attempt_renew_patience(attempt);
    }
    return outcome;
}
