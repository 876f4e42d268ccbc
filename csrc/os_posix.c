/* os.h for Linux; other POSIX systems lack watches and proofs of death, so they poll and wait. */
#define _GNU_SOURCE
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/vfs.h>
#endif

/* Readable by all, so that others can look; writable by nobody else. */
#define UNIQUE_MODE 0644

#ifdef PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
#define FORK_LOCK_INITIALIZER PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
#else
#define FORK_LOCK_INITIALIZER PTHREAD_RWLOCK_INITIALIZER
#endif

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* Shared: between making a descriptor and its entry in the register, and
 * between its removal and the close. Exclusive: a fork, which would copy a
 * descriptor that the child does not know of. Taken before the mutex. */
static pthread_rwlock_t fork_lock = FORK_LOCK_INITIALIZER;

static int process;

/* The register: registered[number] is the inode that a descriptor of ours
 * stands for; inode number 0: not ours. */
static struct os_inode *registered;
static size_t registered_size;

static int highest_watch = -1; /* the number of the highest watch ever opened */

/* What an inotify descriptor is registered as: they share one inode. */
static const struct os_inode watch_inode = {0, UINT64_MAX};

#ifdef __linux__

/* The signal that our open files would send, if they sent any. It stays with the
 * open file, so a number that was closed and opened again does not have it. */
#define TAG 63

static int
tag(int descriptor)
{
    return fcntl(descriptor, F_SETSIG, TAG) == 0 ? 0 : errno;
}

static bool
is_tagged(int descriptor)
{
    return fcntl(descriptor, F_GETSIG) == TAG;
}

#else

static int
tag(int descriptor)
{
    (void)descriptor;
    return 0;
}

static bool
is_tagged(int descriptor)
{
    return fcntl(descriptor, F_GETFD) >= 0;
}

#endif

/* ---- The process's one mutex ---- */

void
os_lock(void)
{
    pthread_mutex_lock(&mutex);
}

void
os_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

void
os_wait_unlocked(void)
{
    pthread_cond_wait(&changed, &mutex);
}

void
os_wake_all(void)
{
    pthread_cond_broadcast(&changed);
}

/* ---- The register of descriptors, and fork ---- */

static void
fork_hold_off(void)
{
    pthread_rwlock_rdlock(&fork_lock);
}

static void
fork_allow(void)
{
    pthread_rwlock_unlock(&fork_lock);
}

static bool
grow_register(size_t size)
{
    struct os_inode *larger = realloc(registered, size * sizeof *larger);
    if (larger == NULL) {
        return false;
    }
    memset(larger + registered_size, 0, (size - registered_size) * sizeof *larger);
    registered = larger;
    registered_size = size;
    return true;
}

/* Tags and enters a descriptor just made, while forks are held off. */
static int
enter(int descriptor, struct os_inode inode)
{
    size_t number = (size_t)descriptor;
    int error = tag(descriptor);
    os_lock();
    if (number >= registered_size && !grow_register(2 * number + 64)) {
        error = ENOMEM;
    } else if (error == 0) {
        registered[number] = inode;
    }
    os_unlock();
    return error;
}

/* Is the number still what was entered? */
static bool
is_entered(int descriptor, struct os_inode inode)
{
    os_lock();
    bool entered = descriptor >= 0 && os_same(registered[descriptor], inode);
    os_unlock();
    return entered && is_tagged(descriptor);
}

/* Unless the number has been entered anew. */
static void
forget(int descriptor, struct os_inode inode)
{
    os_lock();
    if (os_same(registered[descriptor], inode)) {
        registered[descriptor] = (struct os_inode){0, 0};
    }
    os_unlock();
}

static void
close_registered(int descriptor, struct os_inode inode)
{
    fork_hold_off();
    forget(descriptor, inode);
    close(descriptor);
    fork_allow();
}

static void
before_fork(void)
{
    pthread_rwlock_wrlock(&fork_lock);
    pthread_mutex_lock(&mutex);
}

static void
after_fork_in_parent(void)
{
    pthread_mutex_unlock(&mutex);
    pthread_rwlock_unlock(&fork_lock);
}

/* The child closes its copies, which unlocks nothing of the parent's. A watch
 * must not be removed first: it is the parent's too. */
static void
after_fork_in_child(void)
{
    for (size_t number = 0; number < registered_size; number++) {
        if (registered[number].number != 0 && is_tagged((int)number)) {
            close((int)number);
        }
        registered[number] = (struct os_inode){0, 0};
    }
    process = getpid();
    mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    fork_lock = (pthread_rwlock_t)FORK_LOCK_INITIALIZER;
}

static int begin_error;

static void
begin(void)
{
    process = getpid();
    begin_error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int
os_begin(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, begin);
    return begin_error;
}

/* ---- Who and when ---- */

int
os_process(void)
{
    return process;
}

uint64_t
os_user(void)
{
    return (uint64_t)geteuid();
}

uint64_t
os_thread(void)
{
    return (uint64_t)(uintptr_t)pthread_self();
}

uint64_t
os_thread_token(void)
{
    static _Atomic uint64_t last;
    static _Thread_local uint64_t token;
    if (token == 0) {
        token = atomic_fetch_add(&last, 1) + 1;
    }
    return token;
}

void
os_host_name(char host[OS_HOST_SIZE])
{
    if (gethostname(host, OS_HOST_SIZE) != 0 || host[0] == '\0') {
        strcpy(host, "localhost");
    }
    host[OS_HOST_SIZE - 1] = '\0';
}

int
os_boot(char *identity, size_t size)
{
    int descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return errno;
    }
    ssize_t length = read(descriptor, identity, size - 1);
    int error = length < 0 ? errno : length < 32 ? EINVAL : 0;
    close(descriptor);
    if (error == 0) {
        identity[length] = '\0';
    }
    return error;
}

uint64_t
os_random(void)
{
    uint64_t number;
#ifdef __linux__
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) == (ssize_t)sizeof number) {
        return number;
    }
#endif
    /* Only spreads out names and pauses: what differs between callers will do. */
    number = (uint64_t)os_now() ^ ((uint64_t)process << 40) ^ os_thread();
    return number * UINT64_C(0x9E3779B97F4A7C15);
}

int64_t
os_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * OS_SECOND + now.tv_nsec;
}

static struct timespec
timespec_of(int64_t nanoseconds)
{
    return (struct timespec){nanoseconds / OS_SECOND, nanoseconds % OS_SECOND};
}

void
os_pause(int64_t nanoseconds)
{
    struct timespec pause = timespec_of(nanoseconds);
    nanosleep(&pause, NULL);
}

const char *
os_message(int error, char *buffer, size_t size)
{
#if defined(__GLIBC__)
    return strerror_r(error, buffer, size);
#else
    return strerror_r(error, buffer, size) == 0 ? buffer : "unknown error";
#endif
}

/* ---- Files ---- */

static struct os_inode
inode_of(const struct stat *found)
{
    return (struct os_inode){(uint64_t)found->st_dev, (uint64_t)found->st_ino};
}

static void
fill_status(const struct stat *found, struct os_status *status)
{
    *status = (struct os_status){
        .inode = inode_of(found),
        .kind = S_ISREG(found->st_mode)   ? OS_REGULAR
                : S_ISDIR(found->st_mode) ? OS_DIRECTORY
                                          : OS_OTHER,
        .user = (uint64_t)found->st_uid,
        .links = (uint64_t)found->st_nlink,
        .size = (uint64_t)found->st_size,
    };
}

/* A dying process lets go of its highest descriptor first, and of a watch only
 * after 10 to 35 ms. A beacon below a watch would burn for so long after its
 * owner's death. Returns the descriptor, or one above all watches in its place. */
static int
raise_above_watches(int descriptor)
{
    os_lock();
    int highest = highest_watch;
    os_unlock();
    int raised = descriptor < highest ? fcntl(descriptor, F_DUPFD_CLOEXEC, highest + 1) : -1;
    if (raised < 0) {
        return descriptor; /* refused, it costs a waiter some time, not the lock */
    }
    close(descriptor);
    return raised;
}

/* Opens, asks for the inode and registers, with forks held off meanwhile. */
static int
open_registered(int directory, const char *name, int flags, struct os_file *file,
                struct stat *found)
{
    int descriptor;
    int error = 0;
    fork_hold_off();
    do {
        descriptor = openat(directory, name, flags | O_CLOEXEC, UNIQUE_MODE);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor >= 0 && (flags & O_CREAT) != 0) {
        descriptor = raise_above_watches(descriptor);
    }
    if (descriptor < 0) {
        error = errno;
    } else if (fstat(descriptor, found) != 0) {
        error = errno;
    } else {
        error = enter(descriptor, inode_of(found));
    }
    if (error == 0) {
        *file = (struct os_file){descriptor, inode_of(found)};
    } else if (descriptor >= 0) {
        if ((flags & O_CREAT) != 0) {
            unlinkat(directory, name, 0);
        }
        close(descriptor);
    }
    fork_allow();
    return error;
}

int
os_open_directory(const char *path, struct os_file *directory)
{
    struct stat found;
    return open_registered(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, directory, &found);
}

int
os_create(const struct os_file *directory, const char *name, struct os_file *file)
{
    struct stat found;
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    int error = open_registered(directory->descriptor, name, flags, file, &found);
    if (error == 0 && (found.st_mode & 0777) != UNIQUE_MODE &&
        fchmod(file->descriptor, UNIQUE_MODE) != 0) {
        error = errno;
        os_unlink(directory, name);
        os_close(file);
    }
    return error;
}

int
os_open(const struct os_file *directory, const char *name, enum os_access access,
        struct os_file *file, struct os_status *status)
{
    struct stat found;
    int flags = (access == OS_WRITE ? O_WRONLY : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK;
    int error = open_registered(directory->descriptor, name, flags, file, &found);
    if (error == 0) {
        fill_status(&found, status);
    }
    return error;
}

bool
os_is_open(const struct os_file *file)
{
    return is_entered(file->descriptor, file->inode);
}

void
os_close(struct os_file *file)
{
    if (file->descriptor >= 0) {
        close_registered(file->descriptor, file->inode);
        file->descriptor = -1;
    }
}

void
os_abandon(struct os_file *file)
{
    if (file->descriptor >= 0) {
        forget(file->descriptor, file->inode);
        file->descriptor = -1;
    }
}

int
os_status(const struct os_file *file, struct os_status *status)
{
    struct stat found;
    if (fstat(file->descriptor, &found) != 0) {
        return errno;
    }
    fill_status(&found, status);
    return 0;
}

int
os_status_at(const struct os_file *directory, const char *name, struct os_status *status)
{
    struct stat found;
    if (fstatat(directory->descriptor, name, &found, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    fill_status(&found, status);
    return 0;
}

int
os_identify(const struct os_file *directory, const char *name, struct os_identity *identity)
{
    struct stat found;
    if (fstatat(directory->descriptor, name, &found, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    identity->inode = inode_of(&found);
    identity->born = (int64_t)found.st_mtim.tv_sec * OS_SECOND + found.st_mtim.tv_nsec;
#ifdef STATX_BTIME
    struct statx more;
    if (statx(directory->descriptor, name, AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_INO, &more) ==
            0 &&
        (more.stx_mask & STATX_BTIME) != 0 && more.stx_ino == identity->inode.number) {
        identity->born = more.stx_btime.tv_sec * OS_SECOND + more.stx_btime.tv_nsec;
    }
#endif
    return 0;
}

int
os_link(const struct os_file *directory, const char *existing, const char *name)
{
    int at = directory->descriptor;
    return linkat(at, existing, at, name, 0) == 0 ? 0 : errno;
}

int
os_unlink(const struct os_file *directory, const char *name)
{
    return unlinkat(directory->descriptor, name, 0) == 0 ? 0 : errno;
}

int
os_remove_directory(const struct os_file *directory, const char *name)
{
    return unlinkat(directory->descriptor, name, AT_REMOVEDIR) == 0 ? 0 : errno;
}

bool
os_is_local(const struct os_file *directory)
{
#ifdef __linux__
    struct statfs found;
    if (fstatfs(directory->descriptor, &found) != 0) {
        return false;
    }
    switch ((uint32_t)found.f_type) {
    case 0x0000EF53: /* ext2, ext3, ext4 */
    case 0x58465342: /* xfs */
    case 0x9123683E: /* btrfs */
    case 0x01021994: /* tmpfs */
    case 0x858458F6: /* ramfs */
    case 0x794C7630: /* overlayfs: containers live on it */
    case 0xF2F52010: /* f2fs */
    case 0x2FC12FC1: /* zfs */
    case 0xCA451A4E: /* bcachefs */
    case 0x3153464A: /* jfs */
    case 0x00003434: /* nilfs2 */
    case 0x52654973: /* reiserfs */
    case 0x24051905: /* ubifs */
        return true;
    }
#else
    (void)directory;
#endif
    return false;
}

int
os_list(const struct os_file *directory, bool (*visit)(void *context, const char *name),
        void *context)
{
    struct os_file copy; /* an open file description of its own: readdir moves its offset */
    struct stat found;
    int error = open_registered(directory->descriptor, ".", O_RDONLY | O_DIRECTORY, &copy, &found);
    if (error != 0) {
        return error;
    }
    DIR *stream = fdopendir(copy.descriptor);
    if (stream == NULL) {
        error = errno;
        os_close(&copy);
        return error;
    }
    struct dirent *entry;
    while (errno = 0, (entry = readdir(stream)) != NULL && visit(context, entry->d_name)) {
    }
    error = entry == NULL ? errno : 0;
    fork_hold_off();
    forget(copy.descriptor, copy.inode);
    closedir(stream);
    fork_allow();
    return error;
}

/* ---- Kernel locks ---- */

int
os_flock(const struct os_file *file, enum os_mode mode)
{
    static const int operations[] = {LOCK_UN, LOCK_SH | LOCK_NB, LOCK_EX | LOCK_NB};
    int result;
    do {
        result = flock(file->descriptor, operations[mode]);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

bool
os_flock_is_unsupported(int error)
{
    return error == EOPNOTSUPP || error == ENOLCK || error == ENOSYS || error == EINVAL ||
           error == EBADF;
}

#ifdef F_OFD_SETLK

/* Open-file-description locks on bytes far behind anything that a user writes into
 * a lock file. Shared ones, since exclusive ones need a file open for writing;
 * asking whether an exclusive one would be refused needs nothing. */
static int
mark_command(const struct os_file *file, int command, short type, enum os_mark mark)
{
    struct flock range = {
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (INT64_C(1) << 61) + (int)mark,
        .l_len = 1,
    };
    int result;
    do {
        result = fcntl(file->descriptor, command, &range);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
        return errno;
    }
    return command == F_OFD_GETLK && range.l_type != F_UNLCK ? EWOULDBLOCK : 0;
}

int
os_mark(const struct os_file *file, enum os_mark mark)
{
    return mark_command(file, F_OFD_SETLK, F_RDLCK, mark);
}

void
os_unmark(const struct os_file *file, enum os_mark mark)
{
    mark_command(file, F_OFD_SETLK, F_UNLCK, mark);
}

int
os_find_mark(const struct os_file *file, enum os_mark mark)
{
    return mark_command(file, F_OFD_GETLK, F_WRLCK, mark);
}

#else

int
os_mark(const struct os_file *file, enum os_mark mark)
{
    (void)file, (void)mark;
    return ENOSYS;
}

void
os_unmark(const struct os_file *file, enum os_mark mark)
{
    (void)file, (void)mark;
}

int
os_find_mark(const struct os_file *file, enum os_mark mark)
{
    (void)file, (void)mark;
    return ENOSYS;
}

#endif

/* ---- Watches ---- */

#ifdef __linux__

int
os_watch_open(int *descriptor)
{
    int error = 0;
    fork_hold_off();
    int made = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (made < 0) {
        error = errno;
    } else if ((error = enter(made, watch_inode)) != 0) {
        close(made);
    } else {
        *descriptor = made;
        os_lock();
        highest_watch = made > highest_watch ? made : highest_watch;
        os_unlock();
    }
    fork_allow();
    return error;
}

bool
os_watch_is_open(int descriptor)
{
    return is_entered(descriptor, watch_inode);
}

void
os_watch_close(int descriptor)
{
    if (os_watch_is_open(descriptor)) {
        close_registered(descriptor, watch_inode);
    } else {
        forget(descriptor, watch_inode);
    }
}

int
os_watch_add(int descriptor, const char *path, enum os_kind kind, int *watch)
{
    uint32_t events = IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_CLOSE_WRITE | IN_DONT_FOLLOW;
    if (kind == OS_DIRECTORY) {
        events |= IN_DELETE;
    }
    int made = inotify_add_watch(descriptor, path, events);
    if (made < 0) {
        return errno;
    }
    *watch = made;
    return 0;
}

void
os_watch_remove(int descriptor, int watch)
{
    /* Fails when the inode is gone, and the watch with it. What is queued goes too. */
    inotify_rm_watch(descriptor, watch);
    os_watch_read(descriptor, -1);
}

struct os_change
os_watch_read(int descriptor, int watch)
{
    struct os_change change = {false, false};
    if (!os_watch_is_open(descriptor)) {
        return change; /* closed behind our back: what it may stand for now is not ours to read */
    }
    _Alignas(struct inotify_event) char buffer[4096];
    ssize_t length;
    while ((length = read(descriptor, buffer, sizeof buffer)) > 0) {
        for (char *next = buffer; next < buffer + length;) {
            const struct inotify_event *event = (const struct inotify_event *)next;
            /* Events of an earlier wait may still be queued: theirs is another number. */
            if (event->wd == watch || (event->mask & IN_Q_OVERFLOW) != 0) {
                change.any = true;
                change.closed = change.closed || (event->mask & IN_CLOSE_WRITE) != 0;
            }
            next += sizeof *event + event->len;
        }
    }
    return change;
}

#else

int
os_watch_open(int *descriptor)
{
    (void)descriptor;
    return ENOSYS;
}

bool
os_watch_is_open(int descriptor)
{
    (void)descriptor;
    return false;
}

void
os_watch_close(int descriptor)
{
    (void)descriptor;
}

int
os_watch_add(int descriptor, const char *path, enum os_kind kind, int *watch)
{
    (void)descriptor, (void)path, (void)kind, (void)watch;
    return ENOSYS;
}

void
os_watch_remove(int descriptor, int watch)
{
    (void)descriptor, (void)watch;
}

struct os_change
os_watch_read(int descriptor, int watch)
{
    (void)descriptor, (void)watch;
    return (struct os_change){true, false};
}

#endif

/* ---- Signals and sleep ---- */

_Static_assert(sizeof(sigset_t) <= sizeof(((struct os_signals *)0)->mask), "a mask must fit");

void
os_signals_hold(struct os_signals *signals)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        sigdelset(&all, faults[i]);
    }
    signals->held = pthread_sigmask(SIG_BLOCK, &all, &before) == 0;
    memcpy(signals->mask, &before, sizeof before);
}

void
os_signals_release(struct os_signals *signals)
{
    if (signals->held) {
        sigset_t before;
        memcpy(&before, signals->mask, sizeof before);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        signals->held = false;
    }
}

int
os_wait(int descriptor, int64_t nanoseconds, const struct os_signals *signals)
{
    struct pollfd polled = {.fd = descriptor, .events = POLLIN};
    struct timespec limit = timespec_of(nanoseconds);
    sigset_t before;
    memcpy(&before, signals->mask, sizeof before);
    int ready = ppoll(&polled, 1, &limit, signals->held ? &before : NULL);
    return ready < 0 ? errno : 0;
}
