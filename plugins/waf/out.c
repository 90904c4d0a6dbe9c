// SPDX-License-Identifier: Apache-2.0
#include "waf/out.h"

#include <stdlib.h>
#include <time.h>

enum { FIRST_BYTES = 4096 };

void waf_out_init(struct waf_out *o, size_t max)
{
    o->n = 0;
    o->max = max;
    o->failed = false;
}

void waf_out_fini(struct waf_out *o)
{
    free(o->p);
    *o = (struct waf_out){0};
}

// Room for `n` bytes more. @return false: over the bound, or no memory
static bool reserve(struct waf_out *o, size_t n)
{
    if (o->failed || n > o->max || o->n > o->max - n) {
        return false;
    }
    if (o->n + n > o->cap) {
        size_t cap = (o->n + n) * 2 < FIRST_BYTES ? FIRST_BYTES : (o->n + n) * 2;
        char *bigger = realloc(o->p, cap);
        if (bigger == NULL) {
            o->failed = true;
            return false;
        }
        o->p = bigger;
        o->cap = cap;
    }
    return true;
}

void waf_out_put(struct waf_out *o, struct waf_str s)
{
    if (s.n != 0 && reserve(o, s.n)) {
        memcpy(o->p + o->n, s.p, s.n);
        o->n += s.n;
    }
}

void waf_out_number(struct waf_out *o, long v)
{
    char digits[WAF_DIGITS_MAX];
    waf_out_put(o, waf_format_long(digits, v));
}

#define EACH(byte) (0x0101010101010101ull * (byte))

// True where all eight bytes are printable ASCII, neither a quote nor a backslash.
static bool eight_are_plain(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    uint64_t quote = v ^ EACH('"'), slash = v ^ EACH('\\'), del = v ^ EACH(0x7f);
    uint64_t odd = v | (v - EACH(0x20)) | (quote - EACH(1)) | (slash - EACH(1)) | (del - EACH(1));
    return (odd & EACH(0x80)) == 0; // a borrow may only make it say no too often
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

// How many bytes from the start need no escape.
static size_t plain_run(struct waf_str s)
{
    size_t i = 0;
    while (i + 8 <= s.n && eight_are_plain(s.p + i)) {
        i += 8;
    }
    while (i < s.n && is_plain((unsigned char)s.p[i])) {
        i++;
    }
    return i;
}

// `code` stands before the two hex digits of a byte; backslashes (and, in JSON, quotes) get one more.
static void put_escaped(struct waf_out *o, struct waf_str s, struct waf_str code, bool is_json)
{
    static const char digits[] = "0123456789abcdef";
    while (s.n != 0) {
        size_t run = plain_run(s);
        waf_out_put(o, (struct waf_str){s.p, run});
        s.p += run;
        s.n -= run;
        if (s.n == 0) {
            return;
        }
        unsigned char c = (unsigned char)*s.p++;
        s.n--;
        if (c == '\\' || (is_json && c == '"')) {
            waf_out_put(o, (struct waf_str){(char[2]){'\\', (char)c}, 2});
        } else if (reserve(o, code.n + 2)) {
            waf_out_put(o, code);
            waf_out_put(o, (struct waf_str){(char[2]){digits[c >> 4], digits[c & 15]}, 2});
        }
    }
}

static struct waf_str head_of(struct waf_str s, size_t max)
{
    return (struct waf_str){s.p, s.n < max ? s.n : max};
}

void waf_out_escaped(struct waf_out *o, struct waf_str s, size_t max)
{
    put_escaped(o, head_of(s, max), WAF_LIT("\\x"), false);
}

void waf_out_json(struct waf_out *o, struct waf_str s, size_t max)
{
    waf_out_put(o, WAF_LIT("\""));
    put_escaped(o, head_of(s, max), WAF_LIT("\\u00"), true);
    waf_out_put(o, WAF_LIT("\""));
}

void waf_out_time(struct waf_out *o, int64_t wall_ms, const char *format)
{
    char text[64];
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    waf_out_put(o, (struct waf_str){text, strftime(text, sizeof text, format, &tm)});
}
