/* The parser of unique names, fed with anything.
 *
 * What is parsed and formatted again is what was read, what is formatted parses to what
 * was meant, and no byte before or behind the name is looked at: it lies in a block of
 * just its size, between an address sanitizer's red zones.
 *
 * With libFuzzer, or with a main() that makes names at random:
 *
 *     fuzz_names SECONDS SEED */
#include "core/name.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
demand(bool condition, const char *what, const char *name)
{
    if (!condition) {
        fprintf(stderr, "%s: '%s'\n", what, name);
        abort();
    }
}

/* A copy in a block of its size. */
static char *
copy(const void *data, size_t size)
{
    const void *end = size > 0 ? memchr(data, '\0', size) : NULL;
    size_t length = end != NULL ? (size_t)((const char *)end - (const char *)data) : size;
    char *text = malloc(length + 1);
    if (text == NULL) {
        abort();
    }
    if (length > 0) {
        memcpy(text, data, length);
    }
    text[length] = '\0';
    return text;
}

/* What follows a name without .N: nothing, or a number as it is written. */
static bool
is_number_suffix(const char *text)
{
    size_t digits = strlen(text) - (*text != '\0');
    return *text == '\0' || (*text == '.' && text[1] != '0' && digits >= 1 && digits <= 10 &&
                             strspn(text + 1, "0123456789") == digits);
}

static void
read_and_format(const char *text)
{
    struct name name;
    char formatted[NAME_SIZE];
    if (!name_parse(text, &name)) {
        return;
    }
    name_format(formatted, name.host, name.thread, name.process, name.kernel, 0);
    size_t length = strlen(formatted);
    demand(strncmp(text, formatted, length) == 0 && is_number_suffix(text + length),
           "read, but formatted otherwise", text);
}

/* The next value of the input, which is as good as endless. */
static uint64_t
take(const uint8_t **data, size_t *size)
{
    uint64_t value = 0;
    size_t taken = *size < sizeof value ? *size : sizeof value;
    if (taken > 0) {
        memcpy(&value, *data, taken);
    }
    *data += taken;
    *size -= taken;
    return value;
}

/* .N is at most what a claim tries last: 32 random bits and a little. */
static void
format_and_read(const uint8_t *data, size_t size)
{
    uint64_t thread = take(&data, &size), kernel = take(&data, &size);
    uint64_t number = take(&data, &size) % ((UINT64_C(1) << 32) + 4);
    int process = (int)(take(&data, &size) % INT32_MAX) + 1;
    char formatted[NAME_SIZE];
    struct name name;
    char *host = copy(data, size < OS_HOST_SIZE - 1 ? size : OS_HOST_SIZE - 1);
    if (host[0] != '\0') { /* no host is without a name */
        name_format(formatted, host, thread, process, kernel, number);
        char *text = copy(formatted, strlen(formatted));
        demand(name_parse(text, &name), "formatted, but not read", text);
        demand(strcmp(name.host, host) == 0 && name.thread == thread && name.process == process &&
                   name.kernel == kernel,
               "formatted, but read otherwise", text);
        free(text);
    }
    free(host);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = copy(data, size);
    read_and_format(text);
    free(text);
    format_and_read(data, size);
    return 0;
}

#ifndef WITH_LIBFUZZER

static uint64_t random_state;

static size_t
below(size_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)(random_state >> 33) % limit;
}

/* Names nearly right: runs of digits of one kind, and what separates them. */
static size_t
make_name(uint8_t name[64])
{
    static const char *const kinds[] = {"0", "123456789", "0123456789abcdef", "xyzXF/\xff"};
    size_t size = 0, length = below(64);
    while (size < length) {
        const char *kind = kinds[below(4)];
        for (size_t run = below(18); run > 0 && size < length; run--) {
            name[size++] = (uint8_t)kind[below(strlen(kind))];
        }
        if (size < length) {
            name[size++] = below(2) == 0 ? '-' : '.';
        }
    }
    return size;
}

int
main(int argc, char **argv)
{
    uint8_t name[64];
    unsigned long cases = 0;
    clock_t end = clock() + (clock_t)(atof(argc > 1 ? argv[1] : "10") * CLOCKS_PER_SEC);
    random_state = strtoull(argc > 2 ? argv[2] : "1", NULL, 10);
    for (; clock() < end; cases++) {
        LLVMFuzzerTestOneInput(name, make_name(name));
    }
    printf("%lu cases\n", cases);
    return 0;
}

#endif
