/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

static bool utf8_is_tail(unsigned char c)
{
    return (c & 0xC0) == 0x80;
}

size_t moon_utf8_length(const char *at, size_t left)
{
    const unsigned char *s = (const unsigned char *)at;
    if (left == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4)
        return 0;
    if (s[0] < 0xE0)
        return left >= 2 && utf8_is_tail(s[1]) ? 2 : 0;
    if (s[0] < 0xF0) {
        if (left < 3 || !utf8_is_tail(s[1]) || !utf8_is_tail(s[2]))
            return 0;
        bool is_overlong = s[0] == 0xE0 && s[1] < 0xA0;
        bool is_surrogate = s[0] == 0xED && s[1] > 0x9F;
        return is_overlong || is_surrogate ? 0 : 3;
    }
    if (left < 4 || !utf8_is_tail(s[1]) || !utf8_is_tail(s[2]) || !utf8_is_tail(s[3]))
        return 0;
    bool is_overlong = s[0] == 0xF0 && s[1] < 0x90;
    bool is_past_end = s[0] == 0xF4 && s[1] > 0x8F;
    return is_overlong || is_past_end ? 0 : 4;
}

bool moon_utf8_is_valid(struct moon_slice s)
{
    size_t at = 0;
    while (at < s.len) {
        size_t n = moon_utf8_length(s.data + at, s.len - at);
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

size_t moon_utf8_encode(uint32_t code, char into[4])
{
    if (code < 0x80) {
        into[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        into[0] = (char)(0xC0 | (code >> 6));
        into[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    if (code < 0x10000) {
        into[0] = (char)(0xE0 | (code >> 12));
        into[1] = (char)(0x80 | ((code >> 6) & 0x3F));
        into[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    into[0] = (char)(0xF0 | (code >> 18));
    into[1] = (char)(0x80 | ((code >> 12) & 0x3F));
    into[2] = (char)(0x80 | ((code >> 6) & 0x3F));
    into[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}
