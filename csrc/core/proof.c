#include "core/proof.h"

#include <string.h>

struct owner
owner_calling(bool threaded)
{
    uint64_t caller = os_thread_token();
    return threaded ? (struct owner){caller, caller, os_thread(), OWNER_THREAD}
                    : (struct owner){caller, 0, 0, OWNER_PROCESS};
}

/* ---- What a file system lets us prove ---- */

/* FNV-1a: the digest only has to tell kernels apart, not to withstand anybody. */
static uint64_t
digest(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *byte = data;
    while (size-- > 0) {
        hash = (hash ^ *byte++) * UINT64_C(0x100000001B3);
    }
    return hash;
}

int
proof_find_ground(const struct os_file *directory, struct ground *ground)
{
    char boot[64];
    enum os_reach reach = OS_ANYBODY;
    *ground = (struct ground){.local = false};
    int error = os_reach(directory, &reach);
    ground->local = reach == OS_KERNEL;
    ground->alone = reach == OS_MACHINE;
    if (error != 0 || reach != OS_ANYBODY || os_boot(boot, sizeof boot) != 0) {
        return error;
    }
    uint64_t device = directory->inode.device;
    uint64_t kernel = digest(UINT64_C(0xCBF29CE484222325), boot, strlen(boot));
    kernel = digest(kernel, &device, sizeof device);
    ground->kernel = kernel != 0 && kernel != PROOF_NO_KERNEL ? kernel : 1;
    return 0;
}

/* Not by a name without K: on the file system that such a mount shows, it would prove. */
bool
proof_is_given_up(struct ground *ground, int error)
{
    if (!os_flock_is_unsupported(error) || ground->local || ground->dumb) {
        return false;
    }
    ground->dumb = true;
    ground->kernel = PROOF_NO_KERNEL;
    return true;
}

/* ---- Names ---- */

void
proof_write_name(char text[NAME_SIZE], const char *host, struct owner owner, struct ground ground,
                 uint64_t number)
{
    name_format(text, host, owner.thread, os_process(), ground.kernel, number);
}

/* The classic HOST.Thread-1-PID, for one, has the form, but no number of a thread. */
bool
proof_read_name(const char *text, struct name *name)
{
    return name_parse(text, name) && (name->thread == 0 || name->thread >= os_lowest_thread);
}

bool
proof_is_possible(const struct name *name, struct ground ground)
{
    return name->kernel == 0 ? ground.local || ground.alone
                             : name->kernel == ground.kernel && !ground.dumb;
}
