/* How an owner writes itself down: HOSTNAME-THREADID-PID. Text and nothing else: these functions
 * ask the system nothing.
 *
 *     HOSTNAME-THREADID-PID        a thread (THREADID in hexadecimal)
 *     HOSTNAME--PID                a whole process
 *     ... .K                       where the file system is not known to be local
 *     ... .N                       when the name is taken
 *
 * K is a digest of a kernel: see proof.h.
 */
#ifndef LOCKFILE_NAME_H
#define LOCKFILE_NAME_H

#include "platform/os.h"

#define NAME_SIZE (OS_HOST_SIZE + 64)

/* What a name says. */
struct name {
    char host[OS_HOST_SIZE];
    uint64_t thread; /* 0: the whole process */
    int process;
    uint64_t kernel; /* K; 0: none */
};

/* host may lie anywhere; number 0: without .N */
void name_format(char text[NAME_SIZE], const char *host, uint64_t thread, int process,
                 uint64_t kernel, uint64_t number);

/* What a PID file holds: a number alone in the first of its lines. False: it does not. */
bool name_parse_process(const char *text, int64_t *process);

/* False: it is no name of this form. */
bool name_parse(const char *text, struct name *name);

#endif
