/* How readers join those who share a lock file already, whichever class made it. */
#ifndef LOCKFILE_JOIN_H
#define LOCKFILE_JOIN_H

#include "core/attempt.h"

/* As in struct mechanism. */
enum outcome join_readers(struct attempt *attempt);
unsigned join_list_readers(struct attempt *attempt, struct os_reader readers[], unsigned most);

#endif
