/* The connections of an interpreter: one for each database, kept for the next call.
 *
 * A connection is lent to one statement at a time, whose row count is then that statement's
 * own. Each interpreter has one pool, for as long as it lives, however often the package is
 * imported into it.
 *
 * Forks. SQLite remembers for the whole process what it has locked, and a child has a copy
 * of that memory, but not the locks. Between statements nothing is locked. So a fork waits
 * until no statement runs, in any interpreter, nor the import of the module, and holds off new
 * ones until it has happened; a child then leaves its parent's connections alone, and opens its
 * own. A fork that Python knows nothing of cannot be made to wait (whoever forks may have the GIL
 * that the statement needs): a child that was forked in the middle of one does not use SQLite at
 * all.
 */
#ifndef LOCKFILE_POOL_H
#define LOCKFILE_POOL_H

#include "mechanisms/sqlite/connection.h"

/* This interpreter's, as an object. Arranges for forks. texts: of the statements that will be
 * executed, by number. NULL with an exception. */
PyObject *pool_get(const char *const texts[], int count);
struct pool *pool_of(PyObject *object);

/* Is the interpreter's end arranged for? Says what it was before. */
bool pool_set_end_arranged(struct pool *pool, bool arranged);

/* Looks up what connections need, before the first one. False with an exception. */
bool pool_prepare(struct pool *pool);
bool pool_is_prepared(struct pool *pool);

/* A statement's text, made once. */
PyObject *pool_text(const struct pool *pool, int number);

/* The database's connection, for this thread until it is given back, without the GIL. It
 * may be closed. 0, ENOMEM; ECHILD: this process was forked in the middle of a statement;
 * ECANCELED: the interpreter is at its end. */
int pool_borrow(struct pool *pool, const char *path, struct connection **connection);
void pool_give_back(struct request *request, struct connection *connection);

/* Around what is done with a connection, with the GIL: no garbage is collected meanwhile. */
void pool_hold_collections(struct pool *pool);
void pool_allow_collections(struct pool *pool);

/* At the interpreter's end, with the GIL: statements of threads that will never run again
 * keep nobody off any more, and no connection is kept. */
void pool_end(struct pool *pool);
void pool_close(struct pool *pool);

#endif
