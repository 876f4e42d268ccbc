/* Lock files that are hard links: what others than LinkFileLock's are, too. */
#ifndef LOCKFILE_LINK_H
#define LOCKFILE_LINK_H

#include "mechanisms/files/shape.h"

int link_publish(struct attempt *attempt, const struct files_claim *claim);
extern const char link_publishing[], link_refused[], link_not_ours[];

/* The unique name of what was found, as the found name. FOUND; HELD: it has none; FREE, FAILED.
 * process: as to search_unique_name(). */
enum outcome link_find_name(struct attempt *attempt, int64_t process);

/* Its beacon was granted to us, and its unique name is found: does that prove anything? */
enum outcome link_judge_dark(struct attempt *attempt);

/* Gives the lock file another unique name, of the claim's new owner; and takes the former ones
 * away. */
bool link_add_name(struct files_claim *claim, char name[NAME_SIZE]);
void link_replace_name(struct files_claim *claim, const char *name);

int link_take_beacon(struct attempt *attempt, struct os_file **beacon);

#endif
