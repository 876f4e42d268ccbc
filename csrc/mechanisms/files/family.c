#include "mechanisms/files/family.h"

#include <string.h>

bool
family_begin_naming(const struct files_claim *claim, struct os_file *turn)
{
    struct os_status status;
    const struct claim *base = &claim->claim;
    if (os_open(&claim->directory, base->file, OS_READ, turn, &status) != 0) {
        return false;
    }
    bool begun = os_same(status.inode, base->beacon.inode);
    if (begun && claim->local && os_mark(turn, OS_HEIR) == 0) {
        begun = os_find_mark(turn, OS_HEIR) == 0;
    }
    if (!begun) {
        family_end_naming(turn);
    }
    return begun;
}

void
family_end_naming(struct os_file *turn)
{
    os_unmark(turn, OS_HEIR); /* outright: a fork may have copied the descriptor */
    os_close(turn);
}

struct removal {
    const struct os_file *directory;
    const char *file;
    struct os_inode inode;
    const char *but;
    entry_remover *remove;
};

static bool
visit_to_remove(void *context, const char *text)
{
    struct removal *removal = context;
    struct name name;
    bool is_other = strcmp(text, removal->file) != 0 &&
                    (removal->but == NULL || strcmp(text, removal->but) != 0);
    if (is_other && proof_read_name(text, &name)) {
        removal->remove(removal->directory, text, removal->inode);
    }
    return true;
}

void
family_remove_names(const struct os_file *directory, const char *file, struct os_inode inode,
                    const char *but, entry_remover *remove)
{
    struct removal removal = {directory, file, inode, but, remove};
    os_list(directory, visit_to_remove, &removal);
}
