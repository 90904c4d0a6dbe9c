/* SPDX-License-Identifier: Apache-2.0 */
// Transformations of any bytes: simple ones against plain versions of them, and each against its
// promises (no mark, no change; "changes only case"; a change is a change).

#include "waf/transform.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_blank(unsigned char c)
{
    return isspace(c) || c == 0xa0;
}

// Writes what the transformation should give, or returns false for one without a plain version.
static bool plain(const char *name, const uint8_t *in, size_t n, char *out, size_t *out_n)
{
    char *d = out;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = in[i];
        if (strcmp(name, "lowercase") == 0) {
            *d++ = (char)(c < 128 ? tolower(c) : c);
        } else if (strcmp(name, "uppercase") == 0) {
            *d++ = (char)(c < 128 ? toupper(c) : c);
        } else if (strcmp(name, "removeNulls") == 0) {
            if (c != 0) {
                *d++ = (char)c;
            }
        } else if (strcmp(name, "replaceNulls") == 0) {
            *d++ = (char)(c == 0 ? ' ' : c);
        } else if (strcmp(name, "removeWhitespace") == 0) {
            if (!is_blank(c)) {
                *d++ = (char)c;
            }
        } else if (strcmp(name, "compressWhitespace") == 0) {
            if (!is_blank(c)) {
                *d++ = (char)c;
            } else if (i == 0 || !is_blank(in[i - 1])) {
                *d++ = ' ';
            }
        } else {
            return false;
        }
    }
    *out_n = (size_t)(d - out);
    return true;
}

// cmdLine, written down without tables.
static size_t plain_cmd_line(const uint8_t *in, size_t n, char *out)
{
    char *d = out;
    for (size_t i = 0; i < n; i++) {
        char c = (char)(in[i] < 128 ? tolower(in[i]) : in[i]);
        if (c != 0 && strchr("\"'\\^", c) != NULL) {
            continue;
        }
        if (c != 0 && strchr(" ,;\t\r\n", c) != NULL) {
            c = ' ';
        }
        if (c == ' ' && d > out && d[-1] == ' ') {
            continue;
        }
        if ((c == '/' || c == '(') && d > out && d[-1] == ' ') {
            d--;
        }
        *d++ = c;
    }
    return (size_t)(d - out);
}

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check(struct waf_arena *a, const struct waf_transform *t, struct waf_str in)
{
    struct waf_str out = in;
    unsigned marks = 0;
    size_t want_n;
    bool changed = t->fn(a, in, &out);
    for (size_t i = 0; i < in.n; i++) {
        marks |= waf_marks_of((unsigned char)in.p[i]);
    }
    must((marks & t->marks) != 0 || (t->marks & WAF_MARK_ALWAYS) != 0 || !changed);
    if (t->keeps_case_folded) {
        must(waf_ieq(in, out));
    }
    char *want = malloc(in.n + 1);
    if (in.n != 0 && plain(t->name, (const uint8_t *)in.p, in.n, want, &want_n)) {
        must(waf_eq(out, (struct waf_str){want, want_n}));
    }
    if (strcmp(t->name, "cmdLine") == 0) {
        want_n = plain_cmd_line((const uint8_t *)in.p, in.n, want);
        must(waf_eq(out, (struct waf_str){want, want_n}));
    }
    free(want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct waf_arena a;
    if (size > 65536) {
        return 0;
    }
    char *copy = malloc(size == 0 ? 1 : size); // its end is watched
    memcpy(copy, data, size);
    waf_arena_init(&a, 4096, (size_t)1 << 28);
    for (size_t i = 0; i < waf_transform_count(); i++) {
        check(&a, waf_transform_at(i), (struct waf_str){copy, size});
    }
    waf_arena_fini(&a);
    free(copy);
    return 0;
}
