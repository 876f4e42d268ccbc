#include "core/name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KERNEL_DIGITS 16
#define NUMBER_DIGITS 10

void
name_format(char text[NAME_SIZE], const char *host, uint64_t thread, int process, uint64_t kernel,
            uint64_t number)
{
    char thread_digits[20] = "", suffix_kernel[20] = "", suffix_number[24] = "";
    if (thread != 0) {
        snprintf(thread_digits, sizeof thread_digits, "%" PRIx64, thread);
    }
    if (kernel != 0) {
        snprintf(suffix_kernel, sizeof suffix_kernel, ".%016" PRIx64, kernel);
    }
    if (number != 0) {
        snprintf(suffix_number, sizeof suffix_number, ".%" PRIu64, number);
    }
    snprintf(text, NAME_SIZE, "%.*s-%s-%d%s%s", OS_HOST_SIZE - 1, host, thread_digits, process,
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
name_parse(const char *text, struct name *name)
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
    if (count > 0 && *end == '0') {
        return false;
    }
    if (!step_back(text, &end, '-') || end == text || end - text >= OS_HOST_SIZE) {
        return false;
    }
    memcpy(name->host, text, (size_t)(end - text));
    name->host[end - text] = '\0';
    return true;
}

bool
name_parse_process(const char *text, int64_t *process)
{
    static const char blanks[] = " \t\r\f\v";
    int64_t number = 0;
    text += strspn(text, blanks);
    bool negative = *text == '-';
    text += *text == '-' || *text == '+';
    const char *digit = text;
    while (*digit >= '0' && *digit <= '9' && number < INT64_MAX / 10) {
        number = 10 * number + (*digit++ - '0');
    }
    const char *rest = digit + strspn(digit, blanks);
    *process = negative ? -number : number;
    return digit > text && (*rest == '\0' || *rest == '\n');
}
