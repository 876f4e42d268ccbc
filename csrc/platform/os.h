/* Every system call of the project.
 *
 * The rest of the code is plain C11, and includes nothing else of the platform. posix/ holds
 * what POSIX.1-2008 says and no more; what a system has to add is in system.h, and in a folder
 * of its own: linux/. none/ stands in for what a system has not. windows/ stands alone.
 *
 * Calling sequence: os_begin() once, before anything else. Functions that can
 * fail return 0 or an errno value and leave their results untouched when they
 * fail; none of them is interrupted by a signal unless it says so.
 *
 * Descriptors. Every descriptor is opened and closed here, tagged, and entered in
 * a register under a serial number. That answers two questions that numbers alone
 * cannot: which descriptors must a forked child close (all of them: a child owns
 * nothing), and is this number still ours, or has the program closed it behind our
 * back and got it again for something else? The inode would not tell: the program
 * may open the same directory or lock file as we do.
 *
 * One mutex guards all of the process's shared memory. It is never
 * held over a system call, nor while Python code can run, nor is memory allocated
 * or freed then: a fork waits for it.
 */
#ifndef LOCKFILE_OS_H
#define LOCKFILE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OS_HOST_SIZE 256
#define OS_PATH_SIZE 4096

#define OS_MILLISECOND INT64_C(1000000)
#define OS_SECOND (1000 * OS_MILLISECOND)
#define OS_NEVER INT64_MAX

/* A device and an inode number. Numbers are reused at once: only an open
 * descriptor pins one. */
struct os_inode {
    uint64_t device;
    uint64_t number;
};

/* An inode and the time of its birth (of its last modification where the file
 * system keeps no birth): tells apart two files that had one number in turn. */
struct os_identity {
    struct os_inode inode;
    int64_t born;
    bool is_link; /* a symbolic one */
};

static inline bool
os_same(struct os_inode one, struct os_inode other)
{
    return one.device == other.device && one.number == other.number;
}

enum os_kind { OS_REGULAR, OS_DIRECTORY, OS_LINK, OS_OTHER };

struct os_status {
    struct os_inode inode;
    enum os_kind kind;
    uint64_t user;
    unsigned mode; /* who may do what, as the system writes it down */
    bool shared;   /* its group or others may write it */
    bool sticky;   /* a directory in which only owners may remove */
    bool stamped;  /* it bears the stamp of what os_create() and os_make_directory() make */
    uint64_t links;
    uint64_t size;
};

/* A descriptor and what it stands for. */
struct os_file {
    int descriptor;
    uint64_t serial;
    struct os_inode inode;
};

#define OS_NO_FILE ((struct os_file){.descriptor = -1})

static inline bool
os_is_none(const struct os_file *file)
{
    return file->descriptor == -1;
}

enum os_mode { OS_UNLOCK, OS_SHARED, OS_EXCLUSIVE };
enum os_access { OS_READ, OS_WRITE }; /* who may write may read, too: NFS asks for both */

int os_begin(void);

/* Who and when. */
int os_process(void);
uint64_t os_generation(void); /* differs in a forked child, even if its number does not */
/* Is this another process than the one that the generation is of? Then that becomes this one's:
 * for what a child must forget of its parent. While the mutex is locked. */
bool os_has_forked(uint64_t *generation);
uint64_t os_user(void);                 /* the effective one */
uint64_t os_thread(void);               /* what threading.get_ident() says; reused by the system */
uint64_t os_new_token(void);            /* a number that is never used again in this process */
uint64_t os_thread_token(void);         /* the same thread's, never reused in this process */
uint64_t os_forked_thread(void);        /* the only one that a forked child began with */
extern const uint64_t os_lowest_thread; /* that os_thread() may say */
void os_host_name(char host[OS_HOST_SIZE]); /* fit for a file's name */
int os_boot(char *identity, size_t size);   /* names one run of this kernel */
uint64_t os_random(void);
int64_t os_now(void);  /* monotonic, in nanoseconds */
int64_t os_date(void); /* the same in all containers, but may be set */
void os_pause(int64_t nanoseconds);

/* What an error means; the lists of numbers are here, and nowhere above. */
const char *os_message(int error, char *buffer, size_t size);
bool os_is_refused(int error);   /* another has it */
bool os_is_absent(int error);    /* there is no such file, rather than that it cannot be seen */
bool os_is_forbidden(int error); /* to this user */
bool os_is_read_only(int error); /* to this user, or to all */
bool os_is_full(int error);
bool os_is_exhausted(int error); /* what the process or the machine has is used up, or fails */
bool os_is_link(int error);      /* of an open, which follows none */
bool os_is_special(int error);   /* of an open: a socket, or a device that is not there */
bool os_link_is_unsupported(int error);
bool os_rename_is_unsupported(int error); /* here, or of this one directory */
bool os_flock_is_unsupported(int error);

/* Paths. The length of the directory with its separator is os_last_name(path) - path. */
extern const char os_separator;
bool os_is_separator(char character);
const char *os_last_name(const char *path); /* behind the last separator */
bool os_is_absolute(const char *path);
bool os_same_name(const char *one, const char *other); /* to a file system */
void os_fold_name(char *name, size_t size);            /* the same for all that are */
bool os_is_in(const char *path, const char *around);   /* or is it that? As both are spelt */

/* The process's one mutex, and waiting for what it guards to change. What ends in _locked, and
 * os_has_forked(), may be called only by the thread that holds it; builds with assertions check
 * that. */
void os_mutex_lock(void);
void os_mutex_unlock(void);
void os_mutex_wait(void);               /* unlocks it meanwhile */
void os_mutex_wait_until(int64_t time); /* or shorter; by os_now() */
void os_mutex_wake_all(void);
void os_free_later_locked(void *block); /* nothing is freed while it is locked */

#ifdef NDEBUG
#define os_assert_locked() ((void)0)
#else
void os_assert_locked(void);
#endif

/* Does what may take long in a thread of its own, which sees no signals and ends with it. False:
 * there can be none. */
bool os_do_aside(void (*work)(void));

/* Files, by name relative to an open directory; symbolic links are never followed. */
extern const struct os_file os_anywhere; /* the directory of absolute names */
int os_open_directory(const char *path, struct os_file *directory);
int os_create(const struct os_file *directory, const char *name, struct os_file *file);
int os_open(const struct os_file *directory, const char *name, enum os_access access,
            struct os_file *file, struct os_status *status);
/* A file that many use: opened to read and write, made if it is not there. */
int os_open_shared(const struct os_file *directory, const char *name, struct os_file *file,
                   struct os_status *status);
int os_make_file(const struct os_file *directory, const char *name); /* empty, and not opened */
int os_make_directory(const struct os_file *directory, const char *name, struct os_file *made);
/* The file of a lock directory that its beacon is on. On a system that does not rename a directory
 * in which something is open, nothing is: what is opened there is the directory once more, and its
 * kernel lock is one of the directory. */
int os_create_inside(const struct os_file *inside, const char *name, struct os_file *file);
int os_open_inside(const struct os_file *inside, const char *name, enum os_access access,
                   struct os_file *file, struct os_status *status);
/* The open directory has that name now. What is removed from it is removed by what is followed: not
 * all systems know under its new name what they opened under an old one. */
int os_follow(const struct os_file *directory, const char *name, const struct os_file *file,
              struct os_file *followed);
void os_end_following(struct os_file *followed);
bool os_is_open(const struct os_file *file);
void os_keep_in_child_locked(const struct os_file *file,
                             bool kept); /* a forked one keeps its copy */
extern const bool os_has_descriptors; /* false: the numbers of files are ours, and nobody else's */
int os_keep_in_program(const struct os_file *file,
                       bool kept);   /* so does what the process becomes */
void os_close(struct os_file *file); /* unless the number is not ours any more */
int os_status(const struct os_file *file, struct os_status *status);
int os_status_at(const struct os_file *directory, const char *name, struct os_status *status);
int os_status_of(const char *path, struct os_status *status);  /* follows links */
int os_resolve(const char *path, char resolved[OS_PATH_SIZE]); /* without any link in it */
int os_set_mode(const struct os_file *file, unsigned mode);
int os_write_at(const struct os_file *file, uint64_t offset, const void *text,
                size_t size); /* whole, or it fails */
int os_truncate(const struct os_file *file, uint64_t size);
int os_read(const struct os_file *file, void *buffer, size_t size, size_t *length);
int os_stamp(const struct os_file *file, const struct os_status *status);
bool os_may_write(const struct os_file *directory); /* by its mode, this user makes names in it */
int os_touch(const struct os_file *file);           /* to whoever watches it, a change */

/* The same, to those who watch it by that name, if it still bears it. */
int os_touch_named(const struct os_file *directory, const char *name, const struct os_file *file);

/* False: a file of that name could not be removed, as is told by asking, and neither by users nor
 * by modes. */
bool os_may_unlink(const struct os_file *directory, const char *name);
int os_identify(const struct os_file *directory, const char *name, struct os_identity *identity);
int os_link(const struct os_file *directory, const char *existing, const char *name);
int os_rename(const struct os_file *directory, const char *from, const char *to); /* if free */
int os_move(const struct os_file *directory, const char *from, const char *to);   /* replaces */
int os_link_text(const struct os_file *directory, const char *text, const char *name);
int os_read_link(const struct os_file *directory, const char *name, char *text, size_t size);
int os_unlink(const struct os_file *directory, const char *name);
int os_remove_directory(const struct os_file *directory, const char *name);

/* Who else may use a file system, and so see or hold kernel locks where we do not. */
enum os_reach {
    OS_KERNEL,  /* this kernel only, which has every lock on it */
    OS_MACHINE, /* this machine only, since it is on a device of its own; but a program serves it */
    OS_ANYBODY, /* other machines, or other mounts of this one */
};
int os_reach(const struct os_file *directory, enum os_reach *reach);

/* Calls visit for every name until it returns false. */
int os_list(const struct os_file *directory, bool (*visit)(void *context, const char *name),
            void *context);

/* Kernel locks on an open file. Refused: EWOULDBLOCK. */
int os_flock(const struct os_file *file, enum os_mode mode);

/* Descriptors that another library opens and closes. ENOSYS: they are not told; then one of our own
 * takes no locks away when it is closed, and does as well, to the end of os_disown(). Adopted, one
 * of them is tagged and registered like our own, so that os_is_open() tells whether it is still
 * what it was, and a forked child closes its copy. Disowned, it is left to that library. */
#define OS_NUMBERS 64
struct os_numbers {
    int count;
    int each[OS_NUMBERS];
};
/* All of a file; access: and open for nothing less and nothing more. */
int os_find_numbers(struct os_inode inode, enum os_access access, struct os_numbers *numbers);
int os_adopt(int descriptor, struct os_file *file);
void os_disown(struct os_file *file);
/* EIO: the file ends before. */
int os_read_at(const struct os_file *file, uint64_t offset, void *buffer, size_t size);

/* Kernel locks on one byte of a file, which need not be there, for an open file (and
 * all its copies) until it is closed. Refused: EWOULDBLOCK. An exclusive one needs a
 * file open for writing; to find out whether one would be refused needs nothing, but
 * an open file does not see its own. */
extern const bool os_locks_bytes; /* false: this system has no such locks, all calls fail */
int os_lock_byte(const struct os_file *file, uint64_t byte, enum os_mode mode);
int os_find_lock(const struct os_file *file, uint64_t byte);

/* Which process has a lock of the classic kind on one of these bytes; 0: none is seen. */
int os_find_locker(const struct os_file *file, uint64_t first, uint64_t count);

/* Marks on an open file, seen by whoever has opened it anew, until they are taken
 * back or the file is closed. Not to be used on network file systems, where they
 * collide with flock. */
enum os_mark { OS_BREAKER = 1, OS_REMOVER, OS_TURN, OS_HEIR };
int os_mark(const struct os_file *file, enum os_mark mark);
void os_unmark(const struct os_file *file, enum os_mark mark);
int os_find_mark(const struct os_file *file, enum os_mark mark); /* EWOULDBLOCK: there is one */

/* Who waits marks, on the open file, since when, by os_date(): by the place of the byte in a
 * queue, which is a range of OS_QUEUE_SIZE bytes from the one given. So others can tell how
 * many have waited for longer; how many of them, up to most. */
#define OS_FILE_QUEUE ((UINT64_C(1) << 61) + 64)
#define OS_QUEUE_SIZE (UINT64_C(1) << 45)
void os_queue_up(const struct os_file *file, uint64_t queue, int64_t since);
unsigned os_count_elders(const struct os_file *file, uint64_t queue, int64_t since, unsigned most);
bool os_has_waiters(const struct os_file *file, uint64_t queue, unsigned queues); /* one, or more */

/* A queue for those who wait to share what is in the way, behind the one of those who do not. */
#define OS_QUEUE_TO_SHARE(queue) ((queue) + OS_QUEUE_SIZE)

/* Can a lock on an open file become a shared one, without a moment in which another gets it, and
 * bear the marks of those who share it? And one on a directory? */
extern const bool os_can_share;
extern const bool os_can_share_directories;

/* Shared, it becomes exclusive in two steps: another may have it in between, and have given it
 * back. */
extern const bool os_unshares_in_two_steps;

/* Who shares a lock says so by a mark, too, which tells who it is. An open file does not see its
 * own. */
struct os_reader {
    int process;
    uint64_t thread;
    unsigned host; /* a digest: OS_HOST_DIGEST bits of it count */
};
#define OS_HOST_DIGEST 14
int os_mark_reader(const struct os_file *file, struct os_reader reader);
void os_unmark_reader(const struct os_file *file);
int os_find_reader(const struct os_file *file); /* EWOULDBLOCK: there is one */

/* EWOULDBLOCK: there is one, or something else that might hide one. */
int os_may_have_reader(const struct os_file *file);

/* Some of them, up to most: how many. */
unsigned os_list_readers(const struct os_file *file, struct os_reader readers[], unsigned most);

/* Watches: a descriptor that becomes readable when a watched file changes. ENOSYS: this system
 * has none. */
int os_watch_open(struct os_file *watch);
int os_watch_add(const struct os_file *watch, const char *path, enum os_kind kind, int *watched);
void os_watch_remove(const struct os_file *watch, int *watched);

/* The end of this process, which may be the owner, would be a reason to look, too: for a system
 * that does not tell of it by what is watched. */
void os_watch_owner(const struct os_file *watch, int process);
extern const bool os_watch_wants_owner;

/* Takes what there is to read, once os_is_open() has said that it is ours. True: a descriptor
 * of the watched file that could write was closed, perhaps by its owner's death. watched becomes
 * -1 when the file is gone, and the kernel has ended the watch. */
bool os_watch_read(const struct os_file *watch, int *watched);

/* One watch may serve many files, and their waiters. events: what has happened to which, as far as
 * one look can tell; 0: to none. end: without a look at what has happened, which is others' too. */
struct os_event {
    int watched;
    bool closed; /* as above */
    bool gone;   /* the kernel has ended the watch of that file */
};
enum { OS_EVENTS = 256 };
extern const bool os_watch_serves_many; /* false: one waiter */
size_t os_watch_events(const struct os_file *watch, struct os_event events[OS_EVENTS]);
void os_watch_end(const struct os_file *watch, int *watched);

/* Signals wait outside from os_signals_hold() to os_signals_release(), except
 * inside os_wait(), which admits them at the very moment it goes to sleep: one
 * that arrives between a look and the sleep is not slept through. */
struct os_signals {
    bool held;
    uint64_t mask[16];
};
void os_signals_hold(struct os_signals *signals);
void os_signals_release(struct os_signals *signals);

/* Sleeps until the descriptor (-1: none) is readable: 0; ETIMEDOUT: time is up; EINTR: a signal
 * came. */
int os_wait(int descriptor, int64_t nanoseconds, const struct os_signals *signals);

#endif
