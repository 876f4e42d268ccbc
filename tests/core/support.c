#define _GNU_SOURCE
#include "support.h"

#include "mechanisms/sqlite/beacon.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

const char *
outcome_name(enum outcome outcome)
{
    static const char *const names[] = {
        [LOCK_OWNED] = "OWNED",   [LOCK_RELEASED] = "RELEASED",       [LOCK_FREE] = "FREE",
        [LOCK_FOUND] = "FOUND",   [LOCK_SHARED] = "SHARED",           [LOCK_STALE] = "STALE",
        [LOCK_HELD] = "HELD",     [LOCK_BROKEN] = "BROKEN",           [LOCK_WAITING] = "WAITING",
        [LOCK_FAILED] = "FAILED", [LOCK_INTERRUPTED] = "INTERRUPTED",
    };
    return names[outcome];
}

void
need(bool done, const char *what)
{
    if (!done) {
        perror(what);
        abort();
    }
}

/* ---- Calls ---- */

struct lock *
make_lock(const struct mechanism *mechanism, const char *directory, const char *name, bool threaded)
{
    char lock_file[OS_PATH_SIZE];
    snprintf(lock_file, sizeof lock_file, "%s/%s.lock", directory, name);
    return lock_new(mechanism, name, lock_file, "", threaded ? OWNED_BY_CALLER : OWNED_BY_PROCESS,
                    false);
}

struct lock *
share(struct lock *lock)
{
    os_mutex_lock();
    lock_share(lock);
    os_mutex_unlock();
    return lock;
}

int64_t
deadline_in(int64_t nanoseconds)
{
    return nanoseconds == OS_NEVER ? OS_NEVER : nanoseconds == 0 ? 0 : os_now() + nanoseconds;
}

void
begin(struct attempt *attempt, struct lock *lock, int64_t deadline)
{
    attempt_begin(attempt, lock, owner_calling(!lock_is_common(lock)), deadline);
}

enum outcome
call(lock_operation *operation, struct lock *lock, int64_t deadline, struct report *report)
{
    struct attempt attempt;
    enum outcome outcome;
    begin(&attempt, lock, deadline);
    do {
        outcome = lock_run(&attempt, operation);
    } while (outcome == LOCK_INTERRUPTED);
    attempt_end(&attempt);
    if (report != NULL) {
        *report = attempt.report;
    }
    return outcome;
}

enum outcome
enter(struct lock *lock, int64_t deadline, struct report *report)
{
    enum outcome outcome;
    bool entered = false;
    do {
        outcome = call(lock_acquire, lock, deadline, report);
        if (outcome == LOCK_OWNED) {
            entered = call(lock_enter, lock, 0, NULL) == LOCK_OWNED;
            DEMAND(entered || lock_is_common(lock), "the lock is lost between acquire and enter");
        }
    } while (outcome == LOCK_OWNED && !entered && lock_is_common(lock));
    return outcome;
}

enum outcome
leave(struct lock *lock, struct report *report)
{
    struct attempt attempt = {0};
    enum outcome outcome = LOCK_RELEASED;
    if (call(lock_leave, lock, 0, NULL) == LOCK_OWNED) {
        os_pause(OS_MILLISECOND / 20); /* another thread of this owner may enter here */
        begin(&attempt, lock, 0);
        attempt.leaving = true;
        while ((outcome = lock_run(&attempt, lock_release)) == LOCK_INTERRUPTED) {
        }
        attempt_end(&attempt);
    }
    if (report != NULL) {
        *report = attempt.report;
    }
    return outcome;
}

/* ---- What is left ---- */

static bool
is_kept_for_later(const char *number)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && strtoul(number, NULL, 10) >= limit.rlim_cur) {
        return true; /* valgrind has its own above what it lets the program have */
    }
    char name[OS_PATH_SIZE] = "", target[OS_PATH_SIZE] = "";
    snprintf(name, sizeof name, "/proc/self/fd/%s", number);
    ssize_t length = readlink(name, target, sizeof target - 1);
    if (length < 0) {
        return true; /* the thread that closes idle watches has just closed it */
    }
    const char *end = target + length;
    return strcmp(target, "anon_inode:inotify") == 0 ||
           (end - target > 8 && strcmp(end - 8, "-beacons") == 0);
}

static unsigned
count(const char *directory, bool (*spared)(const char *name), char found[OS_PATH_SIZE])
{
    unsigned names = 0;
    DIR *stream = opendir(directory);
    need(stream != NULL, directory);
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !spared(name)) {
            snprintf(found, OS_PATH_SIZE, "%s", name);
            names++;
        }
    }
    closedir(stream);
    return names;
}

unsigned
count_descriptors(void)
{
    char name[OS_PATH_SIZE];
    return count("/proc/self/fd", is_kept_for_later, name) - 1; /* that of the listing */
}

static bool
spares_none(const char *name)
{
    (void)name;
    return false;
}

unsigned
count_names(const char *directory, char name[OS_PATH_SIZE])
{
    name[0] = '\0';
    return count(directory, spares_none, name);
}

void
leave_stale(struct lock *lock)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        _exit(call(lock_acquire, lock, OS_NEVER, NULL) != LOCK_OWNED);
    }
    need(child > 0, "fork");
    while (waitpid(child, &status, 0) < 0) {
    }
    DEMAND(status == 0, "who should leave a stale lock ended with status %x", (unsigned)status);
}

/* ---- Beacons that are bytes ---- */

void
light_byte(const char *beacon_file)
{
    struct os_file file, other;
    struct os_status status;
    struct ground ground;
    struct beacon beacon;
    DEMAND(beacon_share(beacon_file, 0644, true, &file, &ground) == 0, "no beacon file");
    DEMAND(beacon_light(&file, &beacon) == 0, "the byte is not lit");
    DEMAND(os_open(&os_anywhere, beacon_file, OS_READ, &other, &status) == 0, "cannot look");
    DEMAND(beacon_look(&other, beacon) == EWOULDBLOCK, "a lit byte is dark");
    int64_t now = os_now();
    uint64_t queue = beacon_queue(beacon);
    os_queue_up(&other, queue, now);
    DEMAND(os_has_waiters(&file, queue, 1), "a mark is not seen");
    DEMAND(os_count_elders(&file, queue, now + OS_SECOND, 3) > 0, "an elder is not seen");
    beacon_darken(&file, beacon);
    DEMAND(beacon_look(&other, beacon) == 0, "a dark byte is lit");
    os_close(&other);
    beacon_leave(&file);
}
