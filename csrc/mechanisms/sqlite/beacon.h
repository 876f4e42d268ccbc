/* Beacons of locks that are rows: kernel locks on single bytes of one file, which lies
 * beside the database and is shared by all of its locks.
 *
 * A claim takes a byte at random, so that no two claims ever have the same one, locks
 * it before it makes its row, and writes into the row which byte that is, and which
 * inode the file has: in a file that was put in its place, the byte proves nothing.
 * Who waits marks a byte above all of these. A process has the file open once for all of its
 * claims, so a release frees a byte without any event; if somebody waits, it touches
 * the file, which is the event. When the process ends, the kernel closes the file.
 */
#ifndef LOCKFILE_BEACON_H
#define LOCKFILE_BEACON_H

#include "core/proof.h"

/* Which claim it is: the number of the file's inode, and the byte. */
struct beacon {
    uint64_t file;
    uint64_t byte;
};

/* The name of a database's beacon file. False: too long. */
bool beacon_path(const char *database, char path[OS_PATH_SIZE]);

/* The file, open for this process's claims; make: if it is not there, it is made, with
 * the mode of the database; else ENOENT. It stays open until each beacon_share() has its
 * beacon_leave(), and a while longer. ENODEV: what is there is no plain file. */
int beacon_share(const char *path, unsigned mode, bool make, struct os_file *file,
                 struct ground *ground);
void beacon_leave(const struct os_file *file);

/* Locks a fresh byte. */
int beacon_light(const struct os_file *file, struct beacon *beacon);

/* Locks that byte again, or a dead owner's. EWOULDBLOCK: another has it. */
int beacon_take(const struct os_file *file, struct beacon beacon);
void beacon_darken(const struct os_file *file, struct beacon beacon);

/* EWOULDBLOCK: it is lit. By another open file than this one, which does not see its own. */
int beacon_look(const struct os_file *file, struct beacon beacon);

/* The latch: one byte behind all beacons, locked for as long as a statement runs, so that no
 * two statements ever overlap. Each connection has the file open for itself: an open file
 * does not keep off itself. Shared, where it can only be read. */
int beacon_open_latch(const char *path, unsigned mode, struct os_file *latch, bool *shared);
int beacon_latch(const struct os_file *latch, bool shared);
void beacon_unlatch(const struct os_file *latch);

/* Does a beacon keep another open file off? On some file systems it is granted to all. */
bool beacon_is_vain(const char *path, struct beacon beacon);

/* The bytes by which those who wait for a claim's end say since when: a queue of os.h's, which
 * a few claims may share; behind it is room for one of those who wait to share what is there. */
uint64_t beacon_queue(struct beacon beacon);

#endif
