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

enum outcome
judge_shared(struct attempt *attempt)
{
    attempt->report.holder.is_shared = true;
    return attempt_may_join(attempt) ? LOCK_SHARED : judge_held(attempt, LIFE_ALIVE, NULL);
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
judge_sibling(struct attempt *attempt, const struct table_found *found)
{
    struct holder *holder = &attempt->report.holder;
    struct owner owner = found->owner;
    holder->known = true;
    holder->sibling = true;
    holder->is_shared = found->is_shared;
    holder->kind = owner.kind;
    holder->beside = is_beside(owner, attempt->owner);
    holder->name = (struct name){.thread = owner.thread, .process = os_process()};
    memcpy(holder->name.host, attempt->lock->host, OS_HOST_SIZE);
    return judge_held(attempt, LIFE_ALIVE, NULL);
}

enum outcome
judge_by_table(struct attempt *attempt)
{
    struct table_found found;
    struct table_told told;
    struct table_key key = attempt_key(attempt);
    if (!table_find(key, attempt->owner, &found)) {
        return LOCK_FOUND;
    }
    if (owner_is_same(found.owner, attempt->owner) ||
        table_tell(NULL, &key, attempt->owner, &told)) {
        return LOCK_OWNED;
    }
    return found.is_shared && attempt_may_join(attempt) ? LOCK_FOUND
                                                        : judge_sibling(attempt, &found);
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
