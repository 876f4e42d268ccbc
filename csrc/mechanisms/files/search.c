#include "mechanisms/files/search.h"

#include "mechanisms/files/entry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What else than its unique file is in a directory? */
struct contents {
    unsigned count;
    char name[NAME_SIZE];
};

/* What NFS and FUSE keep of a removed file that is still open. */
static bool
is_removed(const char *text)
{
    static const char *const prefixes[] = {".nfs", ".fuse_hidden"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t length = strlen(prefixes[i]);
        const char *rest = text + length;
        if (strncmp(text, prefixes[i], length) == 0 && *rest != '\0' &&
            rest[strspn(rest, "0123456789abcdef")] == '\0') {
            return true;
        }
    }
    return false;
}

static bool
visit_contents(void *context, const char *text)
{
    struct contents *contents = context;
    if (strcmp(text, ".") != 0 && strcmp(text, "..") != 0 && !is_removed(text)) {
        contents->count++;
        snprintf(contents->name, NAME_SIZE, "%s", text);
    }
    return contents->count < 2;
}

int
search_inside(const struct os_file *directory, char name[NAME_SIZE])
{
    struct contents contents = {0};
    int error = os_list(directory, visit_contents, &contents);
    if (error == 0 && contents.count != 1) {
        error = contents.count == 0 ? ENOENT : ENOTEMPTY;
    }
    if (error == 0) {
        memcpy(name, contents.name, NAME_SIZE);
    }
    return error;
}

/* ---- In the directory of a lock file ---- */

struct search {
    const struct os_file *directory;
    const char *lock_file;
    struct os_inode inode;
    int64_t process;
    char *name;
    bool any; /* of whatever form */
    bool found;
    int error;
};

static bool
visit_to_find(void *context, const char *text)
{
    struct search *search = context;
    struct name name = {.process = 0};
    /* Never by the number that the directory tells: overlay layers number apart. */
    bool fits = search->any ? strlen(text) < NAME_SIZE : proof_read_name(text, &name);
    if (!fits || strcmp(text, search->lock_file) == 0) {
        return true;
    }
    search->error = entry_check(search->directory, text, search->inode);
    if (search->error == ENOENT) {
        return true;
    }
    if (search->error != 0) {
        return false; /* not seen is not foreign */
    }
    snprintf(search->name, NAME_SIZE, "%s", text);
    search->found = true;
    return search->process != SEARCH_ANY_PROCESS && search->process != name.process;
}

static int
search_names(struct search *search)
{
    int error = os_list(search->directory, visit_to_find, search);
    bool found = search->found && search->error == ENOENT;
    return error != 0 ? error : found ? 0 : search->error;
}

int
search_unique_name(const struct os_file *directory, const char *lock_file, struct os_inode inode,
                   int64_t process, char name[NAME_SIZE])
{
    struct search search = {directory, lock_file, inode, process, name, false, false, ENOENT};
    return search_names(&search);
}

int
search_other_name(const struct os_file *directory, const char *lock_file, struct os_inode inode,
                  char name[NAME_SIZE])
{
    struct search search = {directory, lock_file, inode, SEARCH_ANY_PROCESS,
                            name,      true,      false, ENOENT};
    return search_names(&search);
}
