#ifndef LOCKFILE_TESTS_FORKS_H
#define LOCKFILE_TESTS_FORKS_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

/* A thread whose beginning and end are kept apart from forks: it allocates there. */
struct forks_thread {
    pthread_t thread;
    void *(*start)(void *);
    void *context;
    sem_t began, done, may_end;
};

/* Before os_begin(). */
bool forks_begin(void);
void forks_end(void);

/* Not moved until it is joined. */
bool forks_thread_create(struct forks_thread *thread, void *(*start)(void *), void *context);
void forks_thread_join(struct forks_thread *thread);

#endif
