/* Threads in processes that fork, end and are killed, all after the same few locks:
 * never two owners at once, and nothing is left.
 *
 *     driver DIRECTORY SECONDS SEED [THREADS]
 *
 * THREADS: how many a child has; 0: there are no children.
 *
 * Owners mark the time that they own in a word of shared memory, one for each path:
 * from the first instruction after acquire() to the last before release(). Marks are
 * set and cleared by compare-and-swap, so two marked times that overlap are always
 * seen, by one of the two. What overlaps outside of them is seen by release(): nobody
 * else becomes owner unless the lock file was taken away from the first one, who then
 * does not find it, and RELEASED is the only answer that is accepted here.
 *
 * A process that dies leaves its mark. Whoever kills it, or ends, says so in shared
 * memory before; its locks cannot be recovered earlier, since its beacons burn until no
 * thread of it runs any more. So a mark is replaced by the next owner if its process
 * was said to die, and is a defect if not. (An owner that was told to die counts as
 * dead for the microseconds until it is.)
 *
 * Broken locks have two owners rightly, so break_lock() has a path of its own, where
 * only crashes, errors and leftovers are looked for.
 *
 * The marks are relaxed atomics: stronger ones would order the threads, and so hide
 * races from a detector of races. */
#define _GNU_SOURCE
#include "forks.h"
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATHS 2
#define THREADS 4
#define CHILD_THREADS "2"
#define GENERATIONS 2
#define PROCESSES 100000

/* What is counted, to show that it took place. */
enum event {
    HELD,
    READ,
    REFUSED,
    RECOVERED,
    FORKED,
    KILLED,
    ENDED_OWNING,
    BROKEN,
    LOOKED,
    LIT,
    EVENTS
};
static const char *const event_names[EVENTS] = {
    "held",   "shared",       "refused", "recovered", "forks",
    "killed", "ended owning", "breaks",  "looks",     "bytes",
};

static struct {
    _Atomic uint64_t marks[PATHS];
    _Atomic uint64_t events[EVENTS];
    _Atomic unsigned defects;
    _Atomic uint32_t last_process;
    _Atomic bool dying[PROCESSES];
} *shared;

static const struct mechanism *const mechanisms[] = {&link_mechanism, &mkdir_mechanism};
static const char *const path_names[] = {"one", "two"};
/* Where no rename can promise to replace nothing, a lock directory may be stranded by a kill,
 * until break_lock(). */
static unsigned mechanisms_used = 2;

static struct lock *locks[PATHS][2][2]; /* by path, mechanism, threaded */
static struct lock *breakable[2];
static char held_directory[OS_PATH_SIZE], broken_directory[OS_PATH_SIZE];
static char beacon_file[OS_PATH_SIZE];
static unsigned descriptors; /* that were open at the beginning */
static unsigned child_threads;
static uint32_t process; /* this one's number, never reused */
static int64_t end;      /* when this process ends */

/* One thread. */
struct worker {
    unsigned thread; /* its number in its process, from 1 */
    unsigned generation;
    uint64_t random;
    pid_t child; /* 0: none */
    uint32_t child_process;
    int64_t kill_at; /* OS_NEVER: the child ends by itself */
};

static void
note(enum event event)
{
    atomic_fetch_add_explicit(&shared->events[event], 1, memory_order_relaxed);
}

void
defect(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "defect in process %u: %s\n", (unsigned)process, text);
    atomic_fetch_add_explicit(&shared->defects, 1, memory_order_relaxed);
}

static bool
is_over(void)
{
    return os_now() >= end || atomic_load_explicit(&shared->defects, memory_order_relaxed) != 0;
}

/* ---- Chance ---- */

static uint64_t
mix(uint64_t number)
{
    number = (number ^ (number >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    number = (number ^ (number >> 27)) * UINT64_C(0x94D049BB133111EB);
    return number ^ (number >> 31);
}

static unsigned
below(struct worker *worker, unsigned limit)
{
    worker->random += UINT64_C(0x9E3779B97F4A7C15);
    return (unsigned)(mix(worker->random) % limit);
}

static int64_t
choose_patience(struct worker *worker)
{
    static const int64_t patience[] = {0, OS_MILLISECOND, 10 * OS_MILLISECOND, OS_NEVER};
    return patience[below(worker, 4)];
}

/* ---- Marks ---- */

/* The owner in the upper bits; below them, how many threads of it: more than one when
 * the process is the owner. */
#define COUNT_BITS 8
#define THREAD_BITS 8

static uint64_t
owner_mark(const struct worker *worker, bool threaded)
{
    return ((uint64_t)process << THREAD_BITS | (threaded ? worker->thread : 0)) << COUNT_BITS;
}

static bool
is_same_mark(uint64_t one, uint64_t other)
{
    return one >> COUNT_BITS == other >> COUNT_BITS;
}

static bool
is_dying(uint64_t mark)
{
    return atomic_load(&shared->dying[mark >> (COUNT_BITS + THREAD_BITS)]);
}

static void
say_overlap(unsigned path, uint64_t mine, uint64_t other)
{
    defect("two own '%s': process.thread %llx beside %llx", path_names[path],
           (unsigned long long)mine >> COUNT_BITS, (unsigned long long)other >> COUNT_BITS);
}

static bool
swap(unsigned path, uint64_t *old, uint64_t new)
{
    return atomic_compare_exchange_strong_explicit(&shared->marks[path], old, new,
                                                   memory_order_relaxed, memory_order_relaxed);
}

/* What stands there beside the mark of a new owner: nothing; the other threads of the
 * same process, if that owns; or the mark of one who died. */
static bool
may_stand(uint64_t old, uint64_t mine, bool threaded)
{
    return old == 0 || (is_same_mark(old, mine) ? !threaded : is_dying(old));
}

static void
mark(const struct worker *worker, unsigned path, bool threaded)
{
    uint64_t mine = owner_mark(worker, threaded), old = 0;
    while (!swap(path, &old, is_same_mark(old, mine) ? old + 1 : mine + 1)) {
        if (!may_stand(old, mine, threaded)) {
            say_overlap(path, mine, old);
            return;
        }
    }
    note(HELD);
    if (old != 0 && !is_same_mark(old, mine)) {
        note(RECOVERED);
    }
}

static void
unmark(const struct worker *worker, unsigned path, bool threaded)
{
    uint64_t mine = owner_mark(worker, threaded), old = mine + 1;
    while (!swap(path, &old, old == mine + 1 ? 0 : old - 1)) {
        if (!is_same_mark(old, mine)) {
            say_overlap(path, mine, old);
            return;
        }
    }
}

/* ---- Locks ---- */

/* One that all threads share, or one made for this call. */
static struct lock *
borrow(struct worker *worker, unsigned path, bool threaded)
{
    unsigned mechanism = below(worker, mechanisms_used);
    if (below(worker, 2) == 0) {
        return share(locks[path][mechanism][threaded]);
    }
    struct lock *lock =
        make_lock(mechanisms[mechanism], held_directory, path_names[path], threaded);
    need(lock != NULL, "allocate");
    return lock;
}

/* OWNED, HELD; INTERRUPTED: given up, as when a signal's handler raises. */
static enum outcome
acquire(struct worker *worker, struct lock *lock, int64_t patience, bool shares)
{
    struct attempt attempt;
    enum outcome outcome;
    begin(&attempt, lock, deadline_in(patience));
    attempt.shares = shares;
    do {
        outcome = lock_run(&attempt, lock_acquire);
    } while (outcome == LOCK_INTERRUPTED && below(worker, 8) != 0);
    attempt_end(&attempt);
    DEMAND(outcome != LOCK_FAILED, "acquire: %s, %s", attempt.report.doing,
           strerror(attempt.report.error));
    DEMAND(outcome != LOCK_HELD || patience != OS_NEVER, "acquire that waits for ever gives up");
    return outcome;
}

static void
look_around(struct worker *worker)
{
    struct report report;
    unsigned path = below(worker, PATHS);
    bool threaded = below(worker, 2) == 0;
    struct lock *lock = borrow(worker, path, threaded);
    enum outcome outcome =
        call(below(worker, 2) == 0 ? lock_look : lock_identify, lock, 0, &report);
    DEMAND(outcome != LOCK_FAILED, "look: %s, %s", report.doing, strerror(report.error));
    DEMAND(outcome != LOCK_OWNED || !threaded, "a thread owns what it has not acquired");
    lock_drop(lock);
    note(LOOKED);
}

static void
check_names(struct lock *lock)
{
    struct attempt attempt;
    char name[NAME_SIZE], file[OS_PATH_SIZE];
    struct name parsed;
    struct stat status;
    begin(&attempt, lock, 0);
    lock_unique_name(&attempt, name);
    int descriptor = lock_descriptor(&attempt);
    attempt_end(&attempt);
    DEMAND(proof_read_name(name, &parsed) && parsed.process == getpid(), "its name is '%s'", name);
    /* Whichever mechanism made it. */
    bool inside = stat(lock->lock_file, &status) == 0 && S_ISDIR(status.st_mode);
    snprintf(file, sizeof file, "%.3000s/%s", inside ? lock->lock_file : held_directory, name);
    DEMAND(stat(file, &status) == 0, "there is no unique file '%s'", file);
    ino_t number = status.st_ino;
    DEMAND(fstat(descriptor, &status) == 0 && status.st_ino == number, "that is not the beacon");
}

static void begin_child(struct worker *worker);

/* What an owner may do; in_block: it is in a with block. */
static void
stay(struct worker *worker, unsigned path, struct lock *lock, bool in_block)
{
    struct report report;
    struct lock *other = borrow(worker, path, !lock_is_common(lock));
    switch (below(worker, 8)) {
    case 0:
        DEMAND(call(lock_look, other, 0, NULL) == LOCK_OWNED, "the owner does not own");
        break;
    case 1:
        DEMAND(call(lock_identify, other, 0, &report) == LOCK_OWNED &&
                   report.holder.name.process == getpid(),
               "the owner is another");
        break;
    case 2:
        check_names(lock);
        break;
    case 3:
        DEMAND(call(lock_acquire, other, 0, NULL) == LOCK_OWNED, "the owner does not own again");
        break;
    case 4:
        if (in_block) {
            DEMAND(enter(other, 0, NULL) == LOCK_OWNED, "the owner cannot enter again");
            DEMAND(leave(other, NULL) == LOCK_RELEASED, "an inner block does not end");
        }
        break;
    case 5:
        begin_child(worker);
        break;
    default:
        os_pause((int64_t)below(worker, 2000) * 1000);
    }
    lock_drop(other);
}

/* Threads whose process is the owner come and go in with blocks: a plain release() of
 * one would unlock for all. */
static void
hold(struct worker *worker)
{
    unsigned path = below(worker, PATHS);
    bool threaded = below(worker, 3) != 0;
    bool in_block = !threaded || below(worker, 2) == 0;
    struct report report;
    struct lock *lock = borrow(worker, path, threaded);
    int64_t patience = choose_patience(worker);
    enum outcome outcome = in_block ? enter(lock, deadline_in(patience), &report)
                                    : acquire(worker, lock, patience, false);
    if (outcome == LOCK_OWNED) {
        mark(worker, path, threaded);
        stay(worker, path, lock, in_block);
        unmark(worker, path, threaded);
        outcome = in_block ? leave(lock, &report) : call(lock_release, lock, 0, &report);
        DEMAND(outcome == LOCK_RELEASED, "release: %s, %s, %s", outcome_name(outcome),
               outcome == LOCK_FAILED ? report.doing : "-", strerror(report.error));
    } else {
        DEMAND(outcome != LOCK_FAILED || !in_block, "entering a block: %s, %s", report.doing,
               strerror(report.error));
        note(REFUSED);
    }
    lock_drop(lock);
}

static void
check_no_writer(unsigned path)
{
    uint64_t found = atomic_load_explicit(&shared->marks[path], memory_order_relaxed);
    DEMAND(found == 0 || is_dying(found), "one owns '%s' alone beside a reader", path_names[path]);
}

/* Readers set no marks; some have had it alone before. */
static void
hold_shared(struct worker *worker)
{
    unsigned path = below(worker, PATHS);
    bool alone = below(worker, 3) == 0;
    struct lock *lock = borrow(worker, path, true);
    enum outcome outcome = acquire(worker, lock, choose_patience(worker), !alone);
    if (outcome == LOCK_OWNED && alone) {
        outcome = call(lock_downgrade, lock, 0, NULL);
        DEMAND(outcome == LOCK_OWNED, "no downgrade: %s", outcome_name(outcome));
    }
    if (outcome == LOCK_OWNED) {
        check_no_writer(path);
        begin_child(worker);
        os_pause((int64_t)below(worker, 2000) * 1000);
        check_no_writer(path);
        DEMAND(call(lock_release, lock, 0, NULL) == LOCK_RELEASED, "a reader does not leave");
        note(READ);
    }
    lock_drop(lock);
}

/* All may happen there, but no other error than that a break_lock(), or the releases,
 * took turns for too long. */
static enum outcome
call_breakable(lock_operation *operation, struct lock *lock, int64_t patience, bool *owned)
{
    struct report report;
    enum outcome outcome = call(operation, lock, deadline_in(patience), &report);
    DEMAND(outcome != LOCK_FAILED || report.error == EWOULDBLOCK, "breakable: %s, %s", report.doing,
           strerror(report.error));
    *owned = outcome == LOCK_OWNED || (outcome == LOCK_FAILED && report.owned);
    return outcome;
}

static void
hold_breakable(struct worker *worker)
{
    struct lock *lock = share(breakable[below(worker, 2)]);
    bool owned, ignored;
    enum outcome outcome = call_breakable(lock_acquire, lock, OS_MILLISECOND, &owned);
    if (outcome == LOCK_HELD || below(worker, 4) == 0) {
        call_breakable(lock_break, lock, 0, &ignored);
        note(BROKEN);
    }
    while (owned) {
        call_breakable(lock_release, lock, 0, &owned);
    }
    lock_drop(lock);
}

/* ---- Processes ---- */

static void *work(void *context);

static void
run_threads(struct worker *first, unsigned number)
{
    struct forks_thread threads[THREADS];
    struct worker workers[THREADS];
    for (unsigned i = 1; i < number; i++) {
        uint64_t random = mix(first->random + i);
        workers[i] = (struct worker){i + 1, first->generation, random, 0, 0, OS_NEVER};
        need(forks_thread_create(&threads[i], work, &workers[i]), "thread");
    }
    work(first);
    for (unsigned i = 1; i < number; i++) {
        forks_thread_join(&threads[i]);
    }
}

/* A child has none of its parent's descriptors, and owns nothing. */
static void
check_birth(void)
{
    unsigned now = count_descriptors();
    DEMAND(now == descriptors, "a child is born with %u descriptors, not %u", now, descriptors);
    DEMAND(table_take_last(NULL) == NULL, "a child is born as an owner");
    for (unsigned path = 0; path < PATHS; path++) {
        struct lock *lock = locks[path][0][1];
        DEMAND(call(lock_look, lock, 0, NULL) != LOCK_OWNED, "a child owns its parent's lock");
        DEMAND(call(lock_release, lock, 0, NULL) != LOCK_RELEASED, "a child has released it");
    }
}

static void
check_end(void)
{
    unsigned now = count_descriptors();
    DEMAND(table_take_last(NULL) == NULL, "something is owned at the end");
    DEMAND(now == descriptors, "%u descriptors are open at the end, not %u", now, descriptors);
}

static _Noreturn void
end_owning(struct worker *worker)
{
    unsigned path = below(worker, PATHS);
    struct lock *lock = locks[path][below(worker, mechanisms_used)][1];
    if (call(lock_acquire, lock, OS_NEVER, NULL) == LOCK_OWNED) {
        mark(worker, path, true);
        note(ENDED_OWNING);
    }
    atomic_store(&shared->dying[process], true);
    _exit(0);
}

static _Noreturn void
live(struct worker *worker, uint32_t number)
{
    process = number;
    *worker =
        (struct worker){1, worker->generation + 1, mix(worker->random + number), 0, 0, OS_NEVER};
    check_birth();
    int64_t life = (int64_t)below(worker, 100) * OS_MILLISECOND;
    bool ends_owning = below(worker, 3) == 0;
    end = os_now() + life < end ? os_now() + life : end;
    run_threads(worker, worker->generation == 1 ? child_threads : 1);
    if (ends_owning) {
        end_owning(worker);
    }
    check_end();
    _exit(0);
}

static void
begin_child(struct worker *worker)
{
    if (child_threads == 0 || worker->child != 0 || worker->generation == GENERATIONS) {
        return;
    }
    uint32_t number = atomic_fetch_add(&shared->last_process, 1) + 1;
    if (number >= PROCESSES) {
        return;
    }
    bool kill = below(worker, 2) == 0;
    int64_t life = (int64_t)below(worker, 60) * OS_MILLISECOND;
    pid_t child = fork();
    if (child == 0) {
        live(worker, number);
    }
    need(child > 0, "fork");
    note(FORKED);
    worker->child = child;
    worker->child_process = number;
    worker->kill_at = kill ? os_now() + life : OS_NEVER;
}

static void
check_status(int status, bool killed)
{
    DEMAND(status == 0 || (killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL),
           "a child ended with status %x", (unsigned)status);
}

static void
mind_child(struct worker *worker, bool wait)
{
    if (worker->child == 0) {
        return;
    }
    int status;
    bool kills = os_now() >= worker->kill_at;
    if (kills) {
        atomic_store(&shared->dying[worker->child_process], true);
        kill(worker->child, SIGKILL);
        note(KILLED);
    }
    pid_t ended;
    do {
        ended = waitpid(worker->child, &status, wait || kills ? 0 : WNOHANG);
    } while (ended < 0 && errno == EINTR);
    if (ended > 0) {
        check_status(status, kills);
        worker->child = 0;
    }
}

/* Those whose parents were killed are ours now; some may have been killed by theirs. */
static void
reap_orphans(void)
{
    int status;
    pid_t ended;
    while ((ended = waitpid(-1, &status, 0)) > 0 || errno == EINTR) {
        if (ended > 0) {
            check_status(status, true);
        }
    }
}

static void *
work(void *context)
{
    struct worker *worker = context;
    while (!is_over()) {
        mind_child(worker, false);
        switch (below(worker, 20)) {
        case 0:
        case 1:
            look_around(worker);
            break;
        case 2:
            hold_breakable(worker);
            break;
        case 3:
            if (os_locks_bytes) {
                light_byte(beacon_file);
                note(LIT);
            }
            break;
        case 4:
            begin_child(worker);
            break;
        case 5:
            kill(getpid(), SIGUSR1); /* to any of its threads */
            break;
        case 6:
        case 7:
        case 8:
        case 9:
            if (os_can_share) {
                hold_shared(worker);
            }
            break;
        default:
            hold(worker);
        }
    }
    mind_child(worker, true);
    return NULL;
}

/* ---- From beginning to end ---- */

static void
do_nothing(int signal)
{
    (void)signal;
}

static void
prepare(const char *directory)
{
    size_t size = sizeof *shared;
    shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(shared != MAP_FAILED, "mmap");
    need(forks_begin() && os_begin() == 0, "os_begin");
    need(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = do_nothing}, NULL) == 0, "signal");
    need(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 || getpid() == 1, "prctl");
    snprintf(held_directory, OS_PATH_SIZE, "%s/held", directory);
    snprintf(broken_directory, OS_PATH_SIZE, "%s/broken", directory);
    need(mkdir(held_directory, 0755) == 0 && mkdir(broken_directory, 0755) == 0, "mkdir");
    if (os_rename_is_unsupported(os_rename(&os_anywhere, held_directory, broken_directory))) {
        mechanisms_used = 1;
    }
    snprintf(beacon_file, OS_PATH_SIZE, "%s/database-beacons", directory);
    for (unsigned i = 0; i < PATHS * 4; i++) {
        locks[i / 4][i / 2 % 2][i % 2] =
            make_lock(mechanisms[i / 2 % 2], held_directory, path_names[i / 4], i % 2 == 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        breakable[i] = make_lock(mechanisms[i], broken_directory, "three", true);
    }
    process = atomic_fetch_add(&shared->last_process, 1) + 1;
    descriptors = count_descriptors();
}

/* What the killed have left is swept away when a stale lock is recovered. */
static void
recover(struct lock *lock)
{
    leave_stale(lock);
    DEMAND(call(lock_acquire, lock, OS_NEVER, NULL) == LOCK_OWNED, "it is not recovered");
    DEMAND(call(lock_release, lock, 0, NULL) == LOCK_RELEASED, "it is not released");
}

static void
check_that_nothing_is_left(const char *directory)
{
    char name[OS_PATH_SIZE];
    DEMAND(count_names(directory, name) == 0, "left in %s: '%s'", directory, name);
}

static void
break_stranded(void)
{
    bool ignored;
    if (mechanisms_used == 1) {
        call_breakable(lock_break, breakable[0], 0, &ignored);
    }
}

static void
finish(void)
{
    recover(locks[0][0][1]);
    recover(locks[1][1][0]);
    break_stranded();
    recover(breakable[0]);
    check_that_nothing_is_left(held_directory);
    check_that_nothing_is_left(broken_directory);
    check_end();
    for (unsigned i = 0; i < PATHS * 4; i++) {
        lock_drop(locks[i / 4][i / 2 % 2][i % 2]);
        locks[i / 4][i / 2 % 2][i % 2] = NULL;
    }
    for (unsigned i = 0; i < 2; i++) {
        lock_drop(breakable[i]);
        breakable[i] = NULL;
    }
}

static void
tell(void)
{
    for (unsigned event = 0; event < EVENTS; event++) {
        printf("%s%llu %s", event > 0 ? ", " : "", (unsigned long long)shared->events[event],
               event_names[event]);
    }
    printf("\n");
}

int
main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: driver DIRECTORY SECONDS SEED [THREADS]\n");
        return 2;
    }
    prepare(argv[1]);
    end = os_now() + (int64_t)(atof(argv[2]) * (double)OS_SECOND);
    child_threads = (unsigned)atoi(argc > 4 ? argv[4] : CHILD_THREADS);
    struct worker first = {.thread = 1, .random = mix(strtoull(argv[3], NULL, 10))};
    first.kill_at = OS_NEVER;
    run_threads(&first, THREADS);
    reap_orphans();
    finish();
    forks_end();
    tell();
    return shared->defects != 0;
}
