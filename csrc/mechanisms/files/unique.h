/* Unique files: an empty file of an owner's, whose name says who it is, and on which it keeps
 * an exclusive flock, its beacon. */
#ifndef LOCKFILE_UNIQUE_H
#define LOCKFILE_UNIQUE_H

#include "core/proof.h"

/* How many names a claim tries. */
#define UNIQUE_ATTEMPTS 100

/* Who wants a name, and where. */
struct unique_want {
    const struct os_file *directory;
    const char *host;
    struct owner owner;
    struct ground ground;
    const char *file;   /* the lock file's name, which is no unique one, whatever it looks like */
    const char *chosen; /* the name that it has to be; NULL: one after its owner */
};

/* A name that a program has chosen does not say whose it is. So it is chosen only where this kernel
 * alone uses the file system, and its file bears a mark that says so: then its beacon alone proves
 * whether its owner lives. */
bool unique_is_chosen(const struct os_file *file);

/* The name for an attempt, counted from 0. False: another lock of ours has it. */
bool unique_try_name(const struct unique_want *want, unsigned attempt, char name[NAME_SIZE]);

/* Makes what is to bear the name; EEXIST: it is taken. Then lights the beacon of what was made,
 * or removes it. */
struct unique_kind {
    int (*make)(const struct unique_want *want, const char *name, void *made);
    int (*light)(const struct unique_want *want, const char *name, void *made);
};

/* No name in that directory is used by this process again, once others may have to remove one: one
 * of them may be stopped between its look at a name and the removal, and would remove what bears it
 * by then. */
int unique_spend_names(const struct os_file *directory);

/* Makes it under the first name that is free, and lights its beacon. EEXIST: no name was to be
 * had. What is refused or vanishes meanwhile is left to whoever looks at it, or has swept it
 * away. */
int unique_make(struct unique_want want, const struct unique_kind *kind, void *made,
                char name[NAME_SIZE]);

/* What is called from gets a name of this process, by move(): EEXIST if that is taken. The name
 * says of host and kernel what the unique name does. EINVAL: that one was chosen. */
int unique_rename(const struct os_file *directory, const char *file, struct owner owner,
                  const char *from, const char *unique_name,
                  int (*move)(const struct os_file *, const char *, const char *),
                  char name[NAME_SIZE]);

/* What might help when that has failed; NULL: nobody knows. */
const char *unique_explain(int error);

/* The owner's unique file; made is its beacon, a struct os_file. */
extern const struct unique_kind unique_file;

/* How unique files are opened: os_open(), os_open_inside(). */
typedef int unique_opener(const struct os_file *directory, const char *name, enum os_access access,
                          struct os_file *file, struct os_status *status);

/* Lights the beacon of a file just made, or closes it. EWOULDBLOCK: somebody looks
 * at it, so its name is not ours to remove any more. ENOENT: it was reaped before. */
int unique_light(const struct os_file *directory, struct ground ground, struct os_file *beacon,
                 const char *name, unique_opener *open);

/* The same once it has been lit, or could not be: what came of that is the last argument. */
int unique_check_lit(const struct os_file *directory, struct os_file *beacon, const char *name,
                     int error);

/* Takes the beacon of a dead owner, so that breakers take turns. Also succeeds
 * only if nobody looks at it; EWOULDBLOCK: its owner lives. */
int unique_take_beacon(const struct os_file *file);

/* Opens a file to take its beacon, unless its inode is another; else ENOENT. */
int unique_open_beacon(const struct os_file *directory, const char *name, struct os_inode inode,
                       unique_opener *open, struct os_file *file);

#endif
