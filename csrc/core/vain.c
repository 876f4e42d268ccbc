#include "core/vain.h"

#include <errno.h>
#include <stdlib.h>

#define CALLERS 64

/* What a caller has waited for in vain. */
struct vain {
    struct vain *next;
    uint64_t caller;
    struct identity lock; /* none: it changed hands */
};

static struct vain **
find_locked(struct lock *lock, uint64_t caller)
{
    os_assert_locked();
    struct vain **link = &lock->waits;
    while (*link != NULL && (*link)->caller != caller) {
        link = &(*link)->next;
    }
    return link;
}

void
vain_forget(struct attempt *attempt)
{
    os_mutex_lock();
    struct vain **link = find_locked(attempt->lock, attempt->owner.caller);
    struct vain *vain = *link;
    if (vain != NULL) {
        *link = vain->next;
    }
    os_mutex_unlock();
    free(vain);
}

/* Threads end without a word: of too many, the oldest is forgotten. */
static struct vain *
take_oldest_locked(struct lock *lock)
{
    os_assert_locked();
    struct vain **link = &lock->waits;
    unsigned count = 1;
    if (*link == NULL) {
        return NULL;
    }
    while ((*link)->next != NULL) {
        link = &(*link)->next;
        count++;
    }
    struct vain *oldest = count > CALLERS ? *link : NULL;
    if (oldest != NULL) {
        *link = NULL;
    }
    return oldest;
}

enum outcome
vain_remember(struct attempt *attempt, struct identity there)
{
    struct lock *lock = attempt->lock;
    vain_forget(attempt);
    if (!attempt->has_met) {
        return LOCK_HELD;
    }
    struct vain *vain = malloc(sizeof *vain);
    if (vain == NULL) {
        attempt->report = (struct report){.error = ENOMEM, .doing = "allocate"};
        return LOCK_FAILED;
    }
    vain->caller = attempt->owner.caller;
    vain->lock = identity_is_same(there, attempt->met) ? there : (struct identity){.born = 0};
    os_mutex_lock();
    vain->next = lock->waits;
    lock->waits = vain;
    struct vain *oldest = take_oldest_locked(lock);
    os_mutex_unlock();
    free(oldest);
    return LOCK_HELD;
}

bool
vain_recall(struct attempt *attempt, struct identity *waited_for)
{
    os_mutex_lock();
    const struct vain *vain = *find_locked(attempt->lock, attempt->owner.caller);
    if (vain != NULL) {
        *waited_for = vain->lock;
    }
    os_mutex_unlock();
    return vain != NULL;
}

int64_t
vain_refused_for(struct lock *lock, struct identity stale)
{
    int64_t now = os_now();
    os_mutex_lock();
    if (!identity_is_alike(lock->refused, stale)) {
        lock->refused = stale;
        lock->refused_since = now;
    }
    int64_t since = lock->refused_since;
    os_mutex_unlock();
    return now - since;
}

void
vain_free(struct lock *lock)
{
    while (lock->waits != NULL) {
        struct vain *next = lock->waits->next;
        free(lock->waits);
        lock->waits = next;
    }
}
