#include "core/fairness.h"

#include "core/table.h"

#define COURTESIES 16

static struct courtesy {
    uint64_t lock; /* hash of the lock file's path */
    uint64_t token;
    int64_t until;
} courtesies[COURTESIES]; /* guarded by the mutex */
static unsigned next_courtesy;

void
fairness_owe(const char *lock_file, struct owner owner)
{
    struct courtesy courtesy = {table_hash(lock_file), owner.token, os_now() + FAIRNESS_TIME};
    os_mutex_lock();
    courtesies[next_courtesy++ % COURTESIES] = courtesy;
    os_mutex_unlock();
}

int64_t
fairness_ask(const char *lock_file, struct owner owner)
{
    int64_t until = 0;
    uint64_t hash = table_hash(lock_file);
    os_mutex_lock();
    for (struct courtesy *owed = courtesies; owed < courtesies + COURTESIES; owed++) {
        if (owed->lock == hash && owed->token == owner.token) {
            until = owed->until > until ? owed->until : until;
            owed->lock = 0;
        }
    }
    os_mutex_unlock();
    return until;
}
