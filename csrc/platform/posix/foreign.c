/* Descriptors of other libraries. */
#define _XOPEN_SOURCE 700
#include "platform/system.h"

#include "platform/posix/forks.h"
#include "platform/posix/register.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* How many descriptors are tried where the system does not list those that are open. */
#define UNTOLD_NUMBERS 1024

struct number_search {
    struct os_inode inode;
    int access;
    struct os_numbers *numbers;
    int reader; /* of the list of descriptors */
    bool reader_is_listed;
    bool full;
};

static void
note_number(struct number_search *search, int descriptor)
{
    struct os_numbers *numbers = search->numbers;
    struct os_status found;
    if (os_status(&(struct os_file){.descriptor = descriptor}, &found) != 0 ||
        !os_same(found.inode, search->inode) ||
        (fcntl(descriptor, F_GETFL) & O_ACCMODE) != search->access) {
        return;
    }
    search->full = numbers->count == OS_NUMBERS;
    if (!search->full) {
        numbers->each[numbers->count++] = descriptor;
    }
}

static bool
visit_number(void *context, const char *text)
{
    struct number_search *search = context;
    char *end;
    long descriptor = strtol(text, &end, 10);
    if (end != text) {
        search->reader_is_listed |= descriptor == search->reader;
        note_number(search, (int)descriptor);
    }
    return !search->full;
}

int
os_find_numbers(struct os_inode inode, enum os_access access, struct os_numbers *numbers)
{
    struct number_search search = {
        .inode = inode, .access = access == OS_WRITE ? O_RDWR : O_RDONLY, .numbers = numbers};
    struct os_file descriptors;
    numbers->count = 0;
    int error = os_open_directory(SYSTEM_DESCRIPTORS, &descriptors);
    if (error == 0) {
        search.reader = descriptors.descriptor;
        error = os_list(&descriptors, visit_number, &search);
        os_close(&descriptors);
    }
    /* Some have no such list, and some list three alone: then numbers are tried. */
    bool untold = error == 0 && !search.full && !search.reader_is_listed;
    if (error == ENOENT || untold) {
        error = 0;
        numbers->count = 0;
        for (int number = 0; number < UNTOLD_NUMBERS; number++) {
            note_number(&search, number);
        }
    }
    return error == 0 && search.full ? EMFILE : error;
}

int
os_adopt(int descriptor, struct os_file *file)
{
    struct os_status found;
    posix_hold_off_forks();
    int error = os_status(&(struct os_file){.descriptor = descriptor}, &found);
    if (error == 0) {
        error = posix_enter(descriptor, file);
    }
    posix_allow_forks();
    if (error == 0) {
        file->inode = found.inode;
    }
    return error;
}

void
os_disown(struct os_file *file)
{
    posix_forget(file);
    file->descriptor = -1;
}

int
os_read_at(const struct os_file *file, uint64_t offset, void *buffer, size_t size)
{
    ssize_t length;
    do {
        length = pread(file->descriptor, buffer, size, (off_t)offset);
    } while (length < 0 && errno == EINTR);
    return length < 0 ? errno : (size_t)length < size ? EIO : 0;
}
