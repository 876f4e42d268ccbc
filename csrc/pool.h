/* The connections of an interpreter: one for each database, kept for the next call.
 *
 * A connection is lent to one statement at a time, whose row count is then that statement's
 * own.
 *
 * Forks. SQLite remembers for the whole process what it has locked, and a child has a
 * copy of that memory but not the locks: even a connection that the child makes for
 * itself would believe in them, and its database could be pulled away. So before a
 * fork the connections are closed, while no statement runs, and none is made
 * until it has happened.
 */
#ifndef LOCKFILE_POOL_H
#define LOCKFILE_POOL_H

#include "connection.h"

/* As an object that closes them when it goes away. Arranges for forks. texts: of the
 * statements that will be executed, by number. NULL with an exception. */
PyObject *pool_new(const char *const texts[], int count);
struct pool *pool_of(PyObject *object);

/* A statement's text, made once. */
PyObject *pool_text(const struct pool *pool, int number);

/* The interpreter is at its end: statements wait for nobody any more, since threads
 * that use a connection may have been stopped, and connections are not kept. */
void pool_end(struct pool *pool);

/* Without the GIL. Waits until no other thread uses the connection, and no fork is under
 * way. NULL: out of memory. */
struct connection *pool_borrow(struct pool *pool, const char *path);
void pool_give_back(struct caller *caller, struct connection *connection);

#endif
