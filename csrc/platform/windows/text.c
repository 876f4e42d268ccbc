/* Text, and how names and paths are spelt. */
#include "platform/windows/nt.h"

#include <errno.h>
#include <string.h>

#define LONGEST_NAME 255

/* ---- UTF-8 and UTF-16 ---- */

/* Reads one code point; a byte that is none of UTF-8's stands for itself. */
static uint32_t
read_code(const unsigned char **text)
{
    static const struct {
        unsigned char mask, lead;
        unsigned more;
    } kinds[] = {{0xE0, 0xC0, 1}, {0xF0, 0xE0, 2}, {0xF8, 0xF0, 3}};
    const unsigned char *at = *text;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if ((*at & kinds[i].mask) == kinds[i].lead) {
            uint32_t code = *at & (unsigned char)~kinds[i].mask;
            unsigned read = 0;
            while (read < kinds[i].more && (at[read + 1] & 0xC0) == 0x80) {
                code = code << 6 | (at[++read] & 0x3F);
            }
            if (read == kinds[i].more) {
                *text += read + 1;
                return code;
            }
        }
    }
    *text += 1;
    return *at;
}

bool
nt_widen(const char *text, wchar_t *wide, size_t size, size_t *length)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t count = 0;
    while (*at != '\0') {
        uint32_t code = read_code(&at);
        if (count + 2 >= size) {
            return false;
        }
        if (code >= 0x10000) {
            wide[count++] = (wchar_t)(0xD800 + ((code - 0x10000) >> 10));
            code = 0xDC00 + ((code - 0x10000) & 0x3FF);
        }
        wide[count++] = (wchar_t)code;
    }
    wide[count] = L'\0';
    *length = count;
    return true;
}

static size_t
write_code(uint32_t code, unsigned char bytes[4])
{
    if (code < 0x80) {
        bytes[0] = (unsigned char)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = size - 1; i > 0; i--) {
        bytes[i] = (unsigned char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    bytes[0] = (unsigned char)(leads[size] | code);
    return size;
}

bool
nt_narrow(const wchar_t *wide, size_t length, char *text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char bytes[4];
        uint32_t code = (uint16_t)wide[i];
        bool paired = (code & 0xFC00) == 0xD800 && i + 1 < length &&
                      ((uint16_t)wide[i + 1] & 0xFC00) == 0xDC00;
        if (paired) {
            code = 0x10000 + ((code & 0x3FF) << 10) + ((uint16_t)wide[++i] & 0x3FF);
        }
        size_t more = write_code(code, bytes);
        if (used + more >= size) {
            return false;
        }
        memcpy(text + used, bytes, more);
        used += more;
    }
    text[used] = '\0';
    return true;
}

/* ---- Names ---- */

/* What the system calls would make, but the Windows API not find: no other program could. */
int
nt_name(const char *name, struct nt_path *path)
{
    if (!nt_widen(name, path->text, NT_PATH_SIZE, &path->length) || path->length > LONGEST_NAME) {
        return ENAMETOOLONG;
    }
    for (size_t i = 0; i < path->length; i++) {
        if (path->text[i] < L' ' || wcschr(L"<>:\"/\\|?*", path->text[i]) != NULL) {
            return EINVAL;
        }
    }
    bool odd = path->length == 0 || path->text[path->length - 1] == L'.' ||
               path->text[path->length - 1] == L' ';
    return odd ? EINVAL : 0;
}

/* \\?\ and \\.\ say that there is nothing more to spell out. */
static bool
is_raw(const char *path)
{
    return (path[0] == '\\' || path[0] == '/') && (path[1] == '\\' || path[1] == '/') &&
           (path[2] == '?' || path[2] == '.') && (path[3] == '\\' || path[3] == '/');
}

static bool
is_drive(const char *path)
{
    return ((path[0] | 0x20) >= 'a' && (path[0] | 0x20) <= 'z') && path[1] == ':' &&
           os_is_separator(path[2]);
}

int
nt_absolute(const char *path, struct nt_path *spelt)
{
    const wchar_t *before;
    if (is_raw(path)) {
        before = L"\\??\\";
        path += 4;
    } else if (os_is_separator(path[0]) && os_is_separator(path[1])) {
        before = L"\\??\\UNC\\";
        path += 2;
    } else if (is_drive(path)) {
        before = L"\\??\\";
    } else {
        return EINVAL;
    }
    size_t length = wcslen(before);
    memcpy(spelt->text, before, (length + 1) * sizeof(wchar_t));
    if (!nt_widen(path, spelt->text + length, NT_PATH_SIZE - length, &spelt->length)) {
        return ENAMETOOLONG;
    }
    spelt->length += length;
    size_t part = 0; /* since the last separator */
    for (size_t i = length; i < spelt->length; i++) {
        spelt->text[i] = spelt->text[i] == L'/' ? L'\\' : spelt->text[i];
        part = spelt->text[i] == L'\\' ? 0 : part + 1;
        if (part > LONGEST_NAME) {
            return ENAMETOOLONG; /* the system would only say that it is not there */
        }
    }
    return 0;
}

/* ---- Paths ---- */

/* A thread's number; the system's own threads have the lowest ones. */
const uint64_t os_lowest_thread = 4;
const char os_separator = '\\';

bool
os_is_separator(char character)
{
    return character == '\\' || character == '/';
}

const char *
os_last_name(const char *path)
{
    const char *name = path;
    for (const char *at = path; *at != '\0'; at++) {
        name = os_is_separator(*at) ? at + 1 : name;
    }
    return name;
}

bool
os_is_absolute(const char *path)
{
    return is_drive(path) || (os_is_separator(path[0]) && os_is_separator(path[1]));
}

void
os_fold_name(char *name, size_t size)
{
    struct nt_path wide;
    if (nt_widen(name, wide.text, NT_PATH_SIZE, &wide.length)) {
        CharUpperBuffW(wide.text, (DWORD)wide.length);
        nt_narrow(wide.text, wide.length, name, size); /* without room, it stays as it is */
    }
}

/* Letters and separators in one spelling. */
static bool
spell_alike(const char *path, struct nt_path *wide)
{
    if (!nt_widen(path, wide->text, NT_PATH_SIZE, &wide->length)) {
        return false;
    }
    CharUpperBuffW(wide->text, (DWORD)wide->length);
    for (size_t i = 0; i < wide->length; i++) {
        wide->text[i] = wide->text[i] == L'/' ? L'\\' : wide->text[i];
    }
    return true;
}

bool
os_is_in(const char *path, const char *around)
{
    struct nt_path inner, outer;
    if (!spell_alike(path, &inner) || !spell_alike(around, &outer) ||
        wcsncmp(inner.text, outer.text, outer.length) != 0) {
        return false;
    }
    return inner.text[outer.length] == L'\0' || inner.text[outer.length] == L'\\';
}

bool
os_same_name(const char *one, const char *other)
{
    wchar_t wide_one[NT_NAME_SIZE], wide_other[NT_NAME_SIZE];
    size_t one_length, other_length;
    if (strcmp(one, other) == 0) {
        return true;
    }
    return nt_widen(one, wide_one, NT_NAME_SIZE, &one_length) &&
           nt_widen(other, wide_other, NT_NAME_SIZE, &other_length) &&
           CompareStringOrdinal(wide_one, (int)one_length, wide_other, (int)other_length, TRUE) ==
               CSTR_EQUAL;
}
