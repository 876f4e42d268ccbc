/*
 * The bare system calls of one uncontended acquire and release, without a lock around them: what
 * the kernel takes of the time, and so the least that a lock which makes these calls can take.
 *
 *     bare link DIRECTORY
 *
 * reads requests from standard input, a line each, and answers each with a line:
 *
 *     cycles N    makes N cycles; the answer is the nanoseconds that they took
 *     trace       makes a few cycles, the last one between two calls of getppid() for strace
 *
 * "fewest link", "fewest mkdir": the fewest calls that are correct, if no program ever closed our
 * descriptors, and no break_lock() came at the same time.
 *
 * To follow the lock when its calls change, edit the functions named after the mechanism: one line
 * is one system call, in order.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define LOCK_FILE "bare.lock"
#define UNIQUE_NAME "bare-7f0000000000-1"
#define TAG 40

/* Make a system call that has to succeed. */
#define MUST(call)         \
    do {                   \
        if ((call) < 0) {  \
            perror(#call); \
            exit(1);       \
        }                  \
    } while (0)

typedef struct {
    const char *path; /* of the directory that holds the lock file */
    int directory;
    int beacon;
    int inside;
} lock;

static void
link_acquire(lock *self)
{
    struct stat status;
    struct statfs file_system;
    MUST(self->directory = open(self->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    MUST(fstat(self->directory, &status));
    MUST(fcntl(self->directory, F_SETSIG, TAG));
    MUST(fstatfs(self->directory, &file_system));
    MUST(self->beacon = openat(self->directory, UNIQUE_NAME,
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    MUST(fstat(self->beacon, &status));
    MUST(fcntl(self->beacon, F_SETSIG, TAG));
    MUST(flock(self->beacon, LOCK_EX | LOCK_NB));
    MUST(fstatat(self->directory, UNIQUE_NAME, &status, AT_SYMLINK_NOFOLLOW));
    MUST(linkat(self->directory, UNIQUE_NAME, self->directory, LOCK_FILE, 0));
}

/* The marks: one's own, that of a break_lock(), and those of waiters, on what is marked. */
static void
check(lock *self, int marked)
{
    struct stat status;
    struct flock range = {
        .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = INT64_C(1) << 61, .l_len = 1};
    MUST(fcntl(self->directory, F_OFD_SETLK, &range));
    range.l_type = F_WRLCK;
    range.l_start++;
    MUST(fcntl(self->directory, F_OFD_GETLK, &range));
    MUST(fstatat(self->directory, LOCK_FILE, &status, AT_SYMLINK_NOFOLLOW));
    range.l_type = F_WRLCK;
    MUST(fcntl(marked, F_OFD_GETLK, &range));
}

static void
link_release(lock *self)
{
    struct stat status;
    MUST(fcntl(self->directory, F_GETSIG));
    MUST(fcntl(self->beacon, F_GETSIG));
    check(self, self->beacon);
    MUST(unlinkat(self->directory, LOCK_FILE, 0));
    MUST(fstatat(self->directory, UNIQUE_NAME, &status, AT_SYMLINK_NOFOLLOW));
    MUST(unlinkat(self->directory, UNIQUE_NAME, 0));
    MUST(fcntl(self->beacon, F_GETSIG));
    MUST(close(self->beacon));
    MUST(fcntl(self->directory, F_GETSIG));
    MUST(close(self->directory));
}

static void
mkdir_acquire(lock *self)
{
    struct stat status;
    struct statfs file_system;
    MUST(self->directory = open(self->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    MUST(fstat(self->directory, &status));
    MUST(fcntl(self->directory, F_SETSIG, TAG));
    MUST(fstatfs(self->directory, &file_system));
    MUST(mkdirat(self->directory, UNIQUE_NAME, 0755));
    MUST(self->inside =
             openat(self->directory, UNIQUE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    MUST(fstat(self->inside, &status));
    MUST(fcntl(self->inside, F_SETSIG, TAG));
    MUST(self->beacon = openat(self->inside, UNIQUE_NAME,
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    MUST(fstat(self->beacon, &status));
    MUST(fcntl(self->beacon, F_SETSIG, TAG));
    MUST(flock(self->beacon, LOCK_EX | LOCK_NB));
    MUST(fstatat(self->inside, UNIQUE_NAME, &status, AT_SYMLINK_NOFOLLOW));
    MUST(fstatat(self->directory, UNIQUE_NAME, &status, AT_SYMLINK_NOFOLLOW));
    MUST(renameat2(self->directory, UNIQUE_NAME, self->directory, LOCK_FILE, RENAME_NOREPLACE));
}

static void
mkdir_release(lock *self)
{
    struct stat status;
    MUST(fcntl(self->directory, F_GETSIG));
    MUST(fcntl(self->inside, F_GETSIG));
    MUST(fcntl(self->beacon, F_GETSIG));
    check(self, self->inside);
    MUST(renameat2(self->directory, LOCK_FILE, self->directory, UNIQUE_NAME, RENAME_NOREPLACE));
    MUST(fstatat(self->inside, UNIQUE_NAME, &status, AT_SYMLINK_NOFOLLOW));
    MUST(unlinkat(self->inside, UNIQUE_NAME, 0));
    MUST(unlinkat(self->directory, UNIQUE_NAME, AT_REMOVEDIR));
    MUST(fcntl(self->beacon, F_GETSIG));
    MUST(close(self->beacon));
    MUST(fcntl(self->inside, F_GETSIG));
    MUST(close(self->inside));
    MUST(fcntl(self->directory, F_GETSIG));
    MUST(close(self->directory));
}

static void
fewest_open(lock *self)
{
    struct statfs file_system;
    MUST(self->directory = open(self->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    MUST(fstatfs(self->directory, &file_system));
}

static void
fewest_make_beacon(lock *self, const char *name)
{
    struct stat status;
    MUST(self->beacon = openat(self->directory, name,
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    MUST(flock(self->beacon, LOCK_EX | LOCK_NB));
    MUST(fstat(self->beacon, &status));
    MUST(fstatat(self->directory, name, &status, AT_SYMLINK_NOFOLLOW));
}

/* Is it still ours? */
static void
fewest_check(lock *self, const char *name)
{
    struct stat status;
    MUST(flock(self->directory, LOCK_SH | LOCK_NB));
    MUST(fstatat(self->directory, name, &status, AT_SYMLINK_NOFOLLOW));
}

static void
fewest_link_acquire(lock *self)
{
    fewest_open(self);
    fewest_make_beacon(self, UNIQUE_NAME);
    MUST(linkat(self->directory, UNIQUE_NAME, self->directory, LOCK_FILE, 0));
}

static void
fewest_link_release(lock *self)
{
    fewest_check(self, LOCK_FILE);
    MUST(unlinkat(self->directory, LOCK_FILE, 0));
    MUST(unlinkat(self->directory, UNIQUE_NAME, 0));
    MUST(close(self->beacon));
    MUST(close(self->directory));
}

#define INSIDE UNIQUE_NAME "/" UNIQUE_NAME

static void
fewest_mkdir_acquire(lock *self)
{
    fewest_open(self);
    MUST(mkdirat(self->directory, UNIQUE_NAME, 0755));
    fewest_make_beacon(self, INSIDE);
    MUST(renameat2(self->directory, UNIQUE_NAME, self->directory, LOCK_FILE, RENAME_NOREPLACE));
}

static void
fewest_mkdir_release(lock *self)
{
    fewest_check(self, LOCK_FILE "/" UNIQUE_NAME);
    MUST(renameat(self->directory, LOCK_FILE, self->directory, UNIQUE_NAME));
    MUST(unlinkat(self->directory, INSIDE, 0));
    MUST(unlinkat(self->directory, UNIQUE_NAME, AT_REMOVEDIR));
    MUST(close(self->beacon));
    MUST(close(self->directory));
}

/* What a lock costs that leaves its file behind, with the file held open. */
static void
flock_acquire(lock *self)
{
    if (self->beacon < 0) {
        MUST(self->directory = open(self->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        MUST(self->beacon =
                 openat(self->directory, "bare.flock", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    }
    MUST(flock(self->beacon, LOCK_EX));
}

static void
flock_release(lock *self)
{
    MUST(flock(self->beacon, LOCK_UN));
}

typedef struct {
    const char *name;
    void (*acquire)(lock *);
    void (*release)(lock *);
} mechanism;

static const mechanism MECHANISMS[] = {
    {"link", link_acquire, link_release},
    {"mkdir", mkdir_acquire, mkdir_release},
    {"fewest link", fewest_link_acquire, fewest_link_release},
    {"fewest mkdir", fewest_mkdir_acquire, fewest_mkdir_release},
    {"flock", flock_acquire, flock_release},
};

static const mechanism *
find_mechanism(const char *name)
{
    for (size_t i = 0; i < sizeof MECHANISMS / sizeof *MECHANISMS; i++) {
        if (strcmp(MECHANISMS[i].name, name) == 0) {
            return &MECHANISMS[i];
        }
    }
    fprintf(stderr, "no mechanism called %s\n", name);
    exit(2);
}

static int64_t
now(void)
{
    struct timespec time;
    MUST(clock_gettime(CLOCK_MONOTONIC, &time));
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void
make_cycles(const mechanism *bare, lock *self, long count)
{
    for (long i = 0; i < count; i++) {
        bare->acquire(self);
        bare->release(self);
    }
}

int
main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: bare MECHANISM DIRECTORY\n");
        return 2;
    }
    const mechanism *bare = find_mechanism(argv[1]);
    lock self = {.path = argv[2], .directory = -1, .beacon = -1};
    char request[64];
    long count;

    while (fgets(request, sizeof request, stdin) != NULL) {
        int64_t started = now();
        if (sscanf(request, "cycles %ld", &count) == 1) {
            make_cycles(bare, &self, count);
        } else {
            make_cycles(bare, &self, 3);
            (void)getppid();
            make_cycles(bare, &self, 1);
            (void)getppid();
        }
        printf("%lld\n", (long long)(now() - started));
        fflush(stdout);
    }
    return 0;
}
