// SPDX-License-Identifier: Apache-2.0
#pragma once
/// SecLang transformations: pure functions over bytes.
#include "waf/arena.h"

struct waf_unicode_map; // code point -> byte, of SecUnicodeMapFile

/// Fills `out` and returns true when the value changes; else leaves `out` alone.
typedef bool (*waf_transform_fn)(struct waf_arena *a, struct waf_str in, struct waf_str *out);

// A byte that gives a value one of these marks is needed for the transformation to do anything.
enum waf_mark {
    WAF_MARK_PERCENT = 1 << 0,
    WAF_MARK_PLUS = 1 << 1,
    WAF_MARK_AMP = 1 << 2,
    WAF_MARK_BACKSLASH = 1 << 3,
    WAF_MARK_NUL = 1 << 4,
    WAF_MARK_HIGH = 1 << 5,  // >= 0x80
    WAF_MARK_UPPER = 1 << 6, // A-Z
    WAF_MARK_SPACE = 1 << 7, // isspace
    WAF_MARK_NBSP = 1 << 8,  // 0xa0
    WAF_MARK_SLASH = 1 << 9,
    WAF_MARK_QUOTE = 1 << 10, // " ' ^ , ;
    WAF_MARK_DASH = 1 << 11,
    WAF_MARK_HASH = 1 << 12,
    WAF_MARK_STAR = 1 << 13,
    WAF_MARK_LOWER = 1 << 14,
    WAF_MARK_DOT = 1 << 15,
    WAF_MARK_X = 1 << 16,      // x X
    WAF_MARK_ALWAYS = 1 << 30, // no byte is needed
};

struct waf_transform {
    const char *name; // as in rules, any case
    waf_transform_fn fn;
    unsigned marks;
    bool keeps_case_folded; // output equals input but for the case of letters
};

/// NULL if there is none of that name.
const struct waf_transform *waf_transform_find(struct waf_str name);
size_t waf_transform_count(void);
const struct waf_transform *waf_transform_at(size_t i);

/// Marks of one byte (WAF_MARK_ALWAYS never among them).
unsigned waf_marks_of(unsigned char c);

/// Set before the transformations of a transaction run; NULL: low byte of the code point.
void waf_transform_use_map(const unsigned char *map_65536);
