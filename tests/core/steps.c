/* Locks that are acquired step by step, by who has a descriptor to poll, a deadline and nothing
 * else: several owners in one thread, as tasks or greenlets are.
 *
 *     steps DIRECTORY
 *
 * No step sleeps, nor holds off signals: the linker's --wrap leads here whatever could. And here
 * it is refused to rename, where a scene wants it. */
#define _GNU_SOURCE
#include "support.h"

#include "mechanisms/files/place.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct mechanism *mechanism; /* each in turn */
static char directory[OS_PATH_SIZE], other_directory[OS_PATH_SIZE];
static const char *scene;
static unsigned defects, checks;
static bool in_step, as_on_a_network;

void
defect(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "defect, %s, %s: %s\n", mechanism == &link_mechanism ? "link" : "mkdir", scene,
            text);
    defects++;
}

/* ---- What no step does ---- */

void __real_os_pause(int64_t nanoseconds);
void __wrap_os_pause(int64_t nanoseconds);
int __real_os_wait(int descriptor, int64_t nanoseconds, const struct os_signals *signals);
int __wrap_os_wait(int descriptor, int64_t nanoseconds, const struct os_signals *signals);
void __real_os_mutex_wait_until(int64_t time);
void __wrap_os_mutex_wait_until(int64_t time);
void __real_os_signals_hold(struct os_signals *signals);
void __wrap_os_signals_hold(struct os_signals *signals);

void
__wrap_os_pause(int64_t nanoseconds)
{
    DEMAND(!in_step, "a step pauses");
    __real_os_pause(nanoseconds);
}

int
__wrap_os_wait(int descriptor, int64_t nanoseconds, const struct os_signals *signals)
{
    DEMAND(!in_step, "a step waits");
    return __real_os_wait(descriptor, nanoseconds, signals);
}

void
__wrap_os_mutex_wait_until(int64_t time)
{
    DEMAND(!in_step, "a step waits for the table");
    __real_os_mutex_wait_until(time);
}

void
__wrap_os_signals_hold(struct os_signals *signals)
{
    DEMAND(!in_step, "a step holds off signals");
    __real_os_signals_hold(signals);
}

/* ---- What a network file system does ---- */

int __real_os_rename(const struct os_file *place, const char *from, const char *to);
int __wrap_os_rename(const struct os_file *place, const char *from, const char *to);
int __real_os_unlink(const struct os_file *place, const char *name);
int __wrap_os_unlink(const struct os_file *place, const char *name);

/* It cannot promise to replace nothing. */
int
__wrap_os_rename(const struct os_file *place, const char *from, const char *to)
{
    return as_on_a_network ? EINVAL : __real_os_rename(place, from, to);
}

/* What another has open stays, by a name that only the network file system removes. */
int
__wrap_os_unlink(const struct os_file *place, const char *name)
{
    bool stays = as_on_a_network && strncmp(name, ".nfs", 4) == 0;
    return stays ? EBUSY : __real_os_unlink(place, name);
}

static void
name_kept_file(const struct lock *lock, char name[OS_PATH_SIZE])
{
    snprintf(name, OS_PATH_SIZE, "%.4000s/.nfs0001", lock->lock_file);
}

static void
keep_open(const struct lock *lock)
{
    char name[OS_PATH_SIZE];
    name_kept_file(lock, name);
    int descriptor = open(name, O_CREAT | O_WRONLY, 0644);
    need(descriptor >= 0 && close(descriptor) == 0, name);
}

static void
keep_no_longer(const struct lock *lock)
{
    char name[OS_PATH_SIZE];
    name_kept_file(lock, name);
    need(unlink(name) == 0, name);
}

/* ---- Owners, in one thread ---- */

static struct owner
owner_number(uint64_t number)
{
    uint64_t caller = UINT64_C(1000000) + number;
    return (struct owner){caller, caller, os_lowest_thread + number, OWNER_TASK};
}

static struct lock *
new_lock(const char *name)
{
    struct lock *lock = make_lock(mechanism, directory, name, true);
    need(lock != NULL, "allocate");
    return lock;
}

static enum outcome
step(struct attempt *attempt, lock_operation *operation)
{
    in_step = true;
    enum outcome outcome = operation(attempt);
    in_step = false;
    return outcome;
}

/* Until the descriptor is readable, or it is time. */
static void
sleep_in_its_own_way(const struct waiter *wait)
{
    int64_t left = wait_until(wait) - os_now();
    int64_t milliseconds = left > 0 ? left / OS_MILLISECOND + 1 : 0;
    struct pollfd polled = {.fd = wait_descriptor(wait), .events = POLLIN};
    poll(&polled, 1, milliseconds < 1000 ? (int)milliseconds : 1000);
}

static enum outcome
drive(struct attempt *attempt, lock_operation *operation)
{
    enum outcome outcome;
    while ((outcome = step(attempt, operation)) == LOCK_WAITING) {
        sleep_in_its_own_way(&attempt->wait);
    }
    return outcome;
}

static void
expect(struct attempt *attempt, lock_operation *operation, enum outcome expected)
{
    enum outcome outcome = drive(attempt, operation);
    DEMAND(outcome == expected, "%s, not %s (%s, %s)", outcome_name(outcome),
           outcome_name(expected), attempt->report.doing != NULL ? attempt->report.doing : "-",
           strerror(attempt->report.error));
    checks++;
}

/* For that, once it has waited for nothing and for moments. */
static void
expect_waiting(struct attempt *attempt, lock_operation *operation, enum wait_kind kind)
{
    enum outcome outcome;
    while ((outcome = step(attempt, operation)) == LOCK_WAITING && attempt->wait.kind != kind &&
           attempt->wait.kind <= WAIT_FOR_MOMENT) {
        sleep_in_its_own_way(&attempt->wait);
    }
    DEMAND(outcome == LOCK_WAITING && attempt->wait.kind == kind, "%s, for %d, not %d",
           outcome_name(outcome), attempt->wait.kind, kind);
    checks++;
}

/* One call, from beginning to end. */
static void
let(struct lock *lock, uint64_t number, lock_operation *operation, enum outcome expected)
{
    struct attempt attempt;
    attempt_begin(&attempt, lock, owner_number(number), 0);
    expect(&attempt, operation, expected);
    attempt_end(&attempt);
}

/* ---- Scenes ---- */

static void
acquire_what_is_free(void)
{
    struct lock *lock = new_lock("README");
    let(lock, 1, lock_acquire, LOCK_OWNED);
    let(lock, 1, lock_look, LOCK_OWNED);
    let(lock, 2, lock_look, LOCK_HELD);
    let(lock, 2, lock_acquire, LOCK_HELD);
    let(lock, 2, lock_release, LOCK_HELD);
    let(lock, 1, lock_release, LOCK_RELEASED);
    let(lock, 1, lock_release, LOCK_FREE);
    lock_drop(lock);
}

static void
time_runs_out(void)
{
    struct lock *lock = new_lock("README");
    struct attempt waiter;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    attempt_begin(&waiter, lock, owner_number(2), OS_NEVER);
    expect_waiting(&waiter, lock_acquire, WAIT_FOR_CHANGE);
    waiter.wait.deadline = deadline_in(20 * OS_MILLISECOND); /* from here, on a slow machine, too */
    expect(&waiter, lock_acquire, LOCK_HELD);
    attempt_end(&waiter);
    let(lock, 2, lock_break, LOCK_FREE); /* what it has waited for */
    let(lock, 1, lock_release, LOCK_FREE);
    lock_drop(lock);
}

/* Each of two that wait gets its turn, and who has just released lets the other in. */
static void
take_turns(void)
{
    struct lock *lock = new_lock("README");
    struct attempt one, other;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    attempt_begin(&other, lock, owner_number(2), OS_NEVER);
    expect_waiting(&other, lock_acquire, WAIT_FOR_CHANGE);
    DEMAND(step(&other, lock_acquire) == LOCK_WAITING, "it does not wait on");
    let(lock, 1, lock_release, LOCK_RELEASED);
    attempt_begin(&one, lock, owner_number(1), OS_NEVER);
    enum outcome outcome = step(&one, lock_acquire);
    /* Unless this process was stopped for longer than courtesy lasts. */
    if (outcome == LOCK_WAITING) {
        expect(&other, lock_acquire, LOCK_OWNED);
        expect_waiting(&one, lock_acquire, WAIT_FOR_CHANGE);
        let(lock, 2, lock_release, LOCK_RELEASED);
        expect(&one, lock_acquire, LOCK_OWNED);
    } else {
        DEMAND(outcome == LOCK_OWNED, "%s", outcome_name(outcome));
    }
    attempt_end(&other);
    attempt_end(&one);
    let(lock, 1, lock_release, LOCK_RELEASED);
    lock_drop(lock);
}

static void
recover_what_is_stale(void)
{
    struct lock *lock = new_lock("README");
    leave_stale(lock);
    let(lock, 1, lock_acquire, LOCK_OWNED);
    let(lock, 1, lock_release, LOCK_RELEASED);
    lock_drop(lock);
}

/* A task that is cancelled: nothing is left of its wait. */
static void
give_up_in_the_middle(void)
{
    struct lock *lock = new_lock("README");
    struct attempt waiter;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    attempt_begin(&waiter, lock, owner_number(2), OS_NEVER);
    expect_waiting(&waiter, lock_acquire, WAIT_FOR_CHANGE);
    attempt_end(&waiter);
    let(lock, 1, lock_release, LOCK_RELEASED);
    lock_drop(lock);
}

/* Another call of the same owner, in another thread, say, uses the claim. */
static void
wait_for_another_call(void)
{
    struct lock *lock = new_lock("README");
    struct attempt looker;
    struct claim *claim = NULL;
    uint64_t changes;
    struct owner owner = owner_number(1), same = owner;
    same.caller++;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    need(table_take(lock_name(lock), same, &claim, &changes) == TABLE_TAKEN, "take");
    attempt_begin(&looker, lock, owner, 0);
    expect_waiting(&looker, lock_look, WAIT_FOR_CALL);
    table_keep(claim);
    expect(&looker, lock_look, LOCK_OWNED);
    attempt_end(&looker);
    let(lock, 1, lock_release, LOCK_RELEASED);
    lock_drop(lock);
}

static void
begin_a_break(struct os_file *breaker)
{
    need(os_open_directory(directory, breaker) == 0 && os_flock(breaker, OS_EXCLUSIVE) == 0 &&
             (os_mark(breaker, OS_BREAKER) == 0 || !os_locks_bytes),
         "break");
}

/* Where there are no marks, it is the directory's flock that keeps the two off each other. */
static void
begin_a_removal(struct os_file *remover)
{
    need(os_open_directory(directory, remover) == 0, "open");
    need((os_locks_bytes ? os_mark(remover, OS_REMOVER) : os_flock(remover, OS_SHARED)) == 0,
         "removal");
}

/* A break_lock() is at work in the directory, and then gives up. */
static void
wait_for_a_break(void)
{
    struct lock *lock = new_lock("README");
    struct attempt releaser;
    struct os_file breaker;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    begin_a_break(&breaker);
    attempt_begin(&releaser, lock, owner_number(1), 0);
    expect_waiting(&releaser, lock_release, WAIT_FOR_MOMENT);
    let(lock, 2, lock_look, LOCK_HELD);
    os_close(&breaker);
    expect(&releaser, lock_release, LOCK_RELEASED);
    attempt_end(&releaser);
    lock_drop(lock);
}

/* A release that is given up: the lock is owned still, and can be released. */
static void
give_up_a_release(void)
{
    struct lock *lock = new_lock("README");
    struct attempt releaser;
    struct os_file breaker;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    begin_a_break(&breaker);
    attempt_begin(&releaser, lock, owner_number(1), 0);
    expect_waiting(&releaser, lock_release, WAIT_FOR_MOMENT);
    attempt_end(&releaser);
    os_close(&breaker);
    let(lock, 1, lock_look, LOCK_OWNED);
    let(lock, 1, lock_release, LOCK_RELEASED);
    lock_drop(lock);
}

/* A removal is in course, and then another: break_lock() waits for it, and keeps off new ones. */
static void
break_beside_a_removal(void)
{
    struct lock *lock = new_lock("README"), *other = new_lock("OTHER");
    struct attempt breaker;
    struct os_file remover;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    let(other, 1, lock_acquire, LOCK_OWNED);
    begin_a_removal(&remover);
    attempt_begin(&breaker, lock, owner_number(2), 0);
    expect_waiting(&breaker, lock_break, WAIT_FOR_MOMENT);
    os_close(&remover);
    expect(&breaker, lock_break, LOCK_FREE);
    attempt_end(&breaker);
    let(lock, 1, lock_release, LOCK_FREE);
    let(other, 1, lock_release, LOCK_RELEASED); /* nobody keeps it off any more */
    lock_drop(lock);
    lock_drop(other);
}

/* Another call of the owner uses what is broken: break_lock() leaves nothing of it, all the same.
 */
static void
break_beside_another_call(void)
{
    struct lock *lock = new_lock("README");
    struct attempt breaker;
    struct claim *claim = NULL;
    uint64_t changes;
    struct owner same = owner_number(1);
    same.caller += 100;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    need(table_take(lock_name(lock), same, &claim, &changes) == TABLE_TAKEN, "take");
    attempt_begin(&breaker, lock, owner_number(2), 0);
    expect_waiting(&breaker, lock_break, WAIT_FOR_CALL);
    let(lock, 3, lock_look, LOCK_FREE);
    table_keep(claim);
    expect(&breaker, lock_break, LOCK_FREE);
    attempt_end(&breaker);
    let(lock, 1, lock_release, LOCK_FREE);
    lock_drop(lock);
}

/* ---- What the program does in between ---- */

#define NUMBERS 64

static bool taken[NUMBERS];

/* It closes what it does not know, and opens another directory at the same numbers. */
static void
take_numbers(struct attempt *attempt)
{
    struct files_place *place = place_of(attempt);
    const struct os_file *files[] = {&place->directory, &place->found, &place->beacon};
    int other = open(other_directory, O_RDONLY | O_DIRECTORY);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int number = files[i]->descriptor;
        if (!os_is_none(files[i]) && os_is_open(files[i])) {
            need(number < NUMBERS && dup2(other, number) == number, "dup2");
            taken[number] = true;
        }
    }
    need(close(other) == 0, "close");
}

static void
close_taken_numbers(void)
{
    for (int number = 0; number < NUMBERS; number++) {
        need(!taken[number] || close(number) == 0, "somebody closed what is not his");
        taken[number] = false;
    }
}

/* After each step; to the end, or until it waits for a change. */
static enum outcome
acquire_with_numbers_taken(struct attempt *attempt, bool to_the_end)
{
    enum outcome outcome;
    bool goes_on = true;
    while (goes_on) {
        sleep_in_its_own_way(&attempt->wait);
        outcome = step(attempt, lock_acquire);
        take_numbers(attempt);
        goes_on = outcome == LOCK_WAITING && (to_the_end || attempt->wait.kind != WAIT_FOR_CHANGE);
    }
    return outcome;
}

static void
lose_numbers(void)
{
    char name[OS_PATH_SIZE];
    struct lock *lock = new_lock("README");
    struct attempt waiter;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    attempt_begin(&waiter, lock, owner_number(2), OS_NEVER);
    enum outcome outcome = acquire_with_numbers_taken(&waiter, false);
    DEMAND(outcome == LOCK_WAITING, "%s, while another owns", outcome_name(outcome));
    let(lock, 1, lock_look, LOCK_OWNED);
    let(lock, 1, lock_release, LOCK_RELEASED);
    outcome = acquire_with_numbers_taken(&waiter, true);
    DEMAND(outcome == LOCK_OWNED, "%s, and nobody owns", outcome_name(outcome));
    attempt_end(&waiter);
    DEMAND(count_names(other_directory, name) == 0, "made elsewhere: '%s'", name);
    close_taken_numbers();
    let(lock, 2, lock_release, LOCK_RELEASED);
    lock_drop(lock);
}

/* What a child does is not undone by its end, and its memory is looked at by sanitizers. */
static void
in_child(void (*act)(struct attempt *attempt), struct attempt *attempt)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        defects = 0;
        act(attempt);
        _exit(defects != 0);
    }
    need(child > 0, "fork");
    while (waitpid(child, &status, 0) < 0) {
    }
    DEMAND(status == 0, "a child ended with status %x", (unsigned)status);
    checks++;
}

/* Locks that come and go use the memory again that was the parent's claims'. */
static void
use_another_lock(void)
{
    struct lock *lock = new_lock("OTHER");
    let(lock, 4, lock_acquire, LOCK_OWNED);
    let(lock, 4, lock_release, LOCK_RELEASED);
    lock_drop(lock);
}

static void
end_at_once(struct attempt *attempt)
{
    use_another_lock();
    attempt_end(attempt);
    use_another_lock();
}

static void
go_on_acquiring(struct attempt *attempt)
{
    use_another_lock();
    expect_waiting(attempt, lock_acquire, WAIT_FOR_CHANGE);
    end_at_once(attempt);
}

static void
look_and_end(struct attempt *attempt)
{
    let(attempt->lock, 4, lock_look, LOCK_HELD);
    attempt_end(attempt);
}

static void
go_on_releasing(struct attempt *attempt)
{
    struct lock *lock = attempt->lock;
    expect(attempt, lock_release, LOCK_HELD);
    attempt_end(attempt);
    let(lock, 1, lock_look, LOCK_HELD);
}

static void
fork_while_acquiring(void)
{
    struct lock *lock = new_lock("README");
    struct attempt waiter;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    attempt_begin(&waiter, lock, owner_number(2), OS_NEVER);
    while (step(&waiter, lock_acquire) == LOCK_WAITING && waiter.wait.kind == WAIT_FOR_NOTHING) {
        in_child(end_at_once, &waiter);
        in_child(go_on_acquiring, &waiter);
    }
    in_child(end_at_once, &waiter);
    in_child(go_on_acquiring, &waiter);
    let(lock, 1, lock_release, LOCK_RELEASED);
    expect(&waiter, lock_acquire, LOCK_OWNED);
    attempt_end(&waiter);
    let(lock, 2, lock_release, LOCK_RELEASED);
    lock_drop(lock);
}

static void
fork_while_releasing(void)
{
    struct lock *lock = new_lock("README");
    struct attempt releaser;
    struct os_file breaker;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    begin_a_break(&breaker);
    attempt_begin(&releaser, lock, owner_number(1), 0);
    expect_waiting(&releaser, lock_release, WAIT_FOR_MOMENT);
    in_child(look_and_end, &releaser);
    in_child(go_on_releasing, &releaser);
    os_close(&breaker);
    expect(&releaser, lock_release, LOCK_RELEASED);
    attempt_end(&releaser);
    lock_drop(lock);
}

/* ---- The lock directory is empty, but for what somebody has open yet ---- */

static void
give_up_a_removal(void)
{
    struct lock *lock = new_lock("README");
    struct attempt releaser, waiter;
    as_on_a_network = true;
    let(lock, 1, lock_acquire, LOCK_OWNED);
    keep_open(lock);
    attempt_begin(&releaser, lock, owner_number(1), 0);
    expect_waiting(&releaser, lock_release, WAIT_FOR_MOMENT);
    keep_no_longer(lock);
    attempt_end(&releaser);
    let(lock, 1, lock_look, LOCK_FREE);
    leave_stale(lock);
    keep_open(lock);
    attempt_begin(&waiter, lock, owner_number(2), OS_NEVER);
    expect_waiting(&waiter, lock_acquire, WAIT_FOR_MOMENT);
    keep_no_longer(lock);
    attempt_end(&waiter);
    as_on_a_network = false;
    lock_drop(lock);
}

/* ---- All of them ---- */

static const struct {
    const char *name;
    void (*play)(void);
    bool directories; /* only where lock files are such */
} scenes[] = {
    {"acquire what is free", acquire_what_is_free, false},
    {"time runs out", time_runs_out, false},
    {"take turns", take_turns, false},
    {"recover what is stale", recover_what_is_stale, false},
    {"give up in the middle", give_up_in_the_middle, false},
    {"wait for another call", wait_for_another_call, false},
    {"wait for a break", wait_for_a_break, false},
    {"give up a release", give_up_a_release, false},
    {"break beside a removal", break_beside_a_removal, false},
    {"break beside another call", break_beside_another_call, false},
    {"lose numbers", lose_numbers, false},
    {"fork while acquiring", fork_while_acquiring, false},
    {"fork while releasing", fork_while_releasing, false},
    {"give up a removal", give_up_a_removal, true},
};

static void
play(size_t number)
{
    char name[OS_PATH_SIZE];
    scene = scenes[number].name;
    unsigned before = count_descriptors();
    scenes[number].play();
    unsigned after = count_descriptors();
    DEMAND(after == before, "%u descriptors, not %u", after, before);
    DEMAND(table_take_last(NULL) == NULL, "something is owned");
    DEMAND(count_names(directory, name) == 0, "left: '%s'", name);
    checks++;
}

int
main(int argc, char **argv)
{
    need(argc == 2 && argv[1][0] == '/' && os_begin() == 0, "usage: steps DIRECTORY");
    snprintf(directory, sizeof directory, "%.4000s/place", argv[1]);
    snprintf(other_directory, sizeof other_directory, "%.4000s/other", argv[1]);
    need(mkdir(directory, 0755) == 0 && mkdir(other_directory, 0755) == 0, "mkdir");
    for (int i = 0; i < 2; i++) {
        mechanism = i == 0 ? &link_mechanism : &mkdir_mechanism;
        for (size_t number = 0; number < sizeof scenes / sizeof *scenes; number++) {
            if (!scenes[number].directories || mechanism == &mkdir_mechanism) {
                play(number);
            }
        }
    }
    printf("%u checks in steps\n", checks);
    return defects != 0;
}
