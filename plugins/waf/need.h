// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a value must contain for an operator to be able to match it.
///
/// A need is an OR of cases; a case is an AND of clauses and a least length; a clause is an OR of
/// literals or a set of bytes of which one must occur. All of it ignores the case of ASCII
/// letters. Where the analysis is not sure it asks for less: a need may let through too much, it
/// never holds back a match.
#include "waf/arena.h"

struct waf_clause {
    bool is_bytes;
    uint64_t bytes[4];     // is_bytes: the set
    struct waf_str *texts; // else: lower case, none empty
    unsigned n;
};

struct waf_case {
    size_t least; // bytes
    struct waf_clause *clauses;
    unsigned n;
};

struct waf_need {
    struct waf_case *cases;
    unsigned n; // 0: nothing can match
};

/// Reads a PCRE pattern. Arena: the result lives as long as `a`.
struct waf_need waf_need_of_pattern(struct waf_arena *a, struct waf_str pattern);
/// One of these texts must occur.
struct waf_need waf_need_of_texts(struct waf_arena *a, const struct waf_str *texts, unsigned n);
/// A byte of this set must occur.
struct waf_need waf_need_of_bytes(struct waf_arena *a, const uint64_t bytes[4]);
/// Nothing in particular: at least `least` bytes.
struct waf_need waf_need_any(struct waf_arena *a, size_t least);

static inline void waf_set_add(uint64_t *set, unsigned char c)
{
    set[c >> 6] |= (uint64_t)1 << (c & 63);
}

static inline bool waf_set_has(const uint64_t *set, unsigned char c)
{
    return (set[c >> 6] >> (c & 63) & 1) != 0;
}
