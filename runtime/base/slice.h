/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Working with borrowed bytes: comparing, searching, trimming, reading numbers. Nothing here
/// allocates, and nothing depends on the locale.

#include "base/macros.h"

#include <string.h>

#define MOON_S(literal) ((struct moon_slice){(literal), sizeof(literal) - 1})
#define MOON_SLICE_FMT "%.*s"
#define MOON_SLICE_ARG(s) (int)(s).len, (s).data

static inline struct moon_slice moon_slice(const char *data, size_t len)
{
    return (struct moon_slice){data, len};
}

/// @param text  NUL-terminated, or NULL for the empty slice
static inline struct moon_slice moon_slice_text(const char *text)
{
    return (struct moon_slice){text, text == NULL ? 0 : strlen(text)};
}

static inline bool moon_slice_is(struct moon_slice a, struct moon_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline char moon_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

/// The part of `s` from `from` on; empty when `from` is past the end.
static inline struct moon_slice moon_slice_from(struct moon_slice s, size_t from)
{
    return from >= s.len ? moon_slice(s.data, 0) : moon_slice(s.data + from, s.len - from);
}

/// ASCII case folded on both sides (RFC 9110 §5.1: field names).
bool moon_slice_is_nocase(struct moon_slice a, struct moon_slice b);
bool moon_slice_starts(struct moon_slice s, struct moon_slice prefix);
bool moon_slice_starts_nocase(struct moon_slice s, struct moon_slice prefix);
bool moon_slice_ends(struct moon_slice s, struct moon_slice suffix);

/// @return index of the first `c`, or `s.len`
size_t moon_slice_find(struct moon_slice s, char c);

/// Cuts spaces and tabs (OWS, RFC 9110 §5.6.3) from both ends.
struct moon_slice moon_slice_trim(struct moon_slice s);

/// Reads a whole slice of decimal digits. @return false when empty, not all digits, or > INT64_MAX
MUST_CHECK bool moon_slice_number(struct moon_slice s, int64_t *out);

enum { MOON_NUMBER_TEXT_BYTES = 20 }; // INT64_MIN's digits and sign

/// Writes a number in decimal. @return the part of `into` that holds it; no NUL
struct moon_slice moon_slice_of_number(char into[MOON_NUMBER_TEXT_BYTES], int64_t value);

/// Writes a number as sixteen hexadecimal digits, lower case; no NUL.
void moon_hex_of_number(char into[16], uint64_t value);

/// Takes the next element of a comma-separated list, trimmed, skipping empty ones; quoted strings
/// are kept whole (RFC 9110 §5.6.1). @return false when there is none left
bool moon_slice_next_element(struct moon_slice *list, struct moon_slice *element);

/// True when the comma-separated `list` holds `token`, compared without case.
bool moon_slice_has_token(struct moon_slice list, struct moon_slice token);

/// Bytes compared in a time that depends on the lengths only.
bool moon_slice_is_constant_time(struct moon_slice a, struct moon_slice b);

/// Copies into `into` (cap bytes) and NUL-terminates. @return false (and an empty string) when it
/// does not fit or holds a NUL
MUST_CHECK bool moon_slice_copy_text(struct moon_slice s, char *into, size_t cap);
