#ifndef LOCKFILE_TESTS_FORKS_H
#define LOCKFILE_TESTS_FORKS_H

#include <stdbool.h>

/* Before os_begin(). */
bool forks_begin(void);

#endif
