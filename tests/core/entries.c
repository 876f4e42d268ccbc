/* The rest of what Python calls, one after another: descriptors that the program has
 * closed, directories that move, the end of the process, foreign lock files, names that
 * are taken, and the small calls beside.
 *
 *     entries DIRECTORY */
#define _GNU_SOURCE
#include "mechanisms/sqlite/beacon.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct mechanism *mechanism; /* each in turn */
static char directory[OS_PATH_SIZE];
static const char *scene;
static unsigned defects, checks;

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

static void
expect(struct lock *lock, lock_operation *operation, enum outcome expected)
{
    struct report report;
    enum outcome outcome = call(operation, lock, 0, &report);
    DEMAND(outcome == expected, "%s, not %s (%s)", outcome_name(outcome), outcome_name(expected),
           outcome == LOCK_FAILED ? strerror(report.error) : "-");
    checks++;
}

static void
expect_failure(struct lock *lock, lock_operation *operation, int error)
{
    struct report report = {0};
    enum outcome outcome = call(operation, lock, 0, &report);
    DEMAND(outcome == LOCK_FAILED && report.error == error && report.doing != NULL, "%s, %s",
           outcome_name(outcome), strerror(report.error));
    checks++;
}

static void
expect_nothing_left(void)
{
    char name[OS_PATH_SIZE];
    DEMAND(count_names(directory, name) == 0, "left: '%s'", name);
    checks++;
}

static struct lock *
new_lock(const char *name, bool threaded)
{
    struct lock *lock = make_lock(mechanism, directory, name, threaded);
    need(lock != NULL, "allocate");
    return lock;
}

static void
make_file(const char *path, mode_t mode)
{
    int descriptor = open(path, O_CREAT | O_EXCL | O_WRONLY, mode);
    need(descriptor >= 0 && close(descriptor) == 0, path);
}

/* Waits a little for what the process owns, as a thread. */
static void
wait_in_vain(struct lock *lock)
{
    enum outcome outcome = call(lock_acquire, lock, deadline_in(5 * OS_MILLISECOND), NULL);
    DEMAND(outcome == LOCK_HELD, "%s", outcome_name(outcome));
    checks++;
}

/* ---- Descriptors closed behind our back ---- */

#define DECOYS 512

static void
close_all(void)
{
    /* Not every C library has this call. */
    need(syscall(SYS_close_range, 3, ~0U, 0) == 0, "close_range");
}

/* Closes all but the standard ones, and opens as many others under their numbers. */
static unsigned
put_decoys(int decoys[DECOYS])
{
    unsigned count = 0;
    int last = eventfd(0, EFD_NONBLOCK);
    close_all();
    need(last >= 0, "eventfd");
    while (count < DECOYS) {
        need((decoys[count++] = eventfd(7, EFD_NONBLOCK)) >= 0, "eventfd");
    }
    return count;
}

/* They are open, and nobody has read from them. */
static void
check_decoys(const int decoys[DECOYS], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t value = 0;
        DEMAND(read(decoys[i], &value, sizeof value) == sizeof value && value == 7,
               "the program's descriptor %d was touched", decoys[i]);
        close(decoys[i]);
    }
    checks++;
}

static void
lose_descriptors(void)
{
    struct lock *lock = new_lock("README", false), *waiter = new_lock("README", true);
    int decoys[DECOYS];
    expect(lock, lock_acquire, LOCK_OWNED);
    wait_in_vain(waiter); /* a watch is kept for the next one */
    unsigned count = put_decoys(decoys);
    expect(lock, lock_look, LOCK_OWNED);
    wait_in_vain(waiter);
    expect(lock, lock_release, LOCK_RELEASED);
    expect(waiter, lock_acquire, LOCK_OWNED);
    check_decoys(decoys, count);
    count = put_decoys(decoys);
    expect(waiter, lock_release, LOCK_RELEASED);
    check_decoys(decoys, count);
    lock_drop(lock);
    lock_drop(waiter);
}

/* What an open beacon file stood for is not used again. */
static void
lose_a_beacon_file(void)
{
    struct os_file file;
    struct os_status status;
    struct ground ground;
    struct beacon beacon;
    char path[OS_PATH_SIZE], database[OS_PATH_SIZE];
    int decoys[DECOYS];
    if (!os_locks_bytes) {
        return;
    }
    snprintf(database, sizeof database, "%.4000s/database", directory);
    DEMAND(beacon_path(database, path), "too long");
    for (int i = 0; i < 2; i++) {
        DEMAND(beacon_share(path, 0600, true, &file, &ground) == 0, "no beacon file");
        DEMAND(beacon_light(&file, &beacon) == 0, "not lit");
        DEMAND(os_status(&file, &status) == 0 && status.mode == 0600, "mode %o", status.mode);
        beacon_leave(&file);
        unsigned count = put_decoys(decoys);
        DEMAND(!os_is_open(&file), "a lost file is open");
        check_decoys(decoys, count);
    }
    unlink(path);
}

/* ---- Directories ---- */

static void
move_directory(void)
{
    struct lock *lock = new_lock("README", true);
    char moved[OS_PATH_SIZE];
    snprintf(moved, sizeof moved, "%.4000s-moved", directory);
    expect(lock, lock_acquire, LOCK_OWNED);
    need(rename(directory, moved) == 0 && mkdir(directory, 0755) == 0, "rename");
    expect(lock, lock_look, LOCK_FREE); /* in the new directory */
    expect(lock, lock_acquire, LOCK_OWNED);
    expect(lock, lock_release, LOCK_RELEASED);
    expect_nothing_left();
    expect(lock, lock_release, LOCK_RELEASED); /* that in the old one */
    expect(lock, lock_release, LOCK_FREE);
    need(rmdir(moved) == 0, "the old directory is empty");
    lock_drop(lock);
}

static void
miss_directory(void)
{
    struct lock *lock = make_lock(mechanism, "/nowhere at all", "README", true);
    need(lock != NULL, "allocate");
    expect_failure(lock, lock_acquire, ENOENT);
    expect(lock, lock_look, LOCK_FREE);
    expect(lock, lock_identify, LOCK_FREE);
    expect(lock, lock_release, LOCK_FREE);
    expect(lock, lock_break, LOCK_FREE);
    lock_drop(lock);
}

static void
change_directory(void)
{
    struct lock *lock = new_lock("README", false);
    expect(lock, lock_acquire, LOCK_OWNED);
    need(chdir("/") == 0, "chdir");
    expect(lock, lock_look, LOCK_OWNED);
    expect(lock, lock_release, LOCK_RELEASED);
    lock_drop(lock);
}

/* ---- Ends ---- */

static void
release_all(void)
{
    struct lock *one = new_lock("one", true), *two = new_lock("two", false);
    expect(one, lock_acquire, LOCK_OWNED);
    expect(two, lock_acquire, LOCK_OWNED);
    lock_release_all();
    expect_nothing_left();
    expect_failure(one, lock_acquire, ECANCELED); /* the table is closed */
    expect_nothing_left();
    table_open();
    expect(one, lock_acquire, LOCK_OWNED);
    expect(one, lock_release, LOCK_RELEASED);
    lock_drop(one);
    lock_drop(two);
}

/* ---- What others have made ---- */

static void
meet_a_foreign_file(void)
{
    struct lock *lock = new_lock("README", true);
    make_file(lock->lock_file, 0644);
    expect(lock, lock_acquire, LOCK_HELD);
    expect(lock, lock_look, LOCK_HELD);
    expect(lock, lock_identify, LOCK_HELD);
    expect(lock, lock_release, LOCK_HELD);
    expect(lock, lock_break, LOCK_FREE);
    expect_nothing_left();
    lock_drop(lock);
}

/* A directory with anything but empty files in it is no lock. */
static void
meet_a_foreign_directory(void)
{
    struct lock *lock = new_lock("README", true);
    char inside[OS_PATH_SIZE];
    snprintf(inside, sizeof inside, "%.4000s/inside", lock->lock_file);
    need(mkdir(lock->lock_file, 0755) == 0 && mkdir(inside, 0755) == 0, "mkdir");
    expect(lock, lock_acquire, LOCK_HELD);
    expect(lock, lock_identify, LOCK_HELD);
    expect_failure(lock, lock_break, ENOTEMPTY);
    need(rmdir(inside) == 0, "rmdir");
    expect(lock, lock_break, LOCK_FREE);
    expect_nothing_left();
    lock_drop(lock);
}

/* ---- break_lock() ---- */

/* A wait that is over before it could sleep has waited, too. */
static void
break_what_was_not_waited_for(void)
{
    struct lock *owner = new_lock("README", false), *waiter = new_lock("README", true);
    int64_t past = 1;
    expect(owner, lock_acquire, LOCK_OWNED);
    DEMAND(call(lock_acquire, waiter, past, NULL) == LOCK_HELD, "it is not held");
    expect(owner, lock_release, LOCK_RELEASED);
    /* Born in another tick of the clock than the first, whose number it may get. */
    os_pause(20 * OS_MILLISECOND);
    expect(owner, lock_acquire, LOCK_OWNED);
    expect(waiter, lock_break, LOCK_FREE);
    expect(owner, lock_look, LOCK_OWNED);
    expect(owner, lock_release, LOCK_RELEASED);
    lock_drop(owner);
    lock_drop(waiter);
}

static void
break_what_was_waited_for(void)
{
    struct lock *owner = new_lock("README", false), *waiter = new_lock("README", true);
    expect(owner, lock_acquire, LOCK_OWNED);
    wait_in_vain(waiter);
    expect(waiter, lock_break, LOCK_FREE);
    expect(owner, lock_look, LOCK_FREE);
    expect(owner, lock_release, LOCK_FREE);
    expect_nothing_left();
    lock_drop(owner);
    lock_drop(waiter);
}

/* ---- Names ---- */

static void
tell_names(void)
{
    struct lock *lock = new_lock("README", true);
    struct attempt attempt;
    struct name parsed;
    char before[NAME_SIZE], owned[NAME_SIZE];
    begin(&attempt, lock, 0);
    lock_unique_name(&attempt, before);
    DEMAND(lock_descriptor(&attempt) == -1, "a descriptor of nothing");
    attempt_end(&attempt);
    expect(lock, lock_acquire, LOCK_OWNED);
    begin(&attempt, lock, 0);
    lock_unique_name(&attempt, owned);
    DEMAND(lock_descriptor(&attempt) >= 0, "no descriptor");
    attempt_end(&attempt);
    expect(lock, lock_release, LOCK_RELEASED);
    DEMAND(strcmp(before, owned) == 0, "'%s' before '%s'", before, owned);
    DEMAND(proof_read_name(owned, &parsed) && parsed.process == getpid() &&
               parsed.thread == os_thread() && strcmp(parsed.host, lock->host) == 0,
           "'%s'", owned);
    lock_drop(lock);
}

/* ---- What happens between two steps ---- */

/* Right before one of these calls, which the linker's --wrap leads here. */
enum step { NO_STEP, REMOVE_DIRECTORY, TAKE_BEACON, FLOCK };

static enum step step;
static void (*meanwhile)(void);
static struct lock *lock_of_another;
static char abandoned[OS_PATH_SIZE];

static void
expect_before(enum step before, void (*happens)(void))
{
    step = before;
    meanwhile = happens;
}

static void
come_to(enum step reached)
{
    if (reached == step) {
        step = NO_STEP;
        meanwhile();
        checks++;
    }
}

int __real_os_remove_directory(const struct os_file *in, const char *name);
int __wrap_os_remove_directory(const struct os_file *in, const char *name);
int __real_unique_take_beacon(const struct os_file *file);
int __wrap_unique_take_beacon(const struct os_file *file);
int __real_os_flock(const struct os_file *file, enum os_mode mode);
int __wrap_os_flock(const struct os_file *file, enum os_mode mode);

int
__wrap_os_remove_directory(const struct os_file *in, const char *name)
{
    come_to(REMOVE_DIRECTORY);
    return __real_os_remove_directory(in, name);
}

int
__wrap_unique_take_beacon(const struct os_file *file)
{
    come_to(TAKE_BEACON);
    return __real_unique_take_beacon(file);
}

int
__wrap_os_flock(const struct os_file *file, enum os_mode mode)
{
    struct stat status;
    if (step == FLOCK && mode == OS_EXCLUSIVE && stat(abandoned, &status) == 0 &&
        status.st_ino == file->inode.number) {
        come_to(FLOCK);
    }
    return __real_os_flock(file, mode);
}

static void
another_acquires(void)
{
    expect(lock_of_another, lock_acquire, LOCK_OWNED);
}

/* The caller's unique file, or what could be it. */
static void
spell_unique_file(struct lock *lock, const char *in, char path[OS_PATH_SIZE])
{
    struct attempt attempt;
    char name[NAME_SIZE];
    begin(&attempt, lock, 0);
    lock_unique_name(&attempt, name);
    attempt_end(&attempt);
    snprintf(path, OS_PATH_SIZE, "%.3000s/%s", in, name);
}

/* A lock directory is moved aside to a name of the process, if the thread's is taken. An
 * owner that wants the name finds it empty, and reaps it before it is removed. */
static void
lose_the_name_aside(void)
{
    struct lock *lock = new_lock("README", true);
    char taken[OS_PATH_SIZE];
    if (mechanism != &mkdir_mechanism) {
        lock_drop(lock);
        return;
    }
    lock_of_another = make_lock(&link_mechanism, directory, "other", false);
    need(lock_of_another != NULL, "allocate");
    spell_unique_file(lock, directory, taken);
    expect(lock, lock_acquire, LOCK_OWNED);
    make_file(taken, 0644);
    expect_before(REMOVE_DIRECTORY, another_acquires);
    expect(lock, lock_release, LOCK_RELEASED);
    expect(lock_of_another, lock_release, LOCK_RELEASED);
    unlink(taken);
    lock_drop(lock);
    lock_drop(lock_of_another);
}

/* Between the look at a stale lock and the beacon, another breaks it and acquires. */
static void
come_late_to_a_stale_lock(void)
{
    struct lock *lock = new_lock("README", true);
    lock_of_another = new_lock("README", false);
    leave_stale(lock);
    expect_before(TAKE_BEACON, another_acquires);
    expect(lock, lock_acquire, LOCK_HELD);
    expect(lock_of_another, lock_look, LOCK_OWNED);
    expect(lock_of_another, lock_release, LOCK_RELEASED);
    lock_drop(lock);
    lock_drop(lock_of_another);
}

static void
another_links_and_dies(void)
{
    need(link(abandoned, lock_of_another->lock_file) == 0, "link");
}

/* A unique file that looks abandoned is linked before the sweep gets its beacon: then
 * its name must stay, or nobody could tell whose lock file that is. */
static void
sweep_beside_a_claim(void)
{
    struct lock *lock = new_lock("README", true);
    char name[NAME_SIZE];
    lock_of_another = make_lock(&link_mechanism, directory, "other", false);
    need(lock_of_another != NULL, "allocate");
    proof_write_name(name, lock->host, owner_calling(false), (struct ground){.local = true}, 7);
    snprintf(abandoned, sizeof abandoned, "%.3000s/%s", directory, name);
    make_file(abandoned, S_ISVTX | 0644);
    leave_stale(lock);
    expect_before(FLOCK, another_links_and_dies);
    expect(lock, lock_acquire, LOCK_OWNED);
    DEMAND(step == NO_STEP, "it was not swept");
    expect(lock_of_another, lock_look, LOCK_STALE);
    expect(lock_of_another, lock_acquire, LOCK_OWNED);
    expect(lock_of_another, lock_release, LOCK_RELEASED);
    expect(lock, lock_release, LOCK_RELEASED);
    lock_drop(lock);
    lock_drop(lock_of_another);
}

/* Its beacon was lost, and then its unique file was replaced: that one is not ours to
 * light, nor to remove. */
static void
lose_the_unique_file(void)
{
    struct lock *lock = new_lock("README", true);
    char unique[OS_PATH_SIZE], other[OS_PATH_SIZE];
    expect(lock, lock_acquire, LOCK_OWNED);
    spell_unique_file(lock, mechanism == &mkdir_mechanism ? lock->lock_file : directory, unique);
    snprintf(other, sizeof other, "%.4000s/other", directory);
    make_file(other, 0644); /* beside the first, so it has another number */
    need(rename(other, unique) == 0, "rename");
    close_all();
    expect(lock, lock_release, mechanism == &mkdir_mechanism ? LOCK_FREE : LOCK_HELD);
    DEMAND(access(unique, F_OK) == 0, "a file that is not ours was removed");
    unlink(unique);
    unlink(lock->lock_file);
    rmdir(lock->lock_file);
    lock_drop(lock);
}

/* ---- What the mechanism in a database uses of the system ---- */

static void
use_the_system(void)
{
    struct os_file shared_file, adopted;
    struct os_status status;
    struct os_numbers numbers;
    char path[OS_PATH_SIZE], resolved[OS_PATH_SIZE], text[100];
    snprintf(path, sizeof path, "%.4000s/file", directory);
    DEMAND(os_make_file(&os_anywhere, path) == 0, "not made");
    DEMAND(os_make_file(&os_anywhere, path) == EEXIST, "made twice");
    DEMAND(os_open_shared(&os_anywhere, path, &shared_file, &status) == 0, "not opened");
    DEMAND(os_set_mode(&shared_file, 0640) == 0 && os_status(&shared_file, &status) == 0 &&
               status.mode == 0640,
           "mode");
    DEMAND(os_touch(&shared_file) == 0, "not touched");
    DEMAND(os_resolve(path, resolved) == 0 && os_status_of(resolved, &status) == 0, "not resolved");
    DEMAND(os_find_numbers(status.inode, OS_WRITE, &numbers) == 0 && numbers.count == 1 &&
               numbers.each[0] == shared_file.descriptor,
           "numbers");
    int other = open(path, O_RDWR | O_CLOEXEC);
    DEMAND(os_find_numbers(status.inode, OS_WRITE, &numbers) == 0 && numbers.count == 2,
           "another's");
    DEMAND(os_adopt(other, &adopted) == 0 && os_is_open(&adopted), "not adopted");
    DEMAND(os_find_locker(&adopted, 0, 2) == 0, "a lock that is not there");
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    need(fcntl(other, F_SETLK, &range) == 0 && pwrite(other, "content", 7, 0) == 7, "fcntl");
    DEMAND(!os_locks_bytes || os_find_locker(&adopted, 0, 2) == os_process(),
           "a lock that is not seen");
    DEMAND(os_read_at(&adopted, 3, text, 4) == 0 && memcmp(text, "tent", 4) == 0, "not read");
    DEMAND(os_read_at(&adopted, 4, text, 4) == EIO, "read behind its end");
    close(other);
    other = open(directory, O_RDONLY | O_CLOEXEC);
    DEMAND(!os_is_open(&adopted), "closed, and ours");
    os_disown(&adopted);
    close(other);
    os_close(&shared_file);
    DEMAND(os_message(ENOENT, text, sizeof text)[0] != '\0', "no message");
    unlink(path);
    checks += 15;
}

/* ---- All of them ---- */

static const struct {
    const char *name;
    void (*play)(void);
} scenes[] = {
    {"lose descriptors", lose_descriptors},
    {"lose a beacon file", lose_a_beacon_file},
    {"move the directory", move_directory},
    {"miss the directory", miss_directory},
    {"change directory", change_directory},
    {"release all", release_all},
    {"meet a foreign file", meet_a_foreign_file},
    {"meet a foreign directory", meet_a_foreign_directory},
    {"break what was not waited for", break_what_was_not_waited_for},
    {"break what was waited for", break_what_was_waited_for},
    {"tell names", tell_names},
    {"lose the name aside", lose_the_name_aside},
    {"come late to a stale lock", come_late_to_a_stale_lock},
    {"sweep beside a claim", sweep_beside_a_claim},
    {"lose the unique file", lose_the_unique_file},
    {"use the system", use_the_system},
};

static void
play(size_t number)
{
    scene = scenes[number].name;
    unsigned before = count_descriptors();
    scenes[number].play();
    unsigned after = count_descriptors();
    DEMAND(after == before, "%u descriptors, not %u", after, before);
    DEMAND(table_take_last(NULL) == NULL, "something is owned");
    expect_nothing_left();
}

int
main(int argc, char **argv)
{
    need(argc == 2 && argv[1][0] == '/' && os_begin() == 0, "usage: entries DIRECTORY");
    close_all(); /* what was inherited */
    snprintf(directory, sizeof directory, "%.4000s/place", argv[1]);
    need(mkdir(directory, 0755) == 0, "mkdir");
    for (int i = 0; i < 2; i++) {
        mechanism = i == 0 ? &link_mechanism : &mkdir_mechanism;
        for (size_t number = 0; number < sizeof scenes / sizeof *scenes; number++) {
            play(number);
        }
    }
    printf("%u checks\n", checks);
    return defects != 0;
}
