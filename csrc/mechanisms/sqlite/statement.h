/* The statements of locks. */
#ifndef LOCKFILE_STATEMENT_H
#define LOCKFILE_STATEMENT_H

#include <Python.h>

#include "mechanisms/sqlite/database.h"
#include "mechanisms/sqlite/sql.h"

/* What a statement needs to run. */
struct statement {
    enum sql sql;
    const char *row;
    struct row *content;
    bool is_member;    /* it is the row of one who shares the lock */
    const char *after; /* for SQL_LIST_GROUP: see database.h */
    bool is_local;
    bool asked_before;     /* and the answer was lost */
    struct listed *listed; /* for lists: where to, and how many */
    int *count;
};

static inline bool
statement_makes(const struct statement *statement)
{
    return statement->sql == SQL_INSERT || statement->sql == SQL_SHARE;
}

static inline bool
statement_lists(const struct statement *statement)
{
    return statement->sql == SQL_LIST || statement->sql == SQL_LIST_GROUP;
}

/* An answer that counts for nothing: ask again. */
enum { STATEMENT_LOST = -10 };

/* Latched, and with the GIL. 0; what database.h says of a statement, or connection.h of an error;
 * STATEMENT_LOST. */
int statement_run(struct request *request, struct connection *connection,
                  const struct statement *statement);

#endif
