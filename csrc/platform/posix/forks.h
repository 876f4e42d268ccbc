/* For whatever makes descriptors of ours: forks are held off between making one and its entry in
 * the register. */
#ifndef LOCKFILE_POSIX_FORKS_H
#define LOCKFILE_POSIX_FORKS_H

void posix_hold_off_forks(void);
void posix_allow_forks(void);

#endif
