/* The place of a lock: the directory of its lock file, opened once for each round of
 * a call, and what lies at the lock file's name, whichever mechanism made it. What
 * the mechanisms on the file system share. */
#ifndef LOCKFILE_PLACE_H
#define LOCKFILE_PLACE_H

#include "core/lock.h"

/* For the report, and as the outcome to return. */
enum outcome place_fail(struct report *report, int error, const char *doing);
enum outcome place_hold(struct attempt *attempt, enum life life, const char *reason);

int place_open(struct attempt *attempt);
void place_close(struct attempt *attempt);

/* Opens what is at the lock file's name; watched: and watches it. STALE: it is open,
 * to be judged further; FREE, HELD, FAILED: that is the judgement. */
enum outcome place_find(struct attempt *attempt, bool watched, struct os_status *status);

/* Is what was found in the table? OWNED; HELD: another thread's; FREE: it is not. */
enum outcome place_look_up(struct attempt *attempt);

struct os_identity place_recognise(struct attempt *attempt);

/* Does the path still lead to the directory of what is owned? */
bool place_is_there(const struct owned *owned);

/* Opens the directory of what is owned anew, if it is still the one; else ENOENT. */
int place_reopen(struct owned *owned);

/* ---- Removals and break_lock() keep off each other ----
 *
 * Each checks what it removes, and then removes it by its name. Between the two,
 * break_lock() excludes all others; for a moment, so who is refused may be patient.
 * EWOULDBLOCK: refused; what has not begun is not ended. local: whether the file system is. */
int place_begin_removal(const struct os_file *directory, bool local);
void place_end_removal(const struct os_file *directory, bool local);
int place_begin_condemning(const struct os_file *directory, bool local);
void place_end_condemning(const struct os_file *directory, bool local);

/* Tries to take a lock that others hold for microseconds only, unless they are
 * stopped, or mean ill: for a second. */
int place_patiently(int (*take)(const struct os_file *file, bool local), const struct os_file *file,
                    bool local);

/* ---- The shapes of a lock file ----
 *
 * A class of locks makes lock files of one shape. But whoever meets one must know
 * how to judge and to remove it, whichever class made it. */

/* owner_remove(), or owner_remove_dead() for what is another's. */
typedef int remover(const struct os_file *directory, const char *name, struct os_inode inode);

struct shape {
    /* Judges what was found, and is not in the table: STALE with found_name, HELD,
     * FREE, FAILED. */
    enum outcome (*judge)(struct attempt *attempt);

    /* Takes the beacon of what was found stale, and says on which file it is held. */
    int (*take_beacon)(struct attempt *attempt, struct os_file **beacon);

    /* Removes a lock file, which was checked, and its unique file, by remove_unique().
     * inside: the lock file opened, where it is a directory. Freed: the lock file is gone,
     * whatever is left of the rest. May have to close the beacon. */
    int (*remove)(const struct os_file *directory, const char *file, const struct os_file *inside,
                  const char *unique_name, struct os_file *beacon, remover *remove_unique,
                  bool *freed);

    /* Opens again what was lost of the descriptors of what is owned, and lights the beacon. */
    int (*mend)(struct owned *owned);

    /* Removes whatever is at the lock file's name. */
    int (*condemn)(const struct os_file *directory, const char *file);
};

extern const struct shape link_shape;
extern const struct shape mkdir_shape;

/* As in struct mechanism. */
enum outcome link_claim(struct attempt *attempt);
enum outcome mkdir_claim(struct attempt *attempt);

/* ---- What they have in common ---- */

/* How long to wait for what others do in a moment, and between two tries. */
#define PLACE_PATIENCE OS_SECOND
#define PLACE_PATIENT_PAUSE (OS_MILLISECOND / 2)

/* In the table before the lock file is published: whoever of us sees it must not
 * wait for ourselves. inode: the lock file's. False: the process is at its end. */
bool place_enter(const struct attempt *attempt, struct owned *claim, struct os_inode inode);

/* It is published: the directory goes to the claim. */
enum outcome place_own(struct attempt *attempt, struct owned *claim);

/* Does the beacon of what was found, seen on this file, say that its owner lives?
 * HELD, FAILED; STALE: it is dark, which may prove something. */
enum outcome place_look_at_beacon(struct attempt *attempt, const struct os_file *file);

/* Does that prove something about who is called found_name? STALE, HELD. */
enum outcome place_judge_name(struct attempt *attempt);

/* Opens a file to take its beacon, unless its inode is another; else ENOENT. */
int place_open_beacon(const struct os_file *directory, const char *name, struct os_inode inode,
                      struct os_file *file);

/* Lights the beacon of what is owned again, on its unique file in this directory. */
int place_relight(struct owned *owned, const struct os_file *directory);

#endif
