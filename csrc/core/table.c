#include "core/table.h"

#include <stdlib.h>
#include <string.h>

/* In every chain the newest is first: locks are mostly released in the reverse order.
 * All but one chain have many buckets, so that a lock costs as much beside thousands of
 * others as it costs alone. */
#define BUCKET_BITS 12

/* How long what is not worth a long wait waits for a call that uses an entry. */
#define SHORT_PATIENCE (50 * OS_MILLISECOND)

static struct owned *all;
static struct owned *buckets[TABLE_CHAINS][1 << BUCKET_BITS];
static uint64_t last_serial;
static bool is_closed;

/* The process that the entries belong to. Not by its number: a child in a PID
 * namespace of its own may have its parent's. */
static uint64_t table_generation;

/* ---- Chains ----
 *
 * Guarded by os_lock(), as is all below. */

uint64_t
table_hash(const char *text)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001B3);
    }
    return hash;
}

static struct owned **
bucket(enum table_chain chain, uint64_t number)
{
    return &buckets[chain][(number * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - BUCKET_BITS)];
}

static struct owned **
bucket_by_path(const char *lock_file)
{
    return bucket(TABLE_BY_PATH, table_hash(lock_file));
}

static struct owned **
bucket_by_inode(struct os_inode inode)
{
    return bucket(TABLE_BY_INODE, inode.number);
}

static struct owned **
bucket_by_unique_name(struct os_inode directory, const char *name)
{
    return bucket(TABLE_BY_UNIQUE_NAME, table_hash(name) ^ directory.number);
}

static void
put_first(struct owned **first, enum table_chain chain, struct owned *owned)
{
    owned->chains[chain] = (struct table_link){.next = *first, .from = first};
    if (*first != NULL) {
        (*first)->chains[chain].from = &owned->chains[chain].next;
    }
    *first = owned;
}

static void
take_out(struct owned *owned, enum table_chain chain)
{
    struct table_link *link = &owned->chains[chain];
    if (link->next != NULL) {
        link->next->chains[chain].from = link->from;
    }
    *link->from = link->next;
}

/* A child's copy of the table is its parent's; the descriptors in it were closed by the
 * fork. */
static void
discard_parent_table(void)
{
    if (table_generation == os_generation()) {
        return;
    }
    while (all != NULL) {
        struct owned *owned = all;
        for (enum table_chain chain = 0; chain < TABLE_CHAINS; chain++) {
            take_out(owned, chain);
        }
        os_free_later_locked(owned);
    }
    table_generation = os_generation();
}

/* ---- Entries ---- */

static bool
is_same_owner(struct owner one, struct owner other)
{
    return one.token == other.token;
}

struct owned *
table_new(const struct mechanism *mechanism, struct owner owner, struct table_name name,
          const char *row)
{
    size_t file_size = strlen(name.lock_file) + 1;
    size_t database_size = strlen(name.database) + 1;
    size_t row_size = strlen(row) + 1;
    struct owned *owned = calloc(1, sizeof *owned + file_size + database_size + row_size);
    if (owned != NULL) {
        owned->mechanism = mechanism;
        owned->owner = owner;
        owned->directory.descriptor = -1;
        owned->beacon.descriptor = -1;
        owned->inside.descriptor = -1;
        char *database = owned->lock_file + file_size;
        char *own_row = database + database_size;
        memcpy(owned->lock_file, name.lock_file, file_size);
        owned->file = strrchr(owned->lock_file, '/') + 1;
        owned->database = memcpy(database, name.database, database_size);
        owned->row = memcpy(own_row, row, row_size);
    }
    return owned;
}

bool
table_enter(struct owned *owned)
{
    os_lock();
    discard_parent_table();
    bool entered = !is_closed;
    if (entered) {
        owned->user = os_thread_token();
        owned->serial = ++last_serial;
        put_first(&all, TABLE_ALL, owned);
        put_first(bucket_by_path(owned->lock_file), TABLE_BY_PATH, owned);
        put_first(bucket_by_inode(owned->inode), TABLE_BY_INODE, owned);
        put_first(bucket_by_unique_name(owned->directory.inode, owned->unique_name),
                  TABLE_BY_UNIQUE_NAME, owned);
    }
    os_unlock();
    return entered;
}

void
table_keep(struct owned *owned)
{
    os_lock();
    owned->user = 0;
    owned->releasing = false;
    owned->is_kept = true;
    os_wake_all();
    os_unlock();
}

void
table_drop(struct owned *owned)
{
    os_lock();
    if (owned->chains[TABLE_ALL].from != NULL) {
        for (enum table_chain chain = 0; chain < TABLE_CHAINS; chain++) {
            take_out(owned, chain);
        }
        os_wake_all();
    }
    os_unlock();
    os_close(&owned->beacon);
    os_close(&owned->inside);
    os_close(&owned->directory);
    free(owned);
}

void
table_replace(struct os_file *lost, struct os_file found)
{
    os_lock();
    *lost = found;
    os_unlock();
}

/* What an entry is looked for by. */
struct query {
    const struct table_name *name;
    const struct mechanism *mechanism;
    const struct table_key *key;
    uint64_t serial;
    const struct owner *owner;
    bool idle; /* only what no other call uses */
    bool kept; /* only what is owned */
};

static bool
is_at(const struct owned *owned, const struct table_key *key)
{
    return os_same(owned->inode, key->inode) && os_same(owned->directory.inode, key->directory) &&
           strcmp(owned->file, key->file) == 0;
}

static bool
matches(const struct owned *owned, const struct query *query)
{
    return (query->owner == NULL || is_same_owner(owned->owner, *query->owner)) &&
           (!query->idle || owned->user == 0) && (!query->kept || owned->is_kept) &&
           (query->mechanism == NULL || owned->mechanism == query->mechanism) &&
           (query->serial == 0 || owned->serial == query->serial) &&
           (query->key == NULL || is_at(owned, query->key)) &&
           (query->name == NULL || (strcmp(owned->lock_file, query->name->lock_file) == 0 &&
                                    strcmp(owned->database, query->name->database) == 0));
}

static struct owned *
find(const struct query *query)
{
    enum table_chain chain = query->key != NULL    ? TABLE_BY_INODE
                             : query->name != NULL ? TABLE_BY_PATH
                                                   : TABLE_ALL;
    struct owned *owned = query->key != NULL    ? *bucket_by_inode(query->key->inode)
                          : query->name != NULL ? *bucket_by_path(query->name->lock_file)
                                                : all;
    while (owned != NULL && !matches(owned, query)) {
        owned = owned->chains[chain].next;
    }
    return owned;
}

static bool
is_used_by_another(const struct owned *owned, uint64_t me)
{
    return owned != NULL && owned->user != 0 && owned->user != me;
}

static enum table_answer
take(const struct query *query, int64_t patience, struct owned **taken)
{
    struct owned *owned;
    int64_t until = 0;
    enum table_answer answer = TABLE_NONE;
    os_lock();
    discard_parent_table();
    uint64_t me = os_thread_token();
    while (is_used_by_another(owned = find(query), me)) {
        until = until != 0 ? until : os_now() + patience;
        if (os_now() >= until) {
            break;
        }
        os_wait_unlocked_until(until);
    }
    if (is_used_by_another(owned, me)) {
        answer = owned->releasing ? TABLE_RELEASING : TABLE_BUSY;
    } else if (owned != NULL && owned->user == 0) {
        owned->user = me;
        *taken = owned;
        answer = TABLE_TAKEN;
    }
    os_unlock();
    return answer;
}

enum table_answer
table_take(struct table_name name, struct owner owner, int64_t patience, struct owned **owned)
{
    return take(&(struct query){.name = &name, .owner = &owner}, patience, owned);
}

enum table_answer
table_take_key(struct table_key key, struct owner owner, int64_t patience, struct owned **owned)
{
    return take(&(struct query){.key = &key, .owner = &owner}, patience, owned);
}

struct owned *
table_take_serial(uint64_t serial)
{
    struct owned *owned = NULL;
    take(&(struct query){.serial = serial}, SHORT_PATIENCE, &owned);
    return owned;
}

struct owned *
table_take_last(const struct mechanism *mechanism)
{
    struct owned *owned = NULL;
    take(&(struct query){.mechanism = mechanism, .idle = true}, 0, &owned);
    return owned;
}

void
table_end_block(struct table_name name, struct owner owner)
{
    os_lock();
    discard_parent_table();
    struct owned *owned = find(&(struct query){.name = &name, .owner = &owner, .kept = true});
    if (owned != NULL) {
        owned->depth -= owned->depth > 0;
    }
    os_unlock();
}

void
table_begin_release(struct owned *owned)
{
    os_lock();
    owned->releasing = true;
    os_unlock();
}

bool
table_tell(const struct table_name *name, const struct table_key *key, struct owner owner,
           struct table_told *told)
{
    os_lock();
    discard_parent_table();
    const struct owned *owned =
        find(&(struct query){.name = name, .key = key, .owner = &owner, .kept = true});
    if (owned != NULL) {
        told->mechanism = owned->mechanism;
        told->descriptor = owned->releasing ? -1 : owned->beacon.descriptor;
        memcpy(told->unique_name, owned->unique_name, OWNER_NAME_SIZE);
    }
    os_unlock();
    return owned != NULL;
}

void
table_close(void)
{
    os_lock();
    is_closed = true;
    os_unlock();
}

void
table_open(void)
{
    os_lock();
    is_closed = false;
    os_unlock();
}

bool
table_has_file(const char *file, struct owner owner)
{
    os_lock();
    discard_parent_table();
    const struct owned *owned = all;
    while (owned != NULL &&
           !(is_same_owner(owned->owner, owner) && strcmp(owned->file, file) == 0)) {
        owned = owned->chains[TABLE_ALL].next;
    }
    os_unlock();
    return owned != NULL;
}

bool
table_find(struct table_key key, struct owner *owner, uint64_t *serial)
{
    os_lock();
    discard_parent_table();
    const struct owned *owned = find(&(struct query){.key = &key});
    if (owned != NULL) {
        *owner = owned->owner;
        *serial = owned->serial;
    }
    os_unlock();
    return owned != NULL;
}

bool
table_names(struct os_inode directory, const char *name)
{
    os_lock();
    discard_parent_table();
    const struct owned *owned = *bucket_by_unique_name(directory, name);
    while (owned != NULL &&
           !(os_same(owned->directory.inode, directory) && strcmp(owned->unique_name, name) == 0)) {
        owned = owned->chains[TABLE_BY_UNIQUE_NAME].next;
    }
    os_unlock();
    return owned != NULL;
}
