#include "mechanisms/files/contents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char lock_file_prefix[] = "lock file: ";

/* ENOENT: it is no text. */
static int
read_text(const struct os_file *file, char text[CONTENTS_SIZE])
{
    size_t length;
    int error = os_read(file, text, CONTENTS_SIZE - 1, &length);
    text[length] = '\0';
    return error == 0 && strlen(text) != length ? ENOENT : error;
}

/* ---- A process ---- */

int
contents_read_process(const struct os_file *file, int64_t *process)
{
    char text[CONTENTS_SIZE];
    int error = read_text(file, text);
    return error == 0 && !name_parse_process(text, process) ? ENOENT : error;
}

static int
format_process(char text[CONTENTS_SIZE], int process)
{
    return snprintf(text, CONTENTS_SIZE, "%d\n", process);
}

int
contents_write_process(const struct os_file *file)
{
    char text[CONTENTS_SIZE];
    int length = format_process(text, os_process());
    return os_write_at(file, 0, text, (size_t)length);
}

/* By one write that makes it neither longer nor shorter: empty lines behind the first are added
 * before, and stay. */
int
contents_replace_process(const struct os_file *file)
{
    char text[CONTENTS_SIZE];
    struct os_status status;
    int error = os_status(file, &status);
    if (error != 0 || status.size >= CONTENTS_SIZE) {
        return error != 0 ? error : EINVAL;
    }
    size_t size = (size_t)status.size;
    size_t length = (size_t)format_process(text, os_process());
    memset(text + length, '\n', CONTENTS_SIZE - length);
    if (size < length) {
        error = os_write_at(file, size, text + length, length - size);
    }
    return error == 0 ? os_write_at(file, 0, text, length > size ? length : size) : error;
}

bool
contents_are_process(const struct os_file *file, const char *unique_name)
{
    char text[CONTENTS_SIZE], expected[CONTENTS_SIZE];
    struct name name;
    if (!proof_read_name(unique_name, &name) || name.thread != 0) {
        return false;
    }
    size_t length = (size_t)format_process(expected, name.process);
    return read_text(file, text) == 0 && strncmp(text, expected, length) == 0 &&
           text[length + strspn(text + length, "\n")] == '\0';
}

/* ---- A lock file ---- */

bool
contents_read_lock_file(const struct os_file *file, char name[CONTENTS_SIZE])
{
    char text[CONTENTS_SIZE];
    size_t before = sizeof lock_file_prefix - 1;
    if (read_text(file, text) != 0 || strncmp(text, lock_file_prefix, before) != 0) {
        return false;
    }
    size_t length = strlen(text + before);
    if (length < 2 || text[before + length - 1] != '\n') {
        return false;
    }
    memcpy(name, text + before, length - 1);
    name[length - 1] = '\0';
    return true;
}

int
contents_write_lock_file(const struct os_file *file, const char *name)
{
    char text[CONTENTS_SIZE];
    int length = snprintf(text, sizeof text, "%s%s\n", lock_file_prefix, name);
    return (size_t)length < sizeof text ? os_write_at(file, 0, text, (size_t)length) : ENAMETOOLONG;
}
