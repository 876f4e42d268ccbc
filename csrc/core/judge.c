#include "core/judge.h"

#include <string.h>

enum outcome
judge_failed(struct report *report, int error, const char *doing)
{
    report->error = error;
    report->doing = doing;
    return LOCK_FAILED;
}

enum outcome
judge_held(struct attempt *attempt, enum life life, const char *reason)
{
    attempt->report.holder.life = life;
    attempt->report.reason = reason;
    return LOCK_HELD;
}

static bool
shares_its_thread(struct owner owner)
{
    return owner.kind == OWNER_TASK || owner.kind == OWNER_GREENLET;
}

/* Does it run in the calling thread, beside the caller? The system gives a thread's number to later
 * threads, too; so of a thread only its own tasks know. */
static bool
is_beside(struct owner owner, struct owner caller)
{
    bool is_thread = owner.token == os_thread_token() && shares_its_thread(caller);
    return owner.thread != 0 && owner.thread == os_thread() &&
           (shares_its_thread(owner) || is_thread);
}

static enum outcome
judge_sibling(struct attempt *attempt, struct owner owner)
{
    struct holder *holder = &attempt->report.holder;
    holder->known = true;
    holder->sibling = true;
    holder->kind = owner.kind;
    holder->beside = is_beside(owner, attempt->owner);
    holder->name = (struct name){.thread = owner.thread, .process = os_process()};
    memcpy(holder->name.host, attempt->lock->host, OS_HOST_SIZE);
    return judge_held(attempt, LIFE_ALIVE, NULL);
}

enum outcome
judge_by_table(struct attempt *attempt)
{
    struct owner owner;
    uint64_t serial;
    if (!table_find(attempt_key(attempt), &owner, &serial)) {
        return LOCK_FOUND;
    }
    return owner_is_same(owner, attempt->owner) ? LOCK_OWNED : judge_sibling(attempt, owner);
}

enum outcome
judge_by_name(struct attempt *attempt, const char *name)
{
    struct name read;
    if (!proof_read_name(name, &read)) {
        return judge_held(attempt, LIFE_UNKNOWN, NULL);
    }
    if (!proof_is_possible(&read, attempt->ground)) {
        return judge_held(
            attempt, LIFE_UNKNOWN,
            read.kernel == 0 || read.kernel == PROOF_NO_KERNEL
                ? "nothing can tell here whether its owner is alive"
                : "only the machine that its owner ran on can tell whether it is "
                  "alive, and only until it restarts or mounts this file system anew");
    }
    attempt->report.holder.life = LIFE_DEAD;
    return LOCK_STALE;
}
