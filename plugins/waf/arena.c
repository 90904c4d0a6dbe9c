// SPDX-License-Identifier: Apache-2.0
#include "waf/arena.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NO16 -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1
#define AF16 -1, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1
const signed char waf_hex_values[256] = {
    NO16, NO16, NO16, 0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    -1,   -1,  -1,
    -1,   -1,   -1,   AF16, NO16, AF16, NO16, NO16, NO16, NO16, NO16, NO16, NO16, NO16, NO16};

struct waf_chunk {
    struct waf_chunk *next;
    size_t size; // bytes after this head
};

enum { CHUNK_MIN = 32 * 1024 };

static void arena_full(struct waf_arena *a)
{
    if (a->full != NULL) {
        longjmp(*a->full, 1);
    }
    abort();
}

static struct waf_chunk *chunk_new(struct waf_arena *a, size_t size)
{
    struct waf_chunk *c = a->total + size > a->limit ? NULL : malloc(sizeof *c + size);
    if (c == NULL) {
        arena_full(a);
    }
    c->next = NULL;
    c->size = size;
    a->total += size;
    return c;
}

static void arena_use(struct waf_arena *a, struct waf_chunk *c)
{
    a->at = (char *)(c + 1);
    a->end = a->at + c->size;
}

void waf_arena_init(struct waf_arena *a, size_t first_bytes, size_t limit)
{
    *a = (struct waf_arena){.limit = limit};
    a->first = a->last = chunk_new(a, first_bytes);
    arena_use(a, a->first);
}

static void free_after(struct waf_chunk *c)
{
    struct waf_chunk *next;
    for (; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
}

void waf_arena_fini(struct waf_arena *a)
{
    free_after(a->first);
    *a = (struct waf_arena){0};
}

void waf_arena_reset(struct waf_arena *a)
{
    free_after(a->first->next);
    a->first->next = NULL;
    a->last = a->first;
    a->total = a->first->size;
    arena_use(a, a->first);
}

void *waf_arena_more(struct waf_arena *a, size_t n)
{
#ifdef WAF_ARENA_APART
    struct waf_chunk *own = chunk_new(a, n);
    own->next = a->first->next;
    a->first->next = own;
    return own + 1;
#endif
    size_t size = a->last->size * 2 < 1024 * 1024 ? a->last->size * 2 : 1024 * 1024;
    size = size < CHUNK_MIN ? CHUNK_MIN : size;
    if (size < n) {
        size = n;
    }
    if (a->total + size > a->limit) {
        size = n;
    }
    struct waf_chunk *c = chunk_new(a, size);
    if (n > CHUNK_MIN && (size_t)(a->end - a->at) > c->size - n) {
        // A block of its own: the room left in the current chunk stays the better one.
        c->next = a->first->next;
        a->first->next = c;
        if (a->last == a->first) {
            a->last = c;
        }
        return c + 1;
    }
    a->last->next = c;
    a->last = c;
    arena_use(a, c);
    return waf_alloc(a, n);
}

struct waf_str waf_dup(struct waf_arena *a, struct waf_str s)
{
    char *p = waf_alloc(a, s.n + 1);
    if (s.n != 0) {
        memcpy(p, s.p, s.n);
    }
    p[s.n] = '\0';
    return (struct waf_str){p, s.n};
}

struct waf_str waf_printf(struct waf_arena *a, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        n = 0;
    }
    char *p = waf_alloc(a, (size_t)n + 1);
    p[0] = '\0';
    (void)vsnprintf(p, (size_t)n + 1, format, again);
    va_end(again);
    return (struct waf_str){p, (size_t)n};
}

struct waf_str waf_format_long(char into[WAF_DIGITS_MAX], long v)
{
    char *end = into + WAF_DIGITS_MAX, *p = end;
    unsigned long rest = v < 0 ? 0ul - (unsigned long)v : (unsigned long)v;
    do {
        *--p = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (v < 0) {
        *--p = '-';
    }
    return (struct waf_str){p, (size_t)(end - p)};
}

long waf_to_long(struct waf_str s)
{
    size_t i = 0;
    bool negative = false;
    while (i < s.n && waf_is_space((unsigned char)s.p[i])) {
        i++;
    }
    if (i < s.n && (s.p[i] == '-' || s.p[i] == '+')) {
        negative = s.p[i++] == '-';
    }
    long v = 0;
    for (; i < s.n && waf_is_digit((unsigned char)s.p[i]); i++) {
        int d = s.p[i] - '0';
        v = v > (LONG_MAX - d) / 10 ? LONG_MAX : v * 10 + d;
    }
    return negative ? -v : v;
}

ptrdiff_t waf_find(struct waf_str hay, struct waf_str needle)
{
    if (needle.n == 0) {
        return 0;
    }
    size_t at = 0;
    while (at + needle.n <= hay.n) {
        const char *p = memchr(hay.p + at, needle.p[0], hay.n - needle.n + 1 - at);
        if (p == NULL) {
            return -1;
        }
        if (memcmp(p, needle.p, needle.n) == 0) {
            return p - hay.p;
        }
        at = (size_t)(p - hay.p) + 1;
    }
    return -1;
}
