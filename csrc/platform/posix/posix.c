/* os.h, as far as all POSIX systems are alike. */
#define _GNU_SOURCE
#include "platform/posix/posix.h"

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
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Readable by all, so that others can look; writable by nobody else. The sticky bit is the
 * stamp of this package: to a file it means nothing, so nobody else has a reason to set it, and
 * no umask takes it away. It tells our files from others of the same name. */
#define STAMP S_ISVTX
#define UNIQUE_MODE (STAMP | 0644)
#define DIRECTORY_MODE (STAMP | 0755)

/* Of files that many use, and of databases: the process's mask decides, as for open(). */
#define SHARED_MODE 0666

/* How many descriptors are tried where the system does not list those that are open. */
#define UNTOLD_NUMBERS 1024

/* A process that has fewer files open gets lower numbers for its watches. */
#define ABOVE_WATCHES 200

#ifdef PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
#define FORK_LOCK_INITIALIZER PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
#else
#define FORK_LOCK_INITIALIZER PTHREAD_RWLOCK_INITIALIZER
#endif

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed; /* made by begin_waits() */

/* Shared: between making a descriptor and its entry in the register. Exclusive: a fork, which
 * would copy a descriptor that the child does not know of. Taken before the mutex.
 * Nobody asks an allocator for memory, or gives it back, while he holds either: one that
 * keeps itself still during forks, too, may have been told of this fork before us. */
static pthread_rwlock_t fork_lock = FORK_LOCK_INITIALIZER;

static int process;
static uint64_t generation;

/* The register: registered[number] is the serial number of the descriptor of ours
 * that has this number; 0: none. */
static uint64_t *registered;
static size_t registered_size;
static uint64_t last_serial;

static struct timespec
timespec_of(int64_t nanoseconds)
{
    return (struct timespec){nanoseconds / OS_SECOND, nanoseconds % OS_SECOND};
}

/* ---- The process's one mutex ---- */

/* Waits with a limit go by the clock of os_now(). */
static int
begin_waits(void)
{
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);
    if (error == 0) {
        error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        if (error == 0) {
            error = pthread_cond_init(&changed, &attributes);
        }
        pthread_condattr_destroy(&attributes);
    }
    return error;
}

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
os_wait_unlocked_until(int64_t time)
{
    struct timespec limit = timespec_of(time);
    pthread_cond_timedwait(&changed, &mutex, &limit);
}

void
os_wake_all(void)
{
    pthread_cond_broadcast(&changed);
}

/* ---- The register of descriptors, and fork ---- */

void
posix_hold_off_forks(void)
{
    pthread_rwlock_rdlock(&fork_lock);
}

void
posix_allow_forks(void)
{
    pthread_rwlock_unlock(&fork_lock);
}

/* Pages of the kernel's, since forks are held off. */
static uint64_t *
map_register(size_t size)
{
    void *pages = mmap(NULL, size * sizeof *registered, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages != MAP_FAILED ? pages : NULL;
}

/* Makes room for a number. False: out of memory. */
static bool
grow_register(size_t number)
{
    size_t size = 2 * number + 64;
    uint64_t *left = map_register(size);
    size_t left_size = size;
    if (left == NULL) {
        return false;
    }
    os_lock();
    if (size > registered_size) { /* no other thread was faster */
        uint64_t *larger = left;
        if (registered != NULL) {
            memcpy(larger, registered, registered_size * sizeof *larger);
        }
        left = registered;
        left_size = registered_size;
        registered = larger;
        registered_size = size;
    }
    os_unlock();
    if (left != NULL) {
        munmap(left, left_size * sizeof *left);
    }
    return true;
}

/* False: there is no room for that number. */
static bool
enter(int descriptor, struct os_file *file)
{
    os_lock();
    bool fits = (size_t)descriptor < registered_size;
    if (fits) {
        registered[descriptor] = ++last_serial;
        *file = (struct os_file){.descriptor = descriptor, .serial = last_serial};
    }
    os_unlock();
    return fits;
}

int
posix_enter(int descriptor, struct os_file *file)
{
    int error = system_tag(descriptor);
    while (error == 0 && !enter(descriptor, file)) {
        error = grow_register((size_t)descriptor) ? 0 : ENOMEM;
    }
    return error;
}

static bool
is_registered(const struct os_file *file)
{
    return file->descriptor >= 0 && registered[file->descriptor] == file->serial;
}

/* False: the number has another meaning by now. */
static bool
forget(const struct os_file *file)
{
    os_lock();
    bool known = is_registered(file);
    if (known) {
        registered[file->descriptor] = 0;
    }
    os_unlock();
    return known;
}

bool
os_is_open(const struct os_file *file)
{
    os_lock();
    bool known = is_registered(file);
    os_unlock();
    return known && system_is_tagged(file->descriptor);
}

static void *_Atomic freed_later; /* each block begins with the next one's address */

void
os_free_later(void *block)
{
    void *next = freed_later;
    memcpy(block, &next, sizeof next);
    freed_later = block;
}

static void
free_now(void)
{
    if (freed_later == NULL) {
        return;
    }
    os_lock();
    void *block = atomic_exchange(&freed_later, NULL);
    os_unlock();
    while (block != NULL) {
        void *next;
        memcpy(&next, block, sizeof next);
        free(block);
        block = next;
    }
}

void
os_close(struct os_file *file)
{
    if (file->descriptor < 0) {
        return;
    }
    free_now();
    /* It may block, so forks are not held off: see os_list() for why it is forgotten second. */
    if (os_is_open(file)) {
        close(file->descriptor);
    }
    forget(file);
    file->descriptor = -1;
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
        if (registered[number] != 0 && system_is_tagged((int)number)) {
            close((int)number);
        }
        registered[number] = 0;
    }
    generation++;
    process = getpid();
    mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    begin_waits(); /* it allocates nothing, and did not fail before */
    fork_lock = (pthread_rwlock_t)FORK_LOCK_INITIALIZER;
}

static int begin_error;

static void
begin(void)
{
    process = getpid();
    begin_error = begin_waits();
    if (begin_error == 0) {
        begin_error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    }
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
os_generation(void)
{
    return generation;
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

uint64_t
os_random(void)
{
    uint64_t number;
    if (system_random(&number)) {
        return number;
    }
    /* What differs between callers will do. */
    number = (uint64_t)os_now() ^ ((uint64_t)process << 40) ^ os_thread();
    return number * UINT64_C(0x9E3779B97F4A7C15);
}

static int64_t
read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * OS_SECOND + now.tv_nsec;
}

int64_t
os_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t
os_date(void)
{
    return read_clock(CLOCK_REALTIME);
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

/* ---- Threads ---- */

#define SMALL_STACK (64 * 1024)

static void *
work_aside(void *context)
{
    void (*work)(void);
    memcpy(&work, &context, sizeof work);
    work();
    return NULL;
}

bool
os_do_aside(void (*work)(void))
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    void *context;
    _Static_assert(sizeof context == sizeof work, "POSIX says so");
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    memcpy(&context, &work, sizeof context);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* which the thread inherits */
    bool begun = pthread_attr_setstacksize(&attributes, SMALL_STACK) == 0 &&
                 pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                 pthread_create(&thread, &attributes, work_aside, context) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return begun;
}

/* ---- Files ---- */

const struct os_file os_anywhere = {.descriptor = AT_FDCWD};

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
                : S_ISLNK(found->st_mode) ? OS_LINK
                                          : OS_OTHER,
        .user = (uint64_t)found->st_uid,
        .mode = found->st_mode & 0777,
        .shared = (found->st_mode & 0022) != 0,
        .sticky = (found->st_mode & S_ISVTX) != 0,
        .stamped = (found->st_mode & STAMP) != 0,
        .links = (uint64_t)found->st_nlink,
        .size = (uint64_t)found->st_size,
    };
}

/* A dying process lets go of its highest descriptor first, and of a watch only
 * after 10 to 35 ms. A beacon below a watch would burn for so long after its
 * owner's death. Returns the descriptor, or one above all watches in its place; what
 * stays open for long, above those to come, too. */
static int
raise_above_watches(int descriptor, bool stays)
{
    int lowest = system_highest_watch() + 1;
    if (stays && lowest < ABOVE_WATCHES) {
        lowest = ABOVE_WATCHES;
    }
    int raised = descriptor < lowest ? fcntl(descriptor, F_DUPFD_CLOEXEC, lowest) : -1;
    if (raised < 0) {
        return descriptor; /* refused, it costs a waiter some time, not the lock */
    }
    close(descriptor);
    return raised;
}

/* A server of another system may have no such bit for files (FreeBSD's has none): once more,
 * without it. */
static bool
is_stamp_refused(int flags, mode_t *mode)
{
    bool refused =
        (flags & O_EXCL) != 0 && (*mode & STAMP) != 0 && (errno == EINVAL || errno == EPERM);
    *mode &= ~(mode_t)STAMP;
    return refused;
}

/* Opens, asks for the inode and registers, with forks held off meanwhile. */
static int
open_registered(int directory, const char *name, int flags, struct os_file *file,
                struct stat *found)
{
    int descriptor;
    int error = 0;
    mode_t mode = (flags & O_EXCL) != 0 ? UNIQUE_MODE : SHARED_MODE; /* if it is made */
    posix_hold_off_forks();
    do {
        descriptor = openat(directory, name, flags | O_CLOEXEC, mode);
    } while (descriptor < 0 && (errno == EINTR || is_stamp_refused(flags, &mode)));
    if (descriptor >= 0 && (flags & O_CREAT) != 0) {
        descriptor = raise_above_watches(descriptor, (flags & O_EXCL) == 0);
    }
    if (descriptor < 0 || fstat(descriptor, found) != 0) {
        error = errno;
    } else {
        error = posix_enter(descriptor, file);
    }
    if (error == 0) {
        file->inode = inode_of(found);
    } else if (descriptor >= 0) {
        if ((flags & O_EXCL) != 0) {
            unlinkat(directory, name, 0);
        }
        close(descriptor);
    }
    posix_allow_forks();
    return error;
}

int
os_open_directory(const char *path, struct os_file *directory)
{
    struct stat found;
    return open_registered(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, directory, &found);
}

/* What was just made gets its mode, whatever the umask was. A file system that has no modes
 * refuses that, and one that knows no stamps does not set them. */
static int
set_mode(const struct os_file *file, mode_t found, mode_t wanted)
{
    if ((found & 07777) == wanted || fchmod(file->descriptor, wanted) == 0) {
        return 0;
    }
    bool refused = errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS;
    return refused || (found & 0777) == (wanted & 0777) ? 0 : errno;
}

int
os_create(const struct os_file *directory, const char *name, struct os_file *file)
{
    struct stat found;
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    int error = open_registered(directory->descriptor, name, flags, file, &found);
    if (error == 0) {
        error = set_mode(file, found.st_mode, UNIQUE_MODE);
        if (error != 0) {
            os_unlink(directory, name);
            os_close(file);
        }
    }
    return error;
}

int
os_make_directory(const struct os_file *directory, const char *name, struct os_file *made)
{
    struct stat found;
    if (mkdirat(directory->descriptor, name, DIRECTORY_MODE) != 0) {
        return errno;
    }
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
    int error = open_registered(directory->descriptor, name, flags, made, &found);
    if (error == ENOENT || error == ENOTDIR || error == ELOOP) {
        return ENOENT; /* removed already; what is there now is another's */
    }
    if (error == 0) {
        error = set_mode(made, found.st_mode, DIRECTORY_MODE);
        if (error != 0) {
            os_close(made);
        }
    }
    if (error != 0) {
        os_remove_directory(directory, name);
    }
    return error;
}

int
os_open(const struct os_file *directory, const char *name, enum os_access access,
        struct os_file *file, struct os_status *status)
{
    struct stat found;
    int flags = (access == OS_WRITE ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK;
    int error = open_registered(directory->descriptor, name, flags, file, &found);
    if (error == 0) {
        fill_status(&found, status);
    }
    return error;
}

int
os_open_shared(const struct os_file *directory, const char *name, struct os_file *file,
               struct os_status *status)
{
    struct stat found;
    int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
    int error = open_registered(directory->descriptor, name, flags, file, &found);
    if (error == 0) {
        fill_status(&found, status);
    }
    return error;
}

/* Made without being opened: who closes a database that SQLite has open, too, would
 * take its locks away. */
int
os_make_file(const struct os_file *directory, const char *name)
{
    return mknodat(directory->descriptor, name, S_IFREG | SHARED_MODE, 0) == 0 ? 0 : errno;
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
os_status_of(const char *path, struct os_status *status)
{
    struct stat found;
    if (stat(path, &found) != 0) {
        return errno;
    }
    fill_status(&found, status);
    return 0;
}

int
os_resolve(const char *path, char resolved[OS_PATH_SIZE])
{
    return realpath(path, resolved) != NULL ? 0 : errno;
}

int
os_set_mode(const struct os_file *file, unsigned mode)
{
    return fchmod(file->descriptor, mode) == 0 ? 0 : errno;
}

int
os_stamp(const struct os_file *file, const struct os_status *status)
{
    return fchmod(file->descriptor, STAMP | status->mode) == 0 ? 0 : errno;
}

int
os_touch(const struct os_file *file)
{
    return futimens(file->descriptor, NULL) == 0 ? 0 : errno;
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
    system_find_birth(directory->descriptor, name, identity);
    return 0;
}

int
os_link(const struct os_file *directory, const char *existing, const char *name)
{
    int at = directory->descriptor;
    return linkat(at, existing, at, name, 0) == 0 ? 0 : errno;
}

int
os_rename(const struct os_file *directory, const char *from, const char *to)
{
    return system_rename(directory->descriptor, from, to);
}

/* EXDEV: overlayfs does not rename a directory that lies in a lower layer, as one does that was
 * there when an image was made of it. ENOSPC and EDQUOT: for the new name in the directory. */
bool
os_rename_is_unsupported(int error)
{
    return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == EXDEV;
}

bool
os_is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

int
os_move(const struct os_file *directory, const char *from, const char *to)
{
    return renameat(directory->descriptor, from, directory->descriptor, to) == 0 ? 0 : errno;
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
    /* It frees memory, so forks are not held off. It is forgotten second: a child that is
     * forked in between closes what has the number only if that is tagged, which nothing
     * is but files of ours; one that we open under the number has another serial by then,
     * and is not forgotten. Forgotten first, a child would keep it. */
    closedir(stream);
    forget(&copy);
    return error;
}

/* ---- Descriptors of other libraries ---- */

struct number_search {
    struct os_inode inode;
    int access;
    struct os_numbers *numbers;
    bool full;
};

static void
note_number(struct number_search *search, int descriptor)
{
    struct os_numbers *numbers = search->numbers;
    struct stat found;
    if (fstat(descriptor, &found) != 0 || !os_same(inode_of(&found), search->inode) ||
        (fcntl(descriptor, F_GETFL) & O_ACCMODE) != search->access) {
        return;
    }
    search->full = numbers->count == OS_NUMBERS;
    if (!search->full) {
        numbers->each[numbers->count++] = descriptor;
    }
}

static bool
visit_number(void *context, const char *text)
{
    struct number_search *search = context;
    char *end;
    long descriptor = strtol(text, &end, 10);
    if (end != text) {
        note_number(search, (int)descriptor);
    }
    return !search->full;
}

int
os_find_numbers(struct os_inode inode, enum os_access access, struct os_numbers *numbers)
{
    struct number_search search = {
        .inode = inode, .access = access == OS_WRITE ? O_RDWR : O_RDONLY, .numbers = numbers};
    struct os_file descriptors;
    numbers->count = 0;
    int error = os_open_directory(SYSTEM_DESCRIPTORS, &descriptors);
    if (error == 0) {
        error = os_list(&descriptors, visit_number, &search);
        os_close(&descriptors);
    } else if (error == ENOENT) { /* where the system does not tell, they are tried */
        error = 0;
        for (int number = 0; number < UNTOLD_NUMBERS; number++) {
            note_number(&search, number);
        }
    }
    return error == 0 && search.full ? EMFILE : error;
}

int
os_adopt(int descriptor, struct os_file *file)
{
    struct stat found;
    posix_hold_off_forks();
    int error = fstat(descriptor, &found) != 0 ? errno : posix_enter(descriptor, file);
    posix_allow_forks();
    if (error == 0) {
        file->inode = inode_of(&found);
    }
    return error;
}

void
os_disown(struct os_file *file)
{
    forget(file);
    file->descriptor = -1;
}

int
os_read_at(const struct os_file *file, uint64_t offset, void *buffer, size_t size)
{
    ssize_t length;
    do {
        length = pread(file->descriptor, buffer, size, (off_t)offset);
    } while (length < 0 && errno == EINTR);
    return length < 0 ? errno : (size_t)length < size ? ENODATA : 0;
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
    return ready < 0 ? errno : ready == 0 ? ETIMEDOUT : 0;
}
