/* May we use a file that has been here before us? */
#ifndef LOCKFILE_TRUST_H
#define LOCKFILE_TRUST_H

#include "platform/os.h"

/* Is it in a directory where others may put files beside ours, but not remove ours? */
bool trust_is_public(const char *path);

/* In a public directory, what is not our user's was put there for us to use; so was a link, or a
 * file of ours under a second name. 0, or EPERM. */
int trust_check(const char *path, const struct os_status *found);

#endif
