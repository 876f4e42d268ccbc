/* Within this folder: the register of handles that are ours, and what belongs to each. */
#ifndef LOCKFILE_WINDOWS_HANDLES_H
#define LOCKFILE_WINDOWS_HANDLES_H

#include "platform/windows/nt.h"

#define HANDLES_INSIDE_SIZE 384

struct watch;

struct handle {
    struct handle *next;
    HANDLE handle;
    uint64_t serial;
    bool is_directory;
    enum os_mode mode;    /* of a file: what os_flock() has got; */
    unsigned marks;       /* each a bit; */
    uint64_t reader_byte; /* and the mark of a reader; or 0 */
    HANDLE lock;          /* a directory's, opened once more: what os_flock() has got; or NULL */
    HANDLE queue;         /* the same, for who waits */
    struct watch *watch;
    char inside[HANDLES_INSIDE_SIZE]; /* it stands for the file of that name in it; or "" */
};

/* Takes the handle over, whatever comes of it. */
int handles_enter(HANDLE handle, struct os_inode inode, bool is_directory, const char *inside,
                  struct os_file *file);

/* NULL: it is not ours any more. Otherwise it stays until it is closed. */
struct handle *handles_find(const struct os_file *file);

/* Of a watch, whose event the descriptor is; NULL: it is none. */
struct watch *handles_watch(int descriptor);

#endif
