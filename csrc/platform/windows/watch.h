/* Within this folder: watches, and the sleep on them. */
#ifndef LOCKFILE_WINDOWS_WATCH_H
#define LOCKFILE_WINDOWS_WATCH_H

#include "platform/windows/nt.h"

struct watch;

/* NULL is none. */
void watch_end(struct watch *watch);

/* What to wait for besides: the process that is watched, or NULL. */
HANDLE watch_process(const struct watch *watch);

/* The event is set: has anything happened to what is watched? Else it goes on. */
bool watch_is_over(struct watch *watch);

#endif
