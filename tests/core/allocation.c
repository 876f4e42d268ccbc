/* Each allocation of each operation fails, alone and with all that follow.
 *
 *     allocation DIRECTORY
 *
 * Then the operation has succeeded, or failed with ENOMEM; the lock is excluded as it
 * says; once there is memory again the lock can be used; and no memory, descriptor,
 * file or entry of the table is lost. Each case is a process of its own, since the
 * register of descriptors grows but once.
 *
 * The core's calls of the allocator are wrapped (by the linker's --wrap), and so are
 * fdopendir() and closedir(), which use it, and mmap().
 *
 * And nothing is asked of the allocator, failing or not, while the caller holds a lock that
 * a fork waits for: an allocator that locks itself during forks may have been told of that
 * fork before the core. The calls that take and give such locks are wrapped, too. */
#define _GNU_SOURCE
#include "mechanisms/sqlite/beacon.h"
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sanitizer/lsan_interface.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[OS_PATH_SIZE];
static const char *case_name;
static unsigned defects;

void
defect(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "defect, %s: %s\n", case_name, text);
    defects++;
}

/* ---- What a fork waits for ---- */

static _Thread_local int locks_held;

#define LOCKING(name, type, change) \
    int __real_##name(type *lock);  \
    int __wrap_##name(type *lock);  \
    int __wrap_##name(type *lock)   \
    {                               \
        locks_held += change;       \
        return __real_##name(lock); \
    }

LOCKING(pthread_rwlock_rdlock, pthread_rwlock_t, 1)
LOCKING(pthread_rwlock_wrlock, pthread_rwlock_t, 1)
LOCKING(pthread_rwlock_unlock, pthread_rwlock_t, -1)
LOCKING(pthread_mutex_lock, pthread_mutex_t, 1)
LOCKING(pthread_mutex_unlock, pthread_mutex_t, -1)

/* A child's are made anew. */
static void
forget_locks(void)
{
    locks_held = 0;
}

static void
check_forks(const char *name)
{
    DEMAND(locks_held == 0, "%s() while forks are held off", name);
}

/* ---- Refusals ---- */

static bool armed;
static bool persistent;     /* all that follow fail, too */
static unsigned allocation; /* how many there were */
static unsigned refused_at; /* which fails, counted from 1 */
static unsigned spare;      /* descriptors before the register must grow */

static bool
is_refused(void)
{
    if (!armed) {
        return false;
    }
    allocation++;
    bool refused = allocation == refused_at || (persistent && allocation > refused_at);
    errno = refused ? ENOMEM : errno;
    return refused;
}

/* The type of the result, the name, the parameters as declared and as passed on. */
#define REFUSABLE(type, name, declared, passed)            \
    type __real_##name declared;                           \
    type __wrap_##name declared;                           \
    type __wrap_##name declared                            \
    {                                                      \
        check_forks(#name);                                \
        return is_refused() ? NULL : __real_##name passed; \
    }

REFUSABLE(void *, malloc, (size_t size), (size))
REFUSABLE(void *, calloc, (size_t count, size_t size), (count, size))
REFUSABLE(void *, realloc, (void *block, size_t size), (block, size))
REFUSABLE(DIR *, fdopendir, (int descriptor), (descriptor))

int __real_closedir(DIR *stream);
int __wrap_closedir(DIR *stream);
void __real_free(void *block);
void __wrap_free(void *block);
void *__real_mmap(void *at, size_t size, int access, int flags, int file, off_t offset);
void *__wrap_mmap(void *at, size_t size, int access, int flags, int file, off_t offset);

int
__wrap_closedir(DIR *stream)
{
    check_forks("closedir");
    return __real_closedir(stream);
}

void
__wrap_free(void *block)
{
    check_forks("free");
    __real_free(block);
}

/* The kernel's, which no fork waits for. */
void *
__wrap_mmap(void *at, size_t size, int access, int flags, int file, off_t offset)
{
    return is_refused() ? MAP_FAILED : __real_mmap(at, size, access, flags, file, offset);
}

/* ---- Operations ---- */

struct scene {
    struct lock *lock; /* of whom the operation is */
    enum { NOBODY, ANOTHER, DEAD, SELF } owner;
    pid_t other;
    int others_end;
};

static enum outcome
acquire_with_patience(struct scene *scene, struct report *report)
{
    return call(lock_acquire, scene->lock, deadline_in(10 * OS_MILLISECOND), report);
}

static enum outcome
acquire_without(struct scene *scene, struct report *report)
{
    return call(lock_acquire, scene->lock, 0, report);
}

static void let_another_own(struct scene *scene);
static int end_other(struct scene *scene);

/* What was waited for in vain is remembered, or the wait has failed: else the lock of
 * whoever came next would be broken. */
static enum outcome
wait_and_break(struct scene *scene, struct report *report)
{
    enum outcome outcome = acquire_with_patience(scene, report);
    armed = false;
    if (outcome == LOCK_HELD) {
        end_other(scene);
        let_another_own(scene);
        DEMAND(call(lock_break, scene->lock, 0, NULL) == LOCK_FREE, "break_lock failed");
    }
    return outcome;
}

static enum outcome
release(struct scene *scene, struct report *report)
{
    return call(lock_release, scene->lock, 0, report);
}

static enum outcome
break_lock(struct scene *scene, struct report *report)
{
    return call(lock_break, scene->lock, 0, report);
}

static enum outcome
look(struct scene *scene, struct report *report)
{
    return call(lock_look, scene->lock, 0, report);
}

static enum outcome
identify(struct scene *scene, struct report *report)
{
    return call(lock_identify, scene->lock, 0, report);
}

static enum outcome
block(struct scene *scene, struct report *report)
{
    enum outcome outcome = enter(scene->lock, 0, report);
    return outcome == LOCK_OWNED ? leave(scene->lock, report) : outcome;
}

static const struct operation {
    const char *name;
    enum outcome (*run)(struct scene *scene, struct report *report);
    int owner;
    enum outcome success;
} operations[] = {
    {"acquire what is free", acquire_without, NOBODY, LOCK_OWNED},
    {"acquire what is held", acquire_without, ANOTHER, LOCK_HELD},
    {"wait", acquire_with_patience, ANOTHER, LOCK_HELD},
    {"wait, then break", wait_and_break, ANOTHER, LOCK_HELD},
    {"acquire what is stale", acquire_with_patience, DEAD, LOCK_OWNED},
    {"acquire what is mine", acquire_with_patience, SELF, LOCK_OWNED},
    {"release", release, SELF, LOCK_RELEASED},
    {"release what is another's", release, ANOTHER, LOCK_HELD},
    {"break what is another's", break_lock, ANOTHER, LOCK_FREE},
    {"break what is stale", break_lock, DEAD, LOCK_FREE},
    {"break what is mine", break_lock, SELF, LOCK_FREE},
    {"look at what is held", look, ANOTHER, LOCK_HELD},
    {"look at what is stale", look, DEAD, LOCK_STALE},
    {"say who holds", identify, ANOTHER, LOCK_HELD},
    {"a block", block, NOBODY, LOCK_RELEASED},
};

/* ---- Who else is there ---- */

/* A process that acquires, and keeps for as long as the pipe is open. */
static void
let_another_own(struct scene *scene)
{
    int ends[2];
    char byte;
    need(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    int ready[2];
    need(pipe2(ready, O_CLOEXEC) == 0, "pipe");
    scene->other = fork();
    if (scene->other == 0) {
        close(ends[1]);
        if (call(lock_acquire, scene->lock, OS_NEVER, NULL) == LOCK_OWNED) {
            close(ready[1]);
            (void)!read(ends[0], &byte, 1);
            enum outcome outcome = call(lock_release, scene->lock, 0, NULL);
            _exit(outcome == LOCK_RELEASED ? 0 : 10);
        }
        _exit(1);
    }
    need(scene->other > 0, "fork");
    close(ready[1]);
    close(ends[0]);
    (void)!read(ready[0], &byte, 1);
    close(ready[0]);
    scene->others_end = ends[1];
}

/* Its status: 0, or that it did not own any more. */
static int
end_other(struct scene *scene)
{
    int status = 0;
    close(scene->others_end);
    need(waitpid(scene->other, &status, 0) == scene->other, "waitpid");
    return WEXITSTATUS(status);
}

/* What another process sees. */
static enum outcome
see_from_outside(struct lock *lock)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        _exit((int)call(lock_look, lock, 0, NULL));
    }
    need(child > 0 && waitpid(child, &status, 0) == child, "fork");
    return (enum outcome)WEXITSTATUS(status);
}

/* ---- One case ---- */

/* How many descriptors the register has room for, after the first one: see grow_register(). */
static int
begin_register(struct lock *lock)
{
    int first = open("/dev/null", O_RDONLY | O_CLOEXEC);
    need(first >= 0 && close(first) == 0, "open");
    need(call(lock_look, lock, 0, NULL) == LOCK_FREE, "look");
    return 2 * first + 64;
}

/* So that the register has no room for more than the spare ones. */
static void
occupy_numbers(int room)
{
    int last = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (last >= 0 && last < room - 1 - (int)spare) {
        last = dup(last);
    }
    need(last == room - 1 - (int)spare, "dup");
}

static void
check_outcome(const struct operation *operation, struct scene *scene, enum outcome outcome,
              const struct report *report)
{
    bool failed = outcome == LOCK_FAILED;
    DEMAND(outcome == operation->success || failed, "%s", outcome_name(outcome));
    DEMAND(!failed || report->error == ENOMEM, "%s, %s", report->doing, strerror(report->error));
    enum outcome mine = call(lock_look, scene->lock, 0, NULL);
    bool owns = mine == LOCK_OWNED;
    bool expected = failed ? operation->owner == SELF : outcome == LOCK_OWNED;
    DEMAND(owns == expected || (failed && operation->run == break_lock), "%s, and then %s",
           outcome_name(outcome), outcome_name(mine));
    DEMAND(!owns || see_from_outside(scene->lock) == LOCK_HELD, "owned, but not held");
    DEMAND(!failed || operation->run != release || report->owned == owns, "owned or not?");
    if (owns) {
        DEMAND(call(lock_release, scene->lock, 0, NULL) == LOCK_RELEASED, "it is not released");
    }
    if (operation->owner == ANOTHER) {
        bool kept = end_other(scene) == 0, breaks = operation->run == break_lock;
        /* One that fails may have freed the lock, and not removed all of it. */
        DEMAND(breaks ? failed || !kept : kept, "another has %s its lock", kept ? "kept" : "lost");
    }
}

static void
check_that_nothing_is_left(void)
{
    char name[OS_PATH_SIZE];
    DEMAND(count_names(directory, name) == 0, "left: '%s'", name);
}

static void
check_that_it_is_usable(struct lock *lock)
{
    leave_stale(lock);
    DEMAND(call(lock_acquire, lock, deadline_in(OS_SECOND), NULL) == LOCK_OWNED, "not usable");
    DEMAND(call(lock_release, lock, 0, NULL) == LOCK_RELEASED, "not usable");
    check_that_nothing_is_left();
    DEMAND(table_take_last(NULL) == NULL, "something is owned at the end");
}

/* In a process of its own. Returns whether there were so many allocations. */
static bool
run_case(const struct operation *operation, struct lock *lock)
{
    struct scene scene = {.lock = lock, .owner = operation->owner};
    struct report report = {0};
    need(os_begin() == 0, "os_begin");
    int room = begin_register(lock);
    switch (scene.owner) {
    case ANOTHER:
        let_another_own(&scene);
        break;
    case DEAD:
        leave_stale(lock);
        break;
    case SELF:
        need(call(lock_acquire, lock, 0, NULL) == LOCK_OWNED, "acquire");
        break;
    case NOBODY:
        break;
    }
    occupy_numbers(room);
    unsigned own = lock->mechanism == &mkdir_mechanism ? 3 : 2; /* beacon and directories */
    unsigned descriptors =
        count_descriptors() - (scene.owner == ANOTHER) - own * (scene.owner == SELF);
    armed = true;
    enum outcome outcome = operation->run(&scene, &report);
    armed = false;
    check_outcome(operation, &scene, outcome, &report);
    unsigned now = count_descriptors();
    DEMAND(now == descriptors, "%u descriptors, not %u", now, descriptors);
    if (scene.owner == NOBODY) { /* what the dead, and breaks that failed, leave is swept later */
        check_that_nothing_is_left();
    }
    check_that_it_is_usable(lock);
    return allocation >= refused_at;
}

/* What a case ends with. */
enum { REFUSED, DEFECT, NOT_SO_MANY };

static int
begin_case(const struct operation *operation, const struct mechanism *mechanism, bool threaded)
{
    char name[256];
    struct lock *lock = make_lock(mechanism, directory, "README", threaded);
    need(lock != NULL, "allocate");
    snprintf(name, sizeof name, "%s, %s, %s, allocation %u%s, %u spare",
             mechanism == &link_mechanism ? "link" : "mkdir", threaded ? "thread" : "process",
             operation->name, refused_at, persistent ? " and all behind it" : "", spare);
    case_name = name;
    bool reached = run_case(operation, lock);
    lock_drop(lock);
    lock = NULL;
    DEMAND(__lsan_do_recoverable_leak_check() == 0, "memory is lost");
    return defects != 0 ? DEFECT : reached ? REFUSED : NOT_SO_MANY;
}

static int
fork_case(const struct operation *operation, const struct mechanism *mechanism, bool threaded)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        _exit(begin_case(operation, mechanism, threaded));
    }
    need(child > 0 && waitpid(child, &status, 0) == child, "fork");
    return WIFEXITED(status) && WEXITSTATUS(status) <= NOT_SO_MANY ? WEXITSTATUS(status) : DEFECT;
}

/* ---- All of them ---- */

static unsigned cases, failures;

static void
run_all(const struct operation *operation, const struct mechanism *mechanism, bool threaded)
{
    int ended = REFUSED;
    for (refused_at = 1; ended != NOT_SO_MANY && refused_at < 100; refused_at++) {
        ended = fork_case(operation, mechanism, threaded);
        cases += ended != NOT_SO_MANY;
        failures += ended == DEFECT;
    }
}

/* A lock object that cannot be made. */
static void
make_no_lock(void)
{
    case_name = "make a lock";
    armed = true;
    refused_at = 1;
    DEMAND(make_lock(&link_mechanism, directory, "README", true) == NULL, "it was made");
    armed = false;
    cases++;
}

/* A beacon file that cannot be opened for all. */
static void
share_no_beacon_file(void)
{
    struct os_file file;
    struct ground ground;
    char path[OS_PATH_SIZE];
    case_name = "share a beacon file";
    snprintf(path, sizeof path, "%.4000s/database-beacons", directory);
    need(os_begin() == 0, "os_begin");
    unsigned descriptors = count_descriptors();
    for (refused_at = 1; refused_at <= 2; refused_at++, cases++) {
        allocation = 0;
        armed = true;
        DEMAND(beacon_share(path, 0644, true, &file, &ground) == ENOMEM, "%u", refused_at);
        armed = false;
    }
    DEMAND(beacon_share(path, 0644, true, &file, &ground) == 0, "not usable");
    beacon_leave(&file);
    DEMAND(count_descriptors() == descriptors, "a descriptor is lost");
    unlink(path);
}

int
main(int argc, char **argv)
{
    need(argc == 2, "usage: allocation DIRECTORY");
    need(pthread_atfork(NULL, NULL, forget_locks) == 0, "pthread_atfork");
    snprintf(directory, sizeof directory, "%s", argv[1]);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        for (unsigned kind = 0; kind < 12; kind++) {
            persistent = (kind & 1) != 0;
            spare = kind / 4;
            bool threaded = spare != 1;
            run_all(&operations[i], (kind & 2) != 0 ? &mkdir_mechanism : &link_mechanism, threaded);
        }
    }
    persistent = false;
    make_no_lock();
    share_no_beacon_file();
    printf("%u cases\n", cases);
    return failures + defects != 0;
}
