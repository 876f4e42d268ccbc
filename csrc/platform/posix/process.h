/* Within this folder: which process this is. */
#ifndef LOCKFILE_POSIX_PROCESS_H
#define LOCKFILE_POSIX_PROCESS_H

void posix_begin_process(void);
void posix_begin_child(void);

#endif
