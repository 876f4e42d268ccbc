/* What all POSIX systems offer beyond POSIX, or what stands in for what they do not. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700
#define _NETBSD_SOURCE
#define __BSD_VISIBLE 1
#include "platform/system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <unistd.h>

/* ---- Tags ---- */

/* Where our open files stand: they are never read nor written from there. It stays with the open
 * file, so a number that was closed and opened again does not have it. Less than any file system
 * takes for the end of a file. */
#define TAG 0x4C6F636B

/* Directories are read from where they stand, and pipes stand nowhere: theirs are two flags that
 * mean nothing to who only reads. A file that SQLite writes must not have them. */
#define FLAGS_TAG (O_APPEND | O_NONBLOCK)

static bool
is_plain(int descriptor)
{
    struct stat found;
    return fstat(descriptor, &found) == 0 && S_ISREG(found.st_mode);
}

int
system_tag(int descriptor)
{
    if (is_plain(descriptor)) {
        return lseek(descriptor, TAG, SEEK_SET) == TAG ? 0 : errno;
    }
    if (system_tag_watch(descriptor)) {
        return 0;
    }
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && fcntl(descriptor, F_SETFL, flags | FLAGS_TAG) == 0 ? 0 : errno;
}

bool
system_is_tagged(int descriptor)
{
    if (is_plain(descriptor)) {
        return lseek(descriptor, 0, SEEK_CUR) == TAG;
    }
    int flags = fcntl(descriptor, F_GETFL);
    return (flags >= 0 && (flags & FLAGS_TAG) == FLAGS_TAG) || system_is_tagged_watch(descriptor);
}

/* ---- Forks, and memory ---- */

void
system_make_fork_lock(pthread_rwlock_t *lock)
{
    *lock = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER;
}

void *
system_map_pages(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    return pages != MAP_FAILED ? pages : NULL;
}

/* ---- Names ---- */

#define NAMES_TRIED 16
#define NAME_ROOM 64

/* It gets its name only once it is closed: nobody has opened it by that before. */
int
system_make_file(int directory, const char *name, unsigned mode)
{
    char path[OS_PATH_SIZE + NAME_ROOM];
    int descriptor = -1;
    errno = EEXIST;
    for (int i = 0; i < NAMES_TRIED && descriptor < 0 && errno == EEXIST; i++) {
        uint64_t number = (uint64_t)i;
        system_random(&number);
        snprintf(path, sizeof path, "%s-%016llx", name, (unsigned long long)number);
        descriptor = openat(directory, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    }
    if (descriptor < 0) {
        return errno;
    }
    close(descriptor);
    int error = linkat(directory, path, directory, name, 0) == 0 ? 0 : errno;
    unlinkat(directory, path, 0);
    return error;
}

/* ---- Locks ---- */

int
system_flock(int descriptor, enum os_mode mode)
{
    static const int operations[] = {
        [OS_UNLOCK] = LOCK_UN, [OS_SHARED] = LOCK_SH | LOCK_NB, [OS_EXCLUSIVE] = LOCK_EX | LOCK_NB};
    int result;
    do {
        result = flock(descriptor, operations[mode]);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

/* ---- Sleep ---- */

int
system_wait(int descriptor, const struct timespec *limit, const sigset_t *mask)
{
    fd_set readable;
    FD_ZERO(&readable);
    if (descriptor >= 0) {
        FD_SET(descriptor, &readable);
    }
    int ready = pselect(descriptor + 1, &readable, NULL, NULL, limit, mask);
    return ready < 0 ? errno : ready == 0 ? ETIMEDOUT : 0;
}
