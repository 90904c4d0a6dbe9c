/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Which byte may stand where (RFC 9110 §5.6.2, RFC 3986 §2), as one table, and searches for the
/// bytes that end a run, sixteen at a time where the machine can (SSE2 is part of every x86-64).

#include "base/macros.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum moon_char_class {
    MOON_CHAR_TOKEN = 1,      // tchar
    MOON_CHAR_UNRESERVED = 2, // ALPHA DIGIT - . _ ~
    MOON_CHAR_PATH = 4,       // pchar less '%': stands for itself in the normal form of a path
    MOON_CHAR_HEX = 8,
    MOON_CHAR_QUOTED = 16, // printable, no pchar: the normal form of a path escapes it
};

extern const uint8_t moon_char_classes[256];

static inline bool moon_char_is(char c, unsigned classes)
{
    return (moon_char_classes[(unsigned char)c] & classes) != 0;
}

/// @return 0 to 15, or -1
static inline int moon_char_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline bool moon_char_is_control(char c)
{
    return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7F;
}

/// First control byte but HTAB (so also the CR that ends a line); `end` when there is none.
static inline const char *moon_find_control(const char *at, const char *end)
{
#if defined(__SSE2__)
    const __m128i last = _mm_set1_epi8(0x1F), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7F);
    while (end - at >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, last), v);
        __m128i bad =
            _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), low), _mm_cmpeq_epi8(v, del));
        unsigned mask = (unsigned)_mm_movemask_epi8(bad);
        if (mask != 0) {
            return at + __builtin_ctz(mask);
        }
        at += 16;
    }
#endif
    while (at < end && !moon_char_is_control(*at)) {
        at++;
    }
    return at;
}

/// First byte that is no visible ASCII character (0x21 to 0x7E); `end` when there is none.
static inline const char *moon_find_invisible(const char *at, const char *end)
{
#if defined(__SSE2__)
    const __m128i space = _mm_set1_epi8(' '), del = _mm_set1_epi8(0x7F);
    while (end - at >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        // The comparison is signed: bytes from 0x80 on are below the space, too.
        __m128i good = _mm_andnot_si128(_mm_cmpeq_epi8(v, del), _mm_cmpgt_epi8(v, space));
        unsigned mask = (unsigned)_mm_movemask_epi8(good) ^ 0xFFFFU;
        if (mask != 0) {
            return at + __builtin_ctz(mask);
        }
        at += 16;
    }
#endif
    while (at<end && * at> ' ' && *at < 0x7F) {
        at++;
    }
    return at;
}

/// First byte that is no tchar; `end` when there is none. Field names are letters, digits and
/// hyphens but for rare ones, which the table takes over.
static inline const char *moon_find_no_token(const char *at, const char *end)
{
#if defined(__SSE2__)
    const __m128i fold = _mm_set1_epi8(0x20), a = _mm_set1_epi8('a'), z = _mm_set1_epi8('z' - 'a');
    const __m128i zero = _mm_set1_epi8('0'), nine = _mm_set1_epi8(9), hyphen = _mm_set1_epi8('-');
    while (end - at >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i letter = _mm_sub_epi8(_mm_or_si128(v, fold), a);
        __m128i digit = _mm_sub_epi8(v, zero);
        __m128i good = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(letter, z), letter),
                                    _mm_cmpeq_epi8(_mm_min_epu8(digit, nine), digit));
        good = _mm_or_si128(good, _mm_cmpeq_epi8(v, hyphen));
        unsigned mask = (unsigned)_mm_movemask_epi8(good) ^ 0xFFFFU;
        if (mask == 0) {
            at += 16;
            continue;
        }
        at += __builtin_ctz(mask);
        if (!moon_char_is(*at, MOON_CHAR_TOKEN)) {
            return at;
        }
        at++;
    }
#endif
    while (at < end && moon_char_is(*at, MOON_CHAR_TOKEN)) {
        at++;
    }
    return at;
}
