/* On a local file system by marks on the directory. Each side sets its mark before it looks
 * for the other's, so at least one sees the other. Removals set a mark and nothing more:
 * programs lock directories for reasons of their own (flock -n DIRECTORY COMMAND), and an
 * flock of ours, for however short a moment, would refuse theirs.
 *
 * break_lock() holds the directory's flock, too, so that there is one at a time; and so that a
 * removal in doubt can ask whether there is one at all. What looks like its mark may be a lock
 * of another program's, over all bytes of the directory; and there may be no marks.
 *
 * Elsewhere marks collide with flock, so all is done by flock. */
#include "mechanisms/files/removals.h"

/* Where there are no kernel locks, nothing can keep off. */
static int
lock_directory(const struct os_file *directory, enum os_mode mode)
{
    int error = os_flock(directory, mode);
    return os_flock_is_unsupported(error) ? 0 : error;
}

static int
mark_removal(const struct os_file *directory)
{
    int error = os_mark(directory, OS_REMOVER);
    if (error == 0) {
        error = os_find_mark(directory, OS_BREAKER);
    }
    return error == 0 ? 0 : os_flock(directory, OS_SHARED);
}

int
removals_begin(const struct os_file *directory, bool local)
{
    int error = local ? mark_removal(directory) : lock_directory(directory, OS_SHARED);
    if (error != 0) {
        removals_end(directory, local);
    }
    return error;
}

void
removals_end(const struct os_file *directory, bool local)
{
    if (local) {
        os_unmark(directory, OS_REMOVER);
    }
    os_flock(directory, OS_UNLOCK);
}

/* The mark comes second: while another program keeps the directory locked, removals go on. */
static int
mark_exclusion(const struct os_file *directory, bool *marked)
{
    int error = os_flock(directory, OS_EXCLUSIVE);
    if (error != 0) {
        return error;
    }
    error = os_mark(directory, OS_BREAKER);
    *marked = error == 0;
    return os_flock_is_unsupported(error) ? 0 : error; /* removals go by the flock then */
}

int
removals_exclude(const struct os_file *directory, bool local, bool *marked)
{
    *marked = false;
    int error = local ? mark_exclusion(directory, marked) : lock_directory(directory, OS_EXCLUSIVE);
    if (error != 0) {
        removals_admit(directory, local);
    }
    return error;
}

void
removals_admit(const struct os_file *directory, bool local)
{
    if (local) {
        os_unmark(directory, OS_BREAKER);
    }
    os_flock(directory, OS_UNLOCK);
}

int
removals_find(const struct os_file *directory)
{
    return os_find_mark(directory, OS_REMOVER);
}
