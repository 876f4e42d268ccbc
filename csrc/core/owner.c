#include "core/owner.h"
#include "core/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* .N: small numbers first, then random ones, which nobody can have taken in advance. */
#define SMALL_NUMBERS 3
#define KERNEL_DIGITS 16
#define NUMBER_DIGITS 10

struct owner
owner_caller(bool threaded)
{
    if (!threaded) {
        return (struct owner){0, 0};
    }
    return (struct owner){os_thread_token(), os_thread()};
}

void
owner_host(char host[OS_HOST_SIZE])
{
    os_host_name(host);
    for (char *slash = host; (slash = strchr(slash, '/')) != NULL;) {
        *slash = '_';
    }
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
owner_ground(const struct os_file *directory, struct owner_ground *ground)
{
    char boot[64];
    enum os_reach reach = OS_ANYBODY;
    *ground = (struct owner_ground){.local = false};
    int error = os_reach(directory, &reach);
    ground->local = reach == OS_KERNEL;
    ground->alone = reach == OS_MACHINE;
    if (error != 0 || reach != OS_ANYBODY || os_boot(boot, sizeof boot) != 0) {
        return error;
    }
    uint64_t device = directory->inode.device;
    uint64_t kernel = digest(UINT64_C(0xCBF29CE484222325), boot, strlen(boot));
    kernel = digest(kernel, &device, sizeof device);
    ground->kernel = kernel != 0 && kernel != OWNER_NO_KERNEL ? kernel : 1;
    return 0;
}

bool
owner_is_provable(const struct owner_name *name, struct owner_ground ground)
{
    return name->kernel == 0 ? ground.local || ground.alone
                             : name->kernel == ground.kernel && !ground.dumb;
}

/* Not by a name without K: on the file system that such a mount shows, it would prove. */
bool
owner_gives_up_proof(struct owner_ground *ground, int error)
{
    if (!os_flock_is_unsupported(error) || ground->local || ground->dumb) {
        return false;
    }
    ground->dumb = true;
    ground->kernel = OWNER_NO_KERNEL;
    return true;
}

/* ---- Names ---- */

void
owner_format(char name[OWNER_NAME_SIZE], const char *host, struct owner owner, uint64_t kernel,
             uint64_t number)
{
    char thread[20] = "", suffix_kernel[20] = "", suffix_number[24] = "";
    if (owner.thread != 0) {
        snprintf(thread, sizeof thread, "%" PRIx64, owner.thread);
    }
    if (kernel != 0) {
        snprintf(suffix_kernel, sizeof suffix_kernel, ".%016" PRIx64, kernel);
    }
    if (number != 0) {
        snprintf(suffix_number, sizeof suffix_number, ".%" PRIu64, number);
    }
    snprintf(name, OWNER_NAME_SIZE, "%.*s-%s-%d%s%s", OS_HOST_SIZE - 1, host, thread, os_process(),
             suffix_kernel, suffix_number);
}

/* Reads the digits that end right before *end, and moves *end to their start.
 * Returns how many there were. */
static size_t
read_backwards(const char *text, const char **end, unsigned base, uint64_t *value)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = *end;
    uint64_t place = 1;
    *value = 0;
    while (at > text && *end - at < KERNEL_DIGITS) {
        const char *digit = memchr(digits, at[-1], base);
        if (digit == NULL) {
            break;
        }
        *value += (uint64_t)(digit - digits) * place;
        place *= base;
        at--;
    }
    size_t count = (size_t)(*end - at);
    *end = at;
    return count;
}

/* Steps over the separator that must stand right before *end. */
static bool
step_back(const char *text, const char **end, char separator)
{
    if (*end == text || (*end)[-1] != separator) {
        return false;
    }
    --*end;
    return true;
}

static void
read_number_suffix(const char *text, const char **end)
{
    const char *at = *end;
    uint64_t number;
    size_t count = read_backwards(text, &at, 10, &number);
    if (count >= 1 && count <= NUMBER_DIGITS && *at != '0' && step_back(text, &at, '.')) {
        *end = at;
    }
}

static uint64_t
read_kernel_suffix(const char *text, const char **end)
{
    const char *at = *end;
    uint64_t kernel;
    size_t count = read_backwards(text, &at, 16, &kernel);
    /* K is never 0, which would pass for none. */
    if (count == KERNEL_DIGITS && kernel != 0 && step_back(text, &at, '.')) {
        *end = at;
        return kernel;
    }
    return 0;
}

bool
owner_parse(const char *text, struct owner_name *name)
{
    const char *end = text + strlen(text);
    uint64_t process;
    size_t count;
    read_number_suffix(text, &end);
    name->kernel = read_kernel_suffix(text, &end);
    count = read_backwards(text, &end, 10, &process);
    if (count == 0 || *end == '0' || process > INT32_MAX || !step_back(text, &end, '-')) {
        return false;
    }
    name->process = (int)process;
    count = read_backwards(text, &end, 16, &name->thread);
    if (count > 0 && (*end == '0' || name->thread < os_lowest_thread)) {
        return false; /* the classic HOST.Thread-1-PID, say */
    }
    if (!step_back(text, &end, '-') || end == text || end - text >= OS_HOST_SIZE) {
        return false;
    }
    memcpy(name->host, text, (size_t)(end - text));
    name->host[end - text] = '\0';
    return true;
}

/* ---- Files in public directories ---- */

bool
owner_is_public(const char *path)
{
    char directory[OS_PATH_SIZE];
    struct os_status status;
    size_t length = (size_t)(strrchr(path, '/') - path) + 1;
    memcpy(directory, path, length);
    directory[length] = '\0';
    return os_status_of(directory, &status) == 0 && status.sticky;
}

int
owner_check_trust(const char *path, const struct os_status *found)
{
    bool ours = found->kind != OS_LINK && found->user == os_user();
    if (ours && (found->links == 1 || found->kind == OS_DIRECTORY)) {
        return 0;
    }
    return owner_is_public(path) ? EPERM : 0;
}

/* ---- Unique files ---- */

bool
owner_is_absent(int error)
{
    return error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG;
}

int
owner_check(const struct os_file *directory, const char *name, struct os_inode inode)
{
    struct os_status status;
    int error = os_status_at(directory, name, &status);
    if (error != 0) {
        return owner_is_absent(error) ? ENOENT : error;
    }
    return os_same(status.inode, inode) ? 0 : ENOENT;
}

int
owner_check_afresh(const struct os_file *directory, const char *name, struct os_inode inode,
                   bool local)
{
    struct os_file file;
    struct os_status status;
    if (local) {
        return owner_check(directory, name, inode);
    }
    int error = os_open(directory, name, OS_READ, &file, &status);
    switch (error) {
    case 0:
        os_close(&file);
        return os_same(status.inode, inode) ? 0 : ENOENT;
    case EACCES:
    case EPERM:
    case ELOOP:
    case ENXIO: /* not to be opened by us */
        return owner_check(directory, name, inode);
    default:
        return owner_is_absent(error) ? ENOENT : error;
    }
}

int
owner_remove_dead(const struct os_file *directory, const char *name, struct os_inode inode)
{
    struct os_status status;
    int error = os_status_at(directory, name, &status);
    if (error != 0) {
        return error;
    }
    bool harmless = status.kind == OS_REGULAR && (status.size == 0 || !status.shared);
    return harmless && os_same(status.inode, inode) ? os_unlink(directory, name) : ENOENT;
}

int
owner_remove(const struct os_file *directory, const char *name, struct os_inode inode)
{
    int error = owner_check(directory, name, inode);
    return error != 0 ? error : os_unlink(directory, name);
}

int
owner_take_beacon(const struct os_file *file)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        int error = os_flock(file, OS_EXCLUSIVE);
        if (error != EWOULDBLOCK || (error = os_flock(file, OS_SHARED)) != 0) {
            return error;
        }
        /* Only another look was in the way. */
        os_flock(file, OS_UNLOCK);
    }
    return EWOULDBLOCK;
}

static bool
is_abandoned(const struct os_status *status)
{
    return status->kind == OS_REGULAR && status->stamped && status->user == os_user() &&
           status->size == 0 && status->links == 1;
}

/* Removes a unique file whose owner is dead and owned nothing. False: left alone. */
static bool
reap(const struct os_file *directory, const char *name, struct owner_ground ground)
{
    struct os_file file;
    struct os_status status;
    bool reaped = false;
    /* Looked at by name first: what is not a plain file had better not be opened. */
    if (os_status_at(directory, name, &status) != 0 || !is_abandoned(&status) ||
        os_open(directory, name, ground.local ? OS_READ : OS_WRITE, &file, &status) != 0) {
        return false;
    }
    if (os_flock(&file, OS_EXCLUSIVE) == 0) {
        /* The count of links is read after the grant: a claim that has linked
         * this file holds its beacon, and one that has not yet taken it finds
         * it refused and goes on to another name. */
        reaped = os_status(&file, &status) == 0 && is_abandoned(&status) &&
                 owner_remove(directory, name, file.inode) == 0;
        os_flock(&file, OS_UNLOCK);
    }
    os_close(&file);
    return reaped;
}

/* What else than its unique file is in a directory? */
struct contents {
    unsigned count;
    char name[OWNER_NAME_SIZE];
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
        snprintf(contents->name, OWNER_NAME_SIZE, "%s", text);
    }
    return contents->count < 2;
}

int
owner_find_inside(const struct os_file *directory, char name[OWNER_NAME_SIZE])
{
    struct contents contents = {0};
    int error = os_list(directory, visit_contents, &contents);
    if (error == 0 && contents.count != 1) {
        error = contents.count == 0 ? ENOENT : ENOTEMPTY;
    }
    if (error == 0) {
        memcpy(name, contents.name, OWNER_NAME_SIZE);
    }
    return error;
}

static bool
is_reapable(const char *text, struct owner_ground ground)
{
    struct owner_name name;
    return owner_parse(text, &name) && owner_is_provable(&name, ground);
}

/* Removes a lock directory that was not published, or is not any more: empty, or
 * with nothing in it but a dead owner's unique file. */
static bool
reap_directory(const struct os_file *directory, const char *name, struct owner_ground ground)
{
    struct os_file inside;
    struct os_status status;
    char unique_name[OWNER_NAME_SIZE];
    if (os_open(directory, name, OS_READ, &inside, &status) != 0) {
        return false;
    }
    int error = status.kind == OS_DIRECTORY ? owner_find_inside(&inside, unique_name) : ENOTDIR;
    bool emptied = error == ENOENT || (error == 0 && is_reapable(unique_name, ground) &&
                                       reap(&inside, unique_name, ground));
    bool reaped = emptied && owner_check(directory, name, inside.inode) == 0 &&
                  os_remove_directory(directory, name) == 0;
    os_close(&inside);
    return reaped;
}

bool
owner_reap(const struct os_file *directory, const char *name, struct owner_ground ground)
{
    struct os_status status;
    if (!is_reapable(name, ground) || os_status_at(directory, name, &status) != 0 ||
        !status.stamped || status.user != os_user()) {
        return false;
    }
    return status.kind == OS_DIRECTORY ? reap_directory(directory, name, ground)
                                       : reap(directory, name, ground);
}

/* On some mounts flock() is granted to everybody, so a beacon shows nothing. Then it is granted
 * to another open file of our own, too: as if there were no kernel locks, which that one says. */
static int
check_beacon_excludes(const struct os_file *directory, const char *name)
{
    struct os_file file;
    struct os_status status;
    int error = os_open(directory, name, OS_READ, &file, &status);
    if (error != 0) {
        return error;
    }
    int refused = os_flock(&file, OS_SHARED);
    os_flock(&file, OS_UNLOCK);
    os_close(&file);
    return refused == 0 ? EOPNOTSUPP : 0;
}

int
owner_light(const struct os_file *directory, struct owner_ground ground, struct os_file *beacon,
            const char *name)
{
    int error = os_flock(beacon, OS_EXCLUSIVE);
    if (error == 0 && !ground.local && !ground.dumb) {
        error = check_beacon_excludes(directory, name);
    }
    if (error == 0 || (os_flock_is_unsupported(error) && ground.dumb)) {
        error = owner_check(directory, name, beacon->inode);
    }
    if (error != 0 && error != EWOULDBLOCK && error != ENOENT) {
        owner_remove(directory, name, beacon->inode);
    }
    if (error != 0) {
        os_close(beacon);
    }
    return error;
}

static uint64_t
suffix_number(unsigned attempt)
{
    return attempt <= SMALL_NUMBERS ? attempt : (os_random() >> 32) + SMALL_NUMBERS + 1;
}

bool
owner_try_name(unsigned attempt, const struct os_file *directory, const char *host,
               struct owner owner, uint64_t kernel, char name[OWNER_NAME_SIZE])
{
    owner_format(name, host, owner, kernel, suffix_number(attempt));
    return !table_names(directory->inode, name);
}

int
owner_create(const struct os_file *directory, struct owner_ground ground, const char *host,
             struct owner owner, struct os_file *beacon, char name[OWNER_NAME_SIZE])
{
    for (unsigned attempt = 0; attempt < OWNER_ATTEMPTS; attempt++) {
        if (!owner_try_name(attempt, directory, host, owner, ground.kernel, name)) {
            continue;
        }
        int error = os_create(directory, name, beacon);
        if (error == EEXIST && owner_reap(directory, name, ground)) {
            error = os_create(directory, name, beacon);
        }
        if (error == EEXIST) {
            continue;
        }
        if (error != 0) {
            return error;
        }
        error = owner_light(directory, ground, beacon, name);
        if (!owner_gives_up_proof(&ground, error) && error != EWOULDBLOCK && error != ENOENT) {
            return error; /* or 0 */
        }
    }
    return EEXIST;
}

/* ---- Searching a directory ---- */

struct search {
    const struct os_file *directory;
    struct os_inode inode;
    struct owner_ground ground;
    char *name;
    int error;
};

static bool
visit_to_find(void *context, const char *text)
{
    struct search *search = context;
    struct owner_name name;
    /* Never by the number that the directory tells: overlay layers number apart. */
    if (!owner_parse(text, &name)) {
        return true;
    }
    search->error = owner_check(search->directory, text, search->inode);
    if (search->error == ENOENT) {
        return true;
    }
    if (search->error != 0) {
        return false; /* not seen is not foreign */
    }
    snprintf(search->name, OWNER_NAME_SIZE, "%s", text);
    return false;
}

int
owner_find(const struct os_file *directory, struct os_inode inode, char name[OWNER_NAME_SIZE])
{
    struct search search = {.directory = directory, .inode = inode, .name = name, .error = ENOENT};
    int error = os_list(directory, visit_to_find, &search);
    return error != 0 ? error : search.error;
}

static bool
visit_to_sweep(void *context, const char *text)
{
    struct search *search = context;
    owner_reap(search->directory, text, search->ground);
    return true;
}

void
owner_sweep(const struct os_file *directory, struct owner_ground ground)
{
    struct search search = {.directory = directory, .ground = ground};
    /* What cannot be listed is left for the next one to sweep. */
    os_list(directory, visit_to_sweep, &search);
}
