// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Bump allocation for one transaction, or for one load. Nothing is freed alone.
#include "waf/engine.h"

#include <setjmp.h>
#include <string.h>

struct waf_chunk;

struct waf_arena {
    char *at, *end;          // free room in the newest chunk
    struct waf_chunk *first; // oldest chunk; kept by waf_arena_reset
    struct waf_chunk *last;
    size_t total;  // bytes in all chunks
    size_t limit;  // total never grows past it
    jmp_buf *full; // taken when the limit is hit; NULL: abort
};

void waf_arena_init(struct waf_arena *a, size_t first_bytes, size_t limit);
void waf_arena_fini(struct waf_arena *a);
void waf_arena_reset(struct waf_arena *a);
void *waf_arena_more(struct waf_arena *a, size_t n);

/// What takes long at load time calls it now and then (waf_set_pace).
void waf_pace(void);

#if defined(__SANITIZE_ADDRESS__)
#define WAF_ARENA_APART 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WAF_ARENA_APART 1
#endif
#endif

/// 8-byte aligned, not cleared. Never NULL: see `full`. Under ASan each has a block of its own.
static inline void *waf_alloc(struct waf_arena *a, size_t n)
{
#ifdef WAF_ARENA_APART
    return waf_arena_more(a, n);
#endif
    n = (n + 7) & ~(size_t)7;
    if ((size_t)(a->end - a->at) >= n) {
        void *p = a->at;
        a->at += n;
        return p;
    }
    return waf_arena_more(a, n);
}

static inline void *waf_zalloc(struct waf_arena *a, size_t n)
{
    return memset(waf_alloc(a, n), 0, n);
}

struct waf_str waf_dup(struct waf_arena *a, struct waf_str s); ///< with a NUL after it
struct waf_str waf_printf(struct waf_arena *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define WAF_LIT(s) ((struct waf_str){"" s, sizeof(s) - 1})

static inline struct waf_str waf_cstr(const char *s)
{
    return (struct waf_str){s, strlen(s)};
}

static inline bool waf_eq(struct waf_str a, struct waf_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline unsigned char waf_lower(unsigned char c)
{
    return (unsigned char)(c - 'A') < 26 ? (unsigned char)(c + 32) : c;
}

static inline bool waf_ieq(struct waf_str a, struct waf_str b)
{
    if (a.n != b.n) {
        return false;
    }
    for (size_t i = 0; i < a.n; i++) {
        if (waf_lower((unsigned char)a.p[i]) != waf_lower((unsigned char)b.p[i])) {
            return false;
        }
    }
    return true;
}

static inline bool waf_is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool waf_is_digit(unsigned char c)
{
    return (unsigned char)(c - '0') < 10;
}

static inline bool waf_is_alpha(unsigned char c)
{
    return (unsigned char)((c | 32) - 'a') < 26;
}

static inline bool waf_is_alnum(unsigned char c)
{
    return waf_is_digit(c) || waf_is_alpha(c);
}

extern const signed char waf_hex_values[256];

/// Value of a hex digit, or -1.
static inline int waf_hex(unsigned char c)
{
    return waf_hex_values[c];
}

enum { WAF_DIGITS_MAX = 24 };
/// Decimal digits of `v`, at the end of `into`.
struct waf_str waf_format_long(char into[WAF_DIGITS_MAX], long v);

/// As C's atoi on a run of bytes: blanks, sign, digits; saturates.
long waf_to_long(struct waf_str s);

/// Offset of `needle` in `hay`, or -1.
ptrdiff_t waf_find(struct waf_str hay, struct waf_str needle);

static inline uint32_t waf_ihash(struct waf_str s)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < s.n; i++) {
        h = (h ^ waf_lower((unsigned char)s.p[i])) * 16777619u;
    }
    return h;
}
