/* Open files, and what is known of files. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include "platform/posix/forks.h"
#include "platform/posix/register.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Readable by all, so that others can look; writable by nobody else. The sticky bit is the
 * stamp of this package: to a file it means nothing, so nobody else has a reason to set it, and
 * no umask takes it away. It tells our files from others of the same name. A system that gives
 * it to no file has another stamp for those. */
#define STAMP S_ISVTX
#define UNIQUE_MODE (system_stamp_of_files | 0644)
#define DIRECTORY_MODE (STAMP | 0755)

/* Of files that many use, and of databases: the process's mask decides, as for open(). */
#define SHARED_MODE 0666

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
        .stamped = (found->st_mode & STAMP) != 0 || system_is_stamped(found),
        .links = (uint64_t)found->st_nlink,
        .size = (uint64_t)found->st_size,
    };
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
        descriptor = posix_move_to_close_first(descriptor, (flags & O_EXCL) == 0);
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
    int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW;
    int error = open_registered(directory->descriptor, name, flags, file, &found);
    if (error == 0) {
        error = set_mode(file, found.st_mode, UNIQUE_MODE);
        if (error == 0) {
            system_stamp(file->descriptor);
        } else {
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
os_create_inside(const struct os_file *inside, const char *name, struct os_file *file)
{
    return os_create(inside, name, file);
}

int
os_open_inside(const struct os_file *inside, const char *name, enum os_access access,
               struct os_file *file, struct os_status *status)
{
    return os_open(inside, name, access, file, status);
}

int
os_follow(const struct os_file *directory, const char *name, const struct os_file *file,
          struct os_file *followed)
{
    (void)directory;
    (void)name;
    *followed = *file;
    return 0;
}

void
os_end_following(struct os_file *followed)
{
    *followed = OS_NO_FILE;
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
    return system_make_file(directory->descriptor, name, SHARED_MODE);
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
os_set_mode(const struct os_file *file, unsigned mode)
{
    return fchmod(file->descriptor, mode) == 0 ? 0 : errno;
}

int
os_write_at(const struct os_file *file, uint64_t offset, const void *text, size_t size)
{
    ssize_t length;
    do {
        length = pwrite(file->descriptor, text, size, (off_t)offset);
    } while (length < 0 && errno == EINTR);
    return length < 0 ? errno : (size_t)length < size ? ENOSPC : 0;
}

int
os_truncate(const struct os_file *file, uint64_t size)
{
    return ftruncate(file->descriptor, (off_t)size) == 0 ? 0 : errno;
}

/* From its beginning. */
int
os_read(const struct os_file *file, void *buffer, size_t size, size_t *length)
{
    ssize_t count;
    do {
        count = pread(file->descriptor, buffer, size, 0);
    } while (count < 0 && errno == EINTR);
    *length = count > 0 ? (size_t)count : 0;
    return count < 0 ? errno : 0;
}

int
os_stamp(const struct os_file *file, const struct os_status *status)
{
    bool is_directory = status->kind == OS_DIRECTORY;
    mode_t stamp = is_directory ? STAMP : system_stamp_of_files;
    if (fchmod(file->descriptor, stamp | status->mode) != 0) {
        return errno;
    }
    if (!is_directory) {
        system_stamp(file->descriptor);
    }
    return 0;
}

const bool os_has_descriptors = true;

int
os_keep_in_program(const struct os_file *file, bool kept)
{
    return fcntl(file->descriptor, F_SETFD, kept ? 0 : FD_CLOEXEC) == 0 ? 0 : errno;
}

bool
os_may_write(const struct os_file *directory)
{
    return faccessat(directory->descriptor, ".", W_OK | X_OK, AT_EACCESS) == 0;
}

int
os_touch(const struct os_file *file)
{
    return futimens(file->descriptor, NULL) == 0 ? 0 : errno;
}

int
os_touch_named(const struct os_file *directory, const char *name, const struct os_file *file)
{
    (void)directory;
    (void)name;
    return os_touch(file); /* all its names are told */
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
    posix_forget(&copy);
    return error;
}
