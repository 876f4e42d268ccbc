/* Lock files that come with a unique file beside them: it is made and lit first, and then the lock
 * file is published, at one go. */
#ifndef LOCKFILE_BESIDE_H
#define LOCKFILE_BESIDE_H

#include "mechanisms/files/shape.h"
#include "mechanisms/files/unique.h"

/* How a class does it. */
struct beside {
    const struct shape *shape;
    const struct unique_kind *unique; /* makes a struct os_file */
    /* Makes the lock file: 0 or an errno value. */
    int (*publish)(struct attempt *attempt, const struct files_claim *claim);
    const char *publishing; /* for messages: what failed, */
    const char *refused;    /* and what might help where it is refused for good */
    bool takes_chosen_name; /* of its unique file */
};

/* Of a unique_kind: lights the beacon, then writes; what fails is removed again. */
int beside_light_and_write(const struct unique_want *want, const char *name, struct os_file *beacon,
                           int (*write)(const struct unique_want *want,
                                        const struct os_file *beacon));

enum outcome beside_claim(struct attempt *attempt, const struct beside *beside);

/* Operations of such a shape. */
int beside_check(const struct os_file *directory, const char *file, struct os_inode inode,
                 const char *unique_name, bool local);
int beside_take_beacon(struct attempt *attempt, const char *const names[], struct os_file **beacon);
int beside_remove(const struct os_file *directory, const char *file, const struct os_file *inside,
                  const char *unique_name, struct os_file *beacon, entry_remover *remove_unique,
                  bool *freed);
int beside_mend(struct files_claim *claim);

#endif
