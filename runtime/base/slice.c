/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slice.h"

#include <endian.h>

bool moon_slice_is_nocase(struct moon_slice a, struct moon_slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (a.data[i] != b.data[i] && moon_lower(a.data[i]) != moon_lower(b.data[i]))
            return false;
    }
    return true;
}

bool moon_slice_starts(struct moon_slice s, struct moon_slice prefix)
{
    return s.len >= prefix.len && moon_slice_is(moon_slice(s.data, prefix.len), prefix);
}

bool moon_slice_starts_nocase(struct moon_slice s, struct moon_slice prefix)
{
    return s.len >= prefix.len && moon_slice_is_nocase(moon_slice(s.data, prefix.len), prefix);
}

bool moon_slice_ends(struct moon_slice s, struct moon_slice suffix)
{
    return s.len >= suffix.len &&
           moon_slice_is(moon_slice(s.data + (s.len - suffix.len), suffix.len), suffix);
}

size_t moon_slice_find(struct moon_slice s, char c)
{
    const char *at = s.len == 0 ? NULL : memchr(s.data, c, s.len);
    return at == NULL ? s.len : (size_t)(at - s.data);
}

struct moon_slice moon_slice_trim(struct moon_slice s)
{
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool moon_slice_number(struct moon_slice s, int64_t *out)
{
    int64_t value = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return false;
        int digit = s.data[i] - '0';
        if (value > (INT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

struct moon_slice moon_slice_of_number(char into[MOON_NUMBER_TEXT_BYTES], int64_t value)
{
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    size_t at = MOON_NUMBER_TEXT_BYTES;
    do {
        into[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (value < 0)
        into[--at] = '-';
    return moon_slice(into + at, MOON_NUMBER_TEXT_BYTES - at);
}

// Eight digits at once: a byte for each nibble, the last one in the lowest byte.
static uint64_t hex_of_half(uint32_t value)
{
    uint64_t x = value;
    x = (x | x << 16) & UINT64_C(0x0000ffff0000ffff);
    x = (x | x << 8) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x | x << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    uint64_t is_letter = (x + UINT64_C(0x0606060606060606)) >> 4 & UINT64_C(0x0101010101010101);
    return x + UINT64_C(0x3030303030303030) + is_letter * ('a' - '0' - 10);
}

void moon_hex_of_number(char into[16], uint64_t value)
{
    uint64_t halves[2] = {htobe64(hex_of_half((uint32_t)(value >> 32))),
                          htobe64(hex_of_half((uint32_t)value))};
    memcpy(into, halves, sizeof(halves));
}

// Length of the element that starts at s.data: up to a comma outside a quoted string.
static size_t slice_element_length(struct moon_slice s)
{
    bool is_quoted = false;
    for (size_t i = 0; i < s.len; i++) {
        if (is_quoted && s.data[i] == '\\')
            i++;
        else if (s.data[i] == '"')
            is_quoted = !is_quoted;
        else if (s.data[i] == ',' && !is_quoted)
            return i;
    }
    return s.len;
}

bool moon_slice_next_element(struct moon_slice *list, struct moon_slice *element)
{
    while (list->len > 0) {
        size_t n = slice_element_length(*list);
        struct moon_slice found = moon_slice_trim(moon_slice(list->data, n));
        *list = moon_slice_from(*list, n < list->len ? n + 1 : n);
        if (found.len > 0) {
            *element = found;
            return true;
        }
    }
    return false;
}

bool moon_slice_has_token(struct moon_slice list, struct moon_slice token)
{
    struct moon_slice element;
    while (moon_slice_next_element(&list, &element)) {
        if (moon_slice_is_nocase(element, token))
            return true;
    }
    return false;
}

bool moon_slice_is_constant_time(struct moon_slice a, struct moon_slice b)
{
    if (a.len != b.len)
        return false;
    unsigned char differs = 0;
    for (size_t i = 0; i < a.len; i++)
        differs = (unsigned char)(differs | (a.data[i] ^ b.data[i]));
    return differs == 0;
}

bool moon_slice_copy_text(struct moon_slice s, char *into, size_t cap)
{
    MOON_ASSERT(cap > 0);
    into[0] = '\0';
    if (s.len >= cap || (s.len > 0 && memchr(s.data, '\0', s.len) != NULL))
        return false;
    if (s.len > 0)
        memcpy(into, s.data, s.len);
    into[s.len] = '\0';
    return true;
}
