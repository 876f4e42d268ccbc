/* Beacons that readers share.
 *
 * A shared lock is a lock whose beacon is held shared, by all who read. Each of them bears a mark
 * on the same file, too, for as long as it reads: a beacon that is granted shared may be dark, or
 * another program's file, but a mark shows that a reader lives. A mark is never a proof of death:
 * that is the beacon, which is granted exclusively only when no reader is left. So the last one to
 * leave owns the lock exclusively for a moment, and releases it as such an owner does. */
#ifndef LOCKFILE_READERS_H
#define LOCKFILE_READERS_H

#include "mechanisms/files/place.h"
#include "mechanisms/files/unique.h"

/* More are not counted. */
#define READERS_COUNTED 256

/* Makes the exclusive beacon of a claim a shared one. 0 or an errno value: it is exclusive still.
 */
int readers_share(struct files_claim *claim, struct os_reader reader);

/* As unique_light(), of a claim that is to be published. A first reader's beacon is shared from
 * then on: so nobody waits for one who only passes through. Where others than this kernel use the
 * file system, or it has no marks, the lock is exclusive, though its owner does not mind. */
int readers_light(struct files_claim *claim, const struct os_file *directory, struct ground ground,
                  const char *name, unique_opener *open);

/* Opens what has been a beacon's file. ENOENT: it is not; another lock may be there by now. */
int readers_open(const struct os_file *directory, const char *name, enum os_access access,
                 struct os_file *file, struct os_status *status);

/* Takes this beacon as well, if others share it; else EWOULDBLOCK. They stay until it is given
 * back, or another mark is set. */
int readers_look(const struct os_file *beacon);

/* Then shows that it is ours, by a mark on the beacon. Marked is the lock file: who removes it past
 * a look that does not end has a mark on that first, and looks for readers then. So one of both
 * sees the other: EWOULDBLOCK, and the beacon is given back. */
int readers_join(const struct os_file *beacon, const struct os_file *marked,
                 struct os_reader reader);

/* The reader is none any more. LAST: it has the beacon for itself, now; OTHERS: they go on;
 * DISTURBED: somebody looks at it, or is about to join: once more, soon. */
enum readers_rest { READERS_LAST, READERS_OTHERS, READERS_DISTURBED };
enum readers_rest readers_leave(const struct os_file *beacon);

/* As in struct mechanism. */
enum outcome readers_downgrade(struct attempt *attempt, struct claim *claim);

/* As place_mend_beacon(): lights the beacon of what is owned again, or joins those who read on. */
int readers_mend(struct files_claim *claim, const struct os_file *directory);

#endif
