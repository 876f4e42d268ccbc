/* The manners of a network file system, for a process that runs with this library in
 * LD_PRELOAD: below NFS_ROOT the system calls answer as an NFS client's kernel might.
 * The process belongs to machine number NFS_MACHINE; machines share nothing but files.
 *
 *   - flock() is one of the following, by NFS_FLOCK. "server": seen by all machines, and
 *     as NFS 4 has it: exclusive only on a file open for writing, shared only on one open for
 *     reading. "machine": the same, seen by this machine alone. A number: refused with it.
 *     (Directories have the real one, as NFS leaves them to the kernel.)
 *   - No rename without replacing, no time of birth.
 *   - A file that this machine has open by the name that is removed is renamed to .nfs...;
 *     that goes when nobody has it open any more, at the latest when somebody could notice.
 *   - For NFS_LAG milliseconds fstatat() answers what it answered before, and open() that
 *     there is no such file, unless this machine itself has used the name meanwhile.
 *   - Calls that are done and then answered as if they were asked a second time, that are
 *     not done and answered as if they were, or that find a handle stale: see struct manner.
 *
 * Kernel locks are made of open-file-description locks on bytes far behind all others. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define SUPER_MAGIC 0x6969
#define BEACONS (INT64_C(1) << 62)            /* a byte for each machine */
#define OPENED (BEACONS + (INT64_C(1) << 61)) /* for each machine a byte for each name */
#define NAMES (UINT32_C(1) << 20)
#define MEMORIES 512

/* Set from outside: the next so many calls, and so many of a hundred others. It counts. */
struct manner {
    int next, percent, shown;
};
struct manner stale_open, stale_stat, stale_link, stale_unlink; /* of lock files: ESTALE */
struct manner repeated_link, repeated_mkdir;                    /* done, and answered with EEXIST */
struct manner repeated_unlink;                                  /* done, and answered with ENOENT */
struct manner untrue_link;                   /* not done, and answered with success */
struct manner reused_inode;                  /* an outdated answer has a new number */
struct manner silly_rename, outdated_answer; /* these only count */

static const char *root, *flock_manner;
static unsigned machine;
static int64_t lag;

/* How often this machine has used a name: what a process remembers is good for one number. */
static _Atomic uint32_t *uses;

static struct memory {
    ino_t directory;
    char name[NAME_MAX + 1];
    uint32_t use;
    int64_t time;
    int error;
    struct stat status;
} memories[MEMORIES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static ino_t last_file, last_directory; /* that this process has made */

static const char *
environment(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL ? value : otherwise;
}

__attribute__((constructor)) static void
begin(void)
{
    root = environment("NFS_ROOT", "/nowhere");
    flock_manner = environment("NFS_FLOCK", "server");
    machine = (unsigned)atoi(environment("NFS_MACHINE", "0"));
    lag = atoi(environment("NFS_LAG", "0")) * INT64_C(1000000);
    int often = atoi(environment("NFS_REPEATED", "0"));
    repeated_link.percent = repeated_unlink.percent = often;
    int descriptor = REAL(open)(environment("NFS_MEMORY", ""), O_RDWR | O_CLOEXEC);
    if (descriptor >= 0) {
        uses = mmap(NULL, NAMES * sizeof *uses, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        close(descriptor);
    }
    if (uses == NULL || uses == MAP_FAILED) {
        lag = 0;
    }
}

static int
percent_chance(void)
{
    uint32_t chance = 0;
    return getrandom(&chance, sizeof chance, 0) == sizeof chance ? (int)(chance % 100) : 100;
}

static bool
shows(struct manner *manner)
{
    bool now = manner->next > 0 || (manner->percent > 0 && percent_chance() < manner->percent);
    manner->next -= manner->next > 0;
    manner->shown += now;
    return now;
}

static int
refuse(int error)
{
    errno = error;
    return -1;
}

/* ---- Names ---- */

static bool
is_below_root(int directory, const char *name)
{
    char link[40], path[PATH_MAX];
    ssize_t length = 0;
    if (name != NULL && name[0] == '/') {
        length = snprintf(path, sizeof path, "%s", name);
    } else if (directory >= 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        length = readlink(link, path, sizeof path - 1);
    }
    size_t size = strlen(root);
    return length >= (ssize_t)size && memcmp(path, root, size) == 0 &&
           (path[size] == '/' || length == (ssize_t)size);
}

static bool
is_lock_file(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".lock") == 0;
}

static uint32_t
number_of(ino_t directory, const char *name)
{
    uint32_t hash = (uint32_t)directory ^ 0x811C9DC5;
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * 0x01000193;
    }
    return hash % NAMES;
}

static ino_t
inode_of(int directory)
{
    struct stat status;
    return fstat(directory, &status) == 0 ? status.st_ino : 0;
}

static uint32_t
name_number(int directory, const char *name)
{
    return number_of(inode_of(directory), name);
}

/* ---- What this machine has open, and what becomes of it when it is removed ---- */

static int
lock_byte(int descriptor, int command, short type, int64_t byte)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int result = fcntl(descriptor, command, &range);
    return result == 0 && command == F_OFD_GETLK ? range.l_type != F_UNLCK : result;
}

/* One byte for all who may read, and one for the only one who may not: who made it. */
static int64_t
open_byte(unsigned of_machine, uint32_t number, bool readable)
{
    return OPENED + (int64_t)(2 * of_machine + readable) * NAMES + number;
}

static bool
is_opened(int directory, const char *name, unsigned of_machine, uint32_t number)
{
    int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int descriptor = REAL(openat)(directory, name, flags);
    if (descriptor < 0) {
        return false;
    }
    bool opened = false;
    for (int readable = 0; readable <= 1; readable++) {
        int64_t byte = open_byte(of_machine, number, readable);
        opened = opened || lock_byte(descriptor, F_OFD_GETLK, F_WRLCK, byte) > 0;
    }
    close(descriptor);
    return opened;
}

static void
let_go_of(int directory, const char *name)
{
    unsigned of_machine, number;
    if (sscanf(name, ".nfs%4x%8x", &of_machine, &number) == 2 &&
        !is_opened(directory, name, of_machine, number)) {
        REAL(unlinkat)(directory, name, 0);
    }
}

/* Removes the .nfs files that nobody has open any more, as a kernel does at the last close. */
void
let_go(int directory, const char *path)
{
    struct dirent *entry;
    int descriptor = REAL(openat)(directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        let_go_of(descriptor, entry->d_name);
    }
    if (stream != NULL) {
        closedir(stream);
    }
}

static int
remove_file(int directory, const char *name)
{
    char silly[40];
    uint32_t chance, number = name_number(directory, name);
    if (strncmp(name, ".nfs", 4) == 0) {
        let_go_of(directory, name);
        return REAL(faccessat)(directory, name, F_OK, 0) == 0 ? refuse(EBUSY) : 0;
    }
    if (!is_opened(directory, name, machine, number)) {
        return REAL(unlinkat)(directory, name, 0);
    }
    silly_rename.shown++;
    if (getrandom(&chance, sizeof chance, 0) < 0) {
        return -1;
    }
    snprintf(silly, sizeof silly, ".nfs%04x%08x%08x", machine, number, chance);
    return renameat(directory, name, directory, silly);
}

/* ---- What this machine remembers ---- */

static int64_t
now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void
use(int directory, const char *name)
{
    if (lag > 0) {
        uses[name_number(directory, name)]++;
    }
}

static struct memory *
memory_of(ino_t directory, const char *name)
{
    return &memories[number_of(directory, name) % MEMORIES];
}

static bool
recall(int directory, const char *name, int *error, struct stat *status)
{
    ino_t inode = inode_of(directory);
    struct memory *memory = memory_of(inode, name);
    pthread_mutex_lock(&mutex);
    bool known = memory->directory == inode && strcmp(memory->name, name) == 0 &&
                 memory->use == uses[number_of(inode, name)] && now() - memory->time < lag;
    if (known) {
        *error = memory->error;
        *status = memory->status;
    }
    pthread_mutex_unlock(&mutex);
    return known;
}

static int
ask(int directory, const char *name, struct stat *status)
{
    return REAL(fstatat)(directory, name, status, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

/* Numbers of removed files are given out again: a new file may have what is remembered. */
static void
count_if_outdated(int directory, const char *name, int error, struct stat *remembered)
{
    struct stat status;
    int truth = ask(directory, name, &status);
    bool outdated = truth != error || (error == 0 && status.st_ino != remembered->st_ino);
    outdated_answer.shown += outdated;
    if (outdated && error == 0 && shows(&reused_inode)) {
        remembered->st_ino = S_ISDIR(remembered->st_mode) ? last_directory : last_file;
    }
}

static void
note_what_was_made(int directory, const char *name)
{
    struct stat status;
    if (ask(directory, name, &status) == 0) {
        *(S_ISDIR(status.st_mode) ? &last_directory : &last_file) = status.st_ino;
    }
}

static int
ask_and_remember(int directory, const char *name, struct stat *status)
{
    ino_t inode = inode_of(directory);
    struct memory *memory = memory_of(inode, name);
    uint32_t before = uses[number_of(inode, name)];
    int error = ask(directory, name, status);
    pthread_mutex_lock(&mutex);
    memory->directory = inode;
    snprintf(memory->name, sizeof memory->name, "%s", name);
    memory->use = before;
    memory->time = now();
    memory->error = error;
    memory->status = *status;
    pthread_mutex_unlock(&mutex);
    return error;
}

/* ---- The calls ---- */

int
open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return REAL(open)(strcmp(path, "/proc/sys/kernel/random/boot_id") == 0
                          ? environment("NFS_BOOT_ID", path)
                          : path,
                      flags, mode);
}

/* Marks what is opened, so that its removal is known to be one of an open file. */
static int
open_below_root(int directory, const char *name, int flags, mode_t mode)
{
    struct stat status;
    int error;
    if (is_lock_file(name) && shows(&stale_open)) {
        return refuse(ESTALE);
    }
    if (lag > 0 && (flags & O_CREAT) == 0 && recall(directory, name, &error, &status) &&
        error == ENOENT) {
        count_if_outdated(directory, name, error, &status);
        return refuse(ENOENT);
    }
    if (strcmp(name, ".") == 0) {
        let_go(directory, name);
    }
    int descriptor = REAL(openat)(directory, name, flags, mode);
    use(directory, name);
    if (descriptor >= 0) {
        bool readable = (flags & O_ACCMODE) != O_WRONLY;
        int64_t byte = open_byte(machine, name_number(directory, name), readable);
        if ((flags & O_CREAT) != 0) {
            note_what_was_made(directory, name);
        }
        lock_byte(descriptor, F_OFD_SETLK, readable ? F_RDLCK : F_WRLCK, byte);
    }
    return descriptor;
}

int
openat(int directory, const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return directory >= 0 && is_below_root(directory, name)
               ? open_below_root(directory, name, flags, mode)
               : REAL(openat)(directory, name, flags, mode);
}

int
fstatat(int directory, const char *name, struct stat *status, int flags)
{
    int error = 0;
    if (directory < 0 || !is_below_root(directory, name)) {
        return REAL(fstatat)(directory, name, status, flags);
    }
    if (is_lock_file(name) && shows(&stale_stat)) {
        return refuse(ESTALE);
    }
    if (lag == 0) {
        return REAL(fstatat)(directory, name, status, flags);
    }
    if (recall(directory, name, &error, status)) {
        count_if_outdated(directory, name, error, status);
    } else {
        error = ask_and_remember(directory, name, status);
    }
    return error == 0 ? 0 : refuse(error);
}

int
statx(int directory, const char *name, int flags, unsigned mask, struct statx *status)
{
    int result = REAL(statx)(directory, name, flags, mask, status);
    if (result == 0 && is_below_root(directory, name)) {
        status->stx_mask &= ~STATX_BTIME;
    }
    return result;
}

int
fstatfs(int descriptor, struct statfs *status)
{
    int result = REAL(fstatfs)(descriptor, status);
    if (result == 0 && is_below_root(descriptor, NULL)) {
        status->f_type = SUPER_MAGIC;
    }
    return result;
}

int
linkat(int from_directory, const char *from, int directory, const char *name, int flags)
{
    if (!is_below_root(directory, name)) {
        return REAL(linkat)(from_directory, from, directory, name, flags);
    }
    if (shows(&stale_link)) {
        return refuse(ESTALE);
    }
    if (shows(&untrue_link)) {
        return 0;
    }
    int result = REAL(linkat)(from_directory, from, directory, name, flags);
    use(directory, name);
    return result == 0 && shows(&repeated_link) ? refuse(EEXIST) : result;
}

int
symlinkat(const char *target, int directory, const char *name)
{
    if (!is_below_root(directory, name)) {
        return REAL(symlinkat)(target, directory, name);
    }
    if (shows(&stale_link)) {
        return refuse(ESTALE);
    }
    if (shows(&untrue_link)) {
        return 0;
    }
    int result = REAL(symlinkat)(target, directory, name);
    use(directory, name);
    return result == 0 && shows(&repeated_link) ? refuse(EEXIST) : result;
}

int
renameat2(int from_directory, const char *from, int directory, const char *name, unsigned flags)
{
    return is_below_root(directory, name) && flags != 0
               ? refuse(EINVAL)
               : REAL(renameat2)(from_directory, from, directory, name, flags);
}

int
mkdirat(int directory, const char *name, mode_t mode)
{
    int result = REAL(mkdirat)(directory, name, mode);
    if (is_below_root(directory, name)) {
        use(directory, name);
        if (result == 0) {
            note_what_was_made(directory, name);
        }
        if (result == 0 && is_lock_file(name) && shows(&repeated_mkdir)) {
            return refuse(EEXIST);
        }
    }
    return result;
}

int
unlinkat(int directory, const char *name, int flags)
{
    if (!is_below_root(directory, name)) {
        return REAL(unlinkat)(directory, name, flags);
    }
    if (is_lock_file(name) && shows(&stale_unlink)) {
        return refuse(ESTALE);
    }
    if ((flags & AT_REMOVEDIR) != 0) {
        let_go(directory, name);
    }
    int result = (flags & AT_REMOVEDIR) != 0 ? REAL(unlinkat)(directory, name, flags)
                                             : remove_file(directory, name);
    use(directory, name);
    return result == 0 && shows(&repeated_unlink) ? refuse(ENOENT) : result;
}

int
flock(int descriptor, int operation)
{
    static const short types[] = {[LOCK_SH] = F_RDLCK, [LOCK_EX] = F_WRLCK, [LOCK_UN] = F_UNLCK};
    struct stat status;
    bool ours = is_below_root(descriptor, NULL);
    if (ours && atoi(flock_manner) != 0) {
        return refuse(atoi(flock_manner));
    }
    if (!ours || fstat(descriptor, &status) != 0 || S_ISDIR(status.st_mode)) {
        return REAL(flock)(descriptor, operation);
    }
    unsigned of_machine = strcmp(flock_manner, "machine") == 0 ? machine : 0;
    return lock_byte(descriptor, F_OFD_SETLK, types[operation & ~LOCK_NB], BEACONS + of_machine);
}
