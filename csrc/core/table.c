#include "core/table.h"

#include <stdlib.h>
#include <string.h>

/* In every chain the newest is first: locks are mostly released in the reverse order.
 * All but one chain have many buckets, so that a lock costs as much beside thousands of
 * others as it costs alone. */
#define BUCKET_BITS 12

static struct claim *all;
static struct claim *buckets[TABLE_CHAINS][1 << BUCKET_BITS];
static uint64_t last_serial;
static uint64_t change_count;
static bool is_closed;

/* The process that the claims belong to. Not by its number: a child in a PID namespace of its
 * own may have its parent's. */
static uint64_t table_generation;

/* ---- Chains ---- */

uint64_t
table_hash(const char *text)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001B3);
    }
    return hash;
}

static struct claim **
bucket(enum table_chain chain, uint64_t number)
{
    return &buckets[chain][(number * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - BUCKET_BITS)];
}

static struct claim **
bucket_by_path(const char *lock_file)
{
    return bucket(TABLE_BY_PATH, table_hash(lock_file));
}

static struct claim **
bucket_by_identity(struct identity identity)
{
    return bucket(TABLE_BY_IDENTITY, identity.claim[1]);
}

static struct claim **
bucket_by_unique_name(struct identity place, const char *name)
{
    return bucket(TABLE_BY_UNIQUE_NAME, table_hash(name) ^ place.place[1]);
}

static void
put_first_locked(struct claim **first, enum table_chain chain, struct claim *claim)
{
    os_assert_locked();
    claim->chains[chain] = (struct table_link){.next = *first, .from = first};
    if (*first != NULL) {
        (*first)->chains[chain].from = &claim->chains[chain].next;
    }
    *first = claim;
}

static void
take_out_locked(struct claim *claim, enum table_chain chain)
{
    os_assert_locked();
    struct table_link *link = &claim->chains[chain];
    if (link->next != NULL) {
        link->next->chains[chain].from = link->from;
    }
    *link->from = link->next;
}

/* Whoever waits for a claim to be free looks again. */
static void
tell_change_locked(void)
{
    os_assert_locked();
    change_count++;
    os_mutex_wake_all();
}

static void
inherit_locked(struct claim *claim)
{
    os_assert_locked();
    claim->user = 0; /* that was a thread of the parent's */
    claim->releasing = false;
    claim->is_inherited = true;
    claim->is_misnamed = true;
}

/* A child's copy of the table is its parent's; the descriptors in it were closed by the
 * fork. But it keeps what is to be inherited. */
static void
forget_parent_locked(void)
{
    if (!os_has_forked(&table_generation)) {
        return;
    }
    struct claim *next;
    for (struct claim *claim = all; claim != NULL; claim = next) {
        next = claim->chains[TABLE_ALL].next;
        if (claim->is_inheritable) {
            inherit_locked(claim);
            continue;
        }
        for (enum table_chain chain = 0; chain < TABLE_CHAINS; chain++) {
            take_out_locked(claim, chain);
        }
        os_free_later_locked(claim);
    }
}

/* ---- Claims ---- */

/* Copies a text behind what was copied before, and moves the place on. */
static const char *
append(char **place, const char *text)
{
    size_t size = strlen(text) + 1;
    const char *copy = memcpy(*place, text, size);
    *place += size;
    return copy;
}

struct claim *
table_new(size_t size, const struct mechanism *mechanism, struct owner owner,
          struct table_name name, const char *note)
{
    size_t texts = strlen(name.lock_file) + strlen(name.store) + strlen(note) + 3;
    struct claim *claim = calloc(1, size + texts);
    if (claim != NULL) {
        char *end = (char *)claim + size;
        claim->mechanism = mechanism;
        claim->owner = owner;
        claim->beacon = OS_NO_FILE;
        claim->lock_file = append(&end, name.lock_file);
        claim->file = os_last_name(claim->lock_file);
        claim->store = append(&end, name.store);
        claim->note = append(&end, note);
    }
    return claim;
}

static void
enter_locked(struct claim *claim)
{
    os_assert_locked();
    claim->user = claim->owner.caller;
    claim->serial = ++last_serial;
    put_first_locked(&all, TABLE_ALL, claim);
    put_first_locked(bucket_by_path(claim->lock_file), TABLE_BY_PATH, claim);
    put_first_locked(bucket_by_identity(claim->identity), TABLE_BY_IDENTITY, claim);
    put_first_locked(bucket_by_unique_name(claim->identity, claim->unique_name),
                     TABLE_BY_UNIQUE_NAME, claim);
}

bool
table_enter(struct claim *claim)
{
    os_mutex_lock();
    forget_parent_locked();
    bool entered = !is_closed;
    if (entered) {
        enter_locked(claim);
    }
    os_mutex_unlock();
    return entered;
}

void
table_share(struct claim *claim)
{
    os_mutex_lock();
    claim->is_shared = true;
    os_mutex_unlock();
}

void
table_keep(struct claim *claim)
{
    os_mutex_lock();
    claim->user = 0;
    claim->releasing = false;
    claim->is_kept = true;
    tell_change_locked();
    os_mutex_unlock();
}

void
table_remove(struct claim *claim)
{
    os_mutex_lock();
    if (claim->chains[TABLE_ALL].from != NULL) {
        for (enum table_chain chain = 0; chain < TABLE_CHAINS; chain++) {
            take_out_locked(claim, chain);
            claim->chains[chain].from = NULL;
        }
        tell_change_locked();
    }
    os_mutex_unlock();
}

void
table_replace(struct os_file *lost, struct os_file found)
{
    os_mutex_lock();
    *lost = found;
    os_mutex_unlock();
}

/* ---- Finding ---- */

/* What a claim is looked for by. */
struct query {
    const struct table_name *name;
    const struct mechanism *mechanism;
    const struct table_key *key;
    uint64_t serial; /* or older */
    const struct owner *owner;
    bool idle; /* only what no other call uses */
    bool kept; /* only what is owned */
};

static bool
is_at(const struct claim *claim, const struct table_key *key)
{
    return identity_is_alike(claim->identity, key->identity) &&
           os_same_name(claim->file, key->file);
}

static bool
is_in(const struct claim *claim, struct identity place)
{
    return claim->identity.place[0] == place.place[0] && claim->identity.place[1] == place.place[1];
}

static bool
is_called(const struct claim *claim, const struct table_name *name)
{
    return strcmp(claim->lock_file, name->lock_file) == 0 && strcmp(claim->store, name->store) == 0;
}

/* Several of them are in one thread. */
static bool
is_in_a_thread(enum owner_kind kind)
{
    return kind == OWNER_THREAD || kind == OWNER_TASK || kind == OWNER_GREENLET;
}

/* A child begins with the one thread that has forked. What any of its parent's threads owned, that
 * thread owns, in whatever runs in it. What an object or a whole process owned stays theirs. */
static bool
may_inherit(const struct claim *claim, const struct owner *owner)
{
    return claim->is_inherited && is_in_a_thread(claim->owner.kind) &&
           is_in_a_thread(owner->kind) && owner->thread == os_forked_thread();
}

static bool
is_owned_by(const struct claim *claim, const struct owner *owner)
{
    return owner_is_same(claim->owner, *owner) || may_inherit(claim, owner);
}

static bool
matches(const struct claim *claim, const struct query *query)
{
    return (query->owner == NULL || is_owned_by(claim, query->owner)) &&
           (!query->idle || claim->user == 0) && (!query->kept || claim->is_kept) &&
           (query->mechanism == NULL || claim->mechanism == query->mechanism) &&
           (query->serial == 0 || claim->serial <= query->serial) &&
           (query->key == NULL || is_at(claim, query->key)) &&
           (query->name == NULL || is_called(claim, query->name));
}

static struct claim *
find_locked(const struct query *query)
{
    os_assert_locked();
    enum table_chain chain = query->key != NULL    ? TABLE_BY_IDENTITY
                             : query->name != NULL ? TABLE_BY_PATH
                                                   : TABLE_ALL;
    struct claim *claim = query->key != NULL    ? *bucket_by_identity(query->key->identity)
                          : query->name != NULL ? *bucket_by_path(query->name->lock_file)
                                                : all;
    while (claim != NULL && !matches(claim, query)) {
        claim = claim->chains[chain].next;
    }
    return claim;
}

/* It is its own from now on, and not its parent's. */
static void
give_to_locked(struct claim *claim, struct owner owner)
{
    os_assert_locked();
    if (!owner_is_same(claim->owner, owner)) {
        claim->depth = 0; /* of a thread that is not here */
    }
    claim->owner = owner;
    claim->is_inherited = false;
}

enum table_entry
table_join(struct claim *claim)
{
    struct table_key key = {claim->identity, claim->file};
    os_mutex_lock();
    forget_parent_locked();
    bool is_known = find_locked(&(struct query){.key = &key, .owner = &claim->owner}) != NULL;
    bool entered = !is_closed && !is_known;
    if (entered) {
        enter_locked(claim);
    }
    os_mutex_unlock();
    return entered ? TABLE_ENTERED : is_known ? TABLE_KNOWN : TABLE_CLOSED;
}

/* An owner's unique names are alike, where each has an identity of its own. */
static const struct claim *
find_noted_locked(const struct claim *claim)
{
    os_assert_locked();
    struct identity place = claim->identity;
    const struct claim *other = *bucket_by_unique_name(place, claim->unique_name);
    while (other != NULL && !(is_in(other, place) && owner_is_same(other->owner, claim->owner) &&
                              strcmp(other->note, claim->note) == 0)) {
        other = other->chains[TABLE_BY_UNIQUE_NAME].next;
    }
    return other;
}

enum table_entry
table_join_by_note(struct claim *claim, struct identity *known)
{
    os_mutex_lock();
    forget_parent_locked();
    const struct claim *other = find_noted_locked(claim);
    bool entered = !is_closed && other == NULL;
    if (other != NULL) {
        *known = other->identity;
    }
    if (entered) {
        enter_locked(claim);
    }
    os_mutex_unlock();
    return entered ? TABLE_ENTERED : other != NULL ? TABLE_KNOWN : TABLE_CLOSED;
}

/* For the caller, to whom its own other call's claim is not there. */
static enum table_answer
take(const struct query *query, uint64_t caller, struct claim **taken, uint64_t *changes)
{
    enum table_answer answer = TABLE_NONE;
    os_mutex_lock();
    forget_parent_locked();
    struct claim *claim = find_locked(query);
    if (claim != NULL && claim->user == 0) {
        claim->user = caller;
        if (claim->is_inherited && query->owner != NULL) {
            give_to_locked(claim, *query->owner);
        }
        *taken = claim;
        answer = TABLE_TAKEN;
    } else if (claim != NULL && claim->user != caller) {
        answer = claim->releasing ? TABLE_RELEASING : TABLE_BUSY;
        *changes = change_count;
    }
    os_mutex_unlock();
    return answer;
}

enum table_answer
table_take(struct table_name name, struct owner owner, struct claim **claim, uint64_t *changes)
{
    return take(&(struct query){.name = &name, .owner = &owner}, owner.caller, claim, changes);
}

enum table_answer
table_take_key(struct table_key key, struct owner owner, struct claim **claim, uint64_t *changes)
{
    return take(&(struct query){.key = &key, .owner = &owner}, owner.caller, claim, changes);
}

enum table_answer
table_take_condemned(struct table_key key, uint64_t serial, struct owner owner,
                     struct claim **claim, uint64_t *changes)
{
    return take(&(struct query){.key = &key, .serial = serial}, owner.caller, claim, changes);
}

struct claim *
table_take_any(struct owner owner)
{
    os_mutex_lock();
    forget_parent_locked();
    struct claim *claim = find_locked(&(struct query){.owner = &owner, .idle = true, .kept = true});
    if (claim != NULL) {
        claim->user = owner.caller;
    }
    os_mutex_unlock();
    return claim;
}

struct claim *
table_take_last(const struct mechanism *mechanism)
{
    struct claim *claim = NULL;
    uint64_t changes;
    take(&(struct query){.mechanism = mechanism, .idle = true}, os_thread_token(), &claim,
         &changes);
    return claim;
}

bool
table_has_changed(uint64_t changes)
{
    os_mutex_lock();
    bool changed = change_count != changes;
    os_mutex_unlock();
    return changed;
}

bool
table_await_change(uint64_t changes, int64_t time)
{
    os_mutex_lock();
    while (change_count == changes && os_now() < time) {
        os_mutex_wait_until(time);
    }
    bool changed = change_count != changes;
    os_mutex_unlock();
    return changed;
}

void
table_rename(struct claim *claim, const char *unique_name)
{
    os_mutex_lock();
    take_out_locked(claim, TABLE_BY_UNIQUE_NAME);
    memmove(claim->unique_name, unique_name, strlen(unique_name) + 1);
    put_first_locked(bucket_by_unique_name(claim->identity, claim->unique_name),
                     TABLE_BY_UNIQUE_NAME, claim);
    claim->is_misnamed = false;
    os_mutex_unlock();
}

/* ---- What does not need the claim for itself ---- */

void
table_end_block(struct table_name name, struct owner owner)
{
    os_mutex_lock();
    forget_parent_locked();
    struct claim *claim =
        find_locked(&(struct query){.name = &name, .owner = &owner, .kept = true});
    if (claim != NULL) {
        claim->depth -= claim->depth > 0;
    }
    os_mutex_unlock();
}

void
table_begin_release(struct claim *claim)
{
    os_mutex_lock();
    claim->releasing = true;
    os_mutex_unlock();
}

bool
table_tell(const struct table_name *name, const struct table_key *key, struct owner owner,
           struct table_told *told)
{
    os_mutex_lock();
    forget_parent_locked();
    const struct claim *claim =
        find_locked(&(struct query){.name = name, .key = key, .owner = &owner, .kept = true});
    if (claim != NULL) {
        told->mechanism = claim->mechanism;
        told->descriptor = claim->releasing ? -1 : claim->beacon.descriptor;
        told->is_inheritable = claim->is_inheritable;
        told->is_inherited = claim->is_inherited;
        told->serial = claim->serial;
        memcpy(told->unique_name, claim->unique_name, NAME_SIZE);
        told->has_joined = claim->has_joined;
    }
    os_mutex_unlock();
    return claim != NULL;
}

void
table_close(void)
{
    os_mutex_lock();
    is_closed = true;
    os_mutex_unlock();
}

void
table_open(void)
{
    os_mutex_lock();
    is_closed = false;
    os_mutex_unlock();
}

bool
table_has_file(const char *file, struct owner owner)
{
    os_mutex_lock();
    forget_parent_locked();
    const struct claim *claim = all;
    while (claim != NULL && !(is_owned_by(claim, &owner) && os_same_name(claim->file, file))) {
        claim = claim->chains[TABLE_ALL].next;
    }
    os_mutex_unlock();
    return claim != NULL;
}

/* How much it matters to who asks that this one has it, too. */
static int
nearness(const struct claim *claim, struct owner asking)
{
    bool is_own = claim->is_inherited || owner_is_same(claim->owner, asking);
    return is_own ? 2 : claim->owner.thread != 0 && claim->owner.thread == os_thread();
}

bool
table_find(struct table_key key, struct owner asking, struct table_found *found)
{
    const struct claim *nearest = NULL;
    uint64_t serial = 0;
    os_mutex_lock();
    forget_parent_locked();
    const struct claim *claim = *bucket_by_identity(key.identity);
    for (; claim != NULL; claim = claim->chains[TABLE_BY_IDENTITY].next) {
        if (is_at(claim, &key)) {
            bool nearer = nearest == NULL || nearness(claim, asking) > nearness(nearest, asking);
            nearest = nearer ? claim : nearest;
            serial = claim->serial > serial ? claim->serial : serial;
        }
    }
    if (nearest != NULL) {
        *found = (struct table_found){nearest->owner, nearest->is_shared, serial};
    }
    os_mutex_unlock();
    return nearest != NULL;
}

bool
table_names(struct identity place, const char *name)
{
    os_mutex_lock();
    forget_parent_locked();
    const struct claim *claim = *bucket_by_unique_name(place, name);
    while (claim != NULL && !(is_in(claim, place) && strcmp(claim->unique_name, name) == 0)) {
        claim = claim->chains[TABLE_BY_UNIQUE_NAME].next;
    }
    os_mutex_unlock();
    return claim != NULL;
}
