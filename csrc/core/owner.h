/* Who owns: names, beacons, and the proof that an owner is dead.
 *
 * An owner is a host, a process and, when threaded, a thread in it. It writes
 * itself down as an empty file, its unique file, whose name says who it is,
 *
 *     HOSTNAME-THREADID-PID        a thread (THREADID in hexadecimal)
 *     HOSTNAME--PID                a whole process
 *     ... .K                       where the file system is not known to be local
 *     ... .N                       when the name is taken
 *
 * and keeps an exclusive flock on it, its beacon, for as long as it owns. The
 * kernel drops the beacon when the last descriptor goes, however the process
 * ends; so "the beacon is granted to me" is the kernel's word that the owner is
 * dead. It is the word of one kernel only: on a file system that other kernels
 * may use too, the name carries K, a digest of the kernel's boot identity and
 * the file system's device number, and proves nothing to anybody whose K
 * differs. Age and process numbers never prove anything.
 *
 * A file system may also be one machine's, though more than a kernel serves it: FUSE on a block
 * device. Names carry no K there, so that the next run of the kernel can prove, too. Through
 * other mounts and on other machines the same directory is one where names carry a K: so what is
 * claimed in one view proves nothing in another.
 */
#ifndef LOCKFILE_OWNER_H
#define LOCKFILE_OWNER_H

#include "platform/os.h"

#define OWNER_NAME_SIZE (OS_HOST_SIZE + 64)

/* Who calls: taken anew by every method. */
struct owner {
    uint64_t token;  /* the calling thread, as never reused; 0: the whole process */
    uint64_t thread; /* the calling thread, as others know it; 0: the whole process */
};

/* What a unique name says. */
struct owner_name {
    char host[OS_HOST_SIZE];
    uint64_t thread; /* 0: the whole process */
    int process;
    uint64_t kernel; /* K; 0: none */
};

/* What the file system of a directory lets a beacon prove: asked each time,
 * since device numbers are reused as well. */
struct owner_ground {
    bool local;      /* this kernel only uses it */
    bool alone;      /* this machine only uses it: no K is needed to prove, as on a local one */
    bool dumb;       /* kernel locks show nothing there: names must be such that prove nothing */
    uint64_t kernel; /* K of new names; 0: none */
};

/* The K of a name that proves nothing to anybody, in whatever view of the directory. No kernel
 * has it. */
#define OWNER_NO_KERNEL UINT64_MAX

struct owner owner_caller(bool threaded);
void owner_host(char host[OS_HOST_SIZE]);
int owner_ground(const struct os_file *directory, struct owner_ground *ground);

/* After a beacon was refused with that error: has names prove nothing, where that is the answer. */
bool owner_gives_up_proof(struct owner_ground *ground, int error);

/* number 0: without .N */
void owner_format(char name[OWNER_NAME_SIZE], const char *host, struct owner owner, uint64_t kernel,
                  uint64_t number);
bool owner_parse(const char *text, struct owner_name *name);

/* Whether a beacon that is granted here proves this name's owner dead. */
bool owner_is_provable(const struct owner_name *name, struct owner_ground ground);

/* Is it in a directory where others may put files beside ours, but not remove ours? */
bool owner_is_public(const char *path);

/* May we use a file that has been here before us? In a public directory, what is not our
 * user's was put there for us to use; so was a link, or a file of ours under a second name.
 * 0, or EPERM. */
int owner_check_trust(const char *path, const struct os_status *found);

/* How many names a claim tries. */
#define OWNER_ATTEMPTS 100

/* The name for an attempt, counted from 0. False: another lock of ours has it. */
bool owner_try_name(unsigned attempt, const struct os_file *directory, const char *host,
                    struct owner owner, uint64_t kernel, char name[OWNER_NAME_SIZE]);

/* Lights the beacon of a file just made, or closes it. EWOULDBLOCK: somebody looks
 * at it, so its name is not ours to remove any more. ENOENT: it was reaped before. */
int owner_light(const struct os_file *directory, struct owner_ground ground, struct os_file *beacon,
                const char *name);

/* Makes the caller's unique file, under the first name that is free, and lights
 * its beacon. EEXIST: no name was to be had. */
int owner_create(const struct os_file *directory, struct owner_ground ground, const char *host,
                 struct owner owner, struct os_file *beacon, char name[OWNER_NAME_SIZE]);

/* Says an error that there is no such file, rather than that it cannot be seen? */
bool owner_is_absent(int error);

/* Does name still stand for inode? 0, ENOENT if not, or what kept us from seeing. */
int owner_check(const struct os_file *directory, const char *name, struct os_inode inode);

/* The same, where others than this machine may have changed it: by opening it, since a
 * network file system may answer a check from what it remembers, but not an open. What it
 * remembers may even have had our number: those of removed files are given out again. */
int owner_check_afresh(const struct os_file *directory, const char *name, struct os_inode inode,
                       bool local);

/* The same for a dead owner's. Its unique file may hold what it wrote into the lock
 * file, but nobody else could have written it: a file that others may write, they
 * may also have linked to where a lock file goes, for us to remove. */
int owner_remove_dead(const struct os_file *directory, const char *name, struct os_inode inode);
int owner_remove(const struct os_file *directory, const char *name, struct os_inode inode);

/* The unique name of an inode; ENOENT: it has none of our form. */
int owner_find(const struct os_file *directory, struct os_inode inode, char name[OWNER_NAME_SIZE]);

/* The one name in a lock directory; ENOENT: it is empty; ENOTEMPTY: there are more. */
int owner_find_inside(const struct os_file *directory, char name[OWNER_NAME_SIZE]);

/* Takes the beacon of a dead owner, so that breakers take turns. Also succeeds
 * only if nobody looks at it; EWOULDBLOCK: its owner lives. */
int owner_take_beacon(const struct os_file *file);

/* Removes what a dead owner left under one of its names, if it owns nothing: its
 * unique file, or a lock directory that holds nothing else. A name proves nothing by its
 * form: users have files called HOST-20241101-1. So it must bear our stamp as well; then
 * the host's name does not matter, by which a machine may have been called before.
 * False: left alone. */
bool owner_reap(const struct os_file *directory, const char *name, struct owner_ground ground);

/* Does so for every name in the directory. */
void owner_sweep(const struct os_file *directory, struct owner_ground ground);

#endif
