/* Who owns, and what proves that an owner is dead.
 *
 * An owner writes its name into the claim that it makes (name.h), and keeps a kernel lock, its
 * beacon, for as long as it owns. The kernel drops the beacon with the last descriptor, however
 * the process ends; so "the beacon is granted to me" is the kernel's word that the owner is dead.
 *
 * It is the word of one kernel only. On a file system that other kernels may use, too, the name
 * carries K, a digest of the kernel's boot identity and the file system's device number, and proves
 * nothing to anybody whose K differs. Age and process numbers never prove anything.
 *
 * A file system may also be one machine's, though more than a kernel serves it: FUSE on a block
 * device. Names carry no K there, so that the next run of the kernel can prove, too. Through
 * other mounts and on other machines the same directory is one where names carry a K: so what is
 * claimed in one view proves nothing in another.
 */
#ifndef LOCKFILE_PROOF_H
#define LOCKFILE_PROOF_H

#include "core/name.h"

/* What owns. Several tasks and greenlets share a thread. */
enum owner_kind { OWNER_PROCESS, OWNER_THREAD, OWNER_TASK, OWNER_GREENLET, OWNER_OBJECT };

/* Who calls, and what it owns as. Given to each call from above. Numbers are never used again. */
struct owner {
    uint64_t caller; /* the thread, task or greenlet that calls */
    uint64_t token;  /* what owns: the caller, an object, or 0: the whole process */
    uint64_t thread; /* the owner as others know it; 0: the whole process, or an object */
    enum owner_kind kind;
};

/* The calling thread; threaded: it owns for itself, not for the whole process. */
struct owner owner_calling(bool threaded);

static inline bool
owner_is_same(struct owner one, struct owner other)
{
    return one.token == other.token;
}

/* What the file system lets a beacon prove: asked each time, since device numbers are reused. */
struct ground {
    bool local;      /* this kernel only uses it */
    bool alone;      /* this machine only uses it: no K is needed to prove, as on a local one */
    bool dumb;       /* kernel locks show nothing there: names must be such that prove nothing */
    uint64_t kernel; /* K of new names; 0: none */
};

/* The K of a name that proves nothing to anybody, in whatever view of the directory. No kernel
 * has it. */
#define PROOF_NO_KERNEL UINT64_MAX

int proof_find_ground(const struct os_file *directory, struct ground *ground);

/* After a beacon was refused with that error: has names prove nothing, where that is the answer. */
bool proof_is_given_up(struct ground *ground, int error);

/* The owner's name for this ground. number 0: without .N */
void proof_write_name(char text[NAME_SIZE], const char *host, struct owner owner,
                      struct ground ground, uint64_t number);

/* False: it is no name of ours. */
bool proof_read_name(const char *text, struct name *name);

/* Whether a beacon that is granted here proves this name's owner dead. */
bool proof_is_possible(const struct name *name, struct ground ground);

#endif
