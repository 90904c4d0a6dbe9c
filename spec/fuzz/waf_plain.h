/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The transformations once more, a byte at a time and without any thought of speed: what the fuzz
/// target compares those of plugins/waf/transform.c with. None looks at a table or at a mark.

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct plain_text {
    const char *p;
    size_t n;
};

// Where the result goes: as long as needed.
struct plain_out {
    char *p;
    size_t n, cap;
};

static void plain_put(struct plain_out *o, int c)
{
    if (o->n == o->cap) {
        o->cap = o->cap * 2 + 64;
        o->p = realloc(o->p, o->cap);
    }
    o->p[o->n++] = (char)c;
}

// The byte at `i`, or -1 behind the end.
static int plain_at(struct plain_text s, size_t i)
{
    return i < s.n ? (unsigned char)s.p[i] : -1;
}

static int plain_digit(int c, int base)
{
    int v = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : 99;
    return v < base ? v : -1;
}

// `n` hex digits at `i` as a number; -1 where there are not so many.
static long plain_hex(struct plain_text s, size_t i, size_t n)
{
    long v = 0;
    for (size_t k = 0; k < n; k++) {
        int d = plain_digit(plain_at(s, i + k), 16);
        if (d < 0) {
            return -1;
        }
        v = v * 16 + d;
    }
    return v;
}

// A code point of four digits: full-width forms are ASCII, of others the low byte is left.
static int plain_narrow(long code)
{
    int low = (int)(code & 0xff);
    return code >> 8 == 0xff && low > 0 && low < 0x5f ? low + 0x20 : low;
}

static bool plain_is(struct plain_text s, size_t i, const char *what)
{
    return i + strlen(what) <= s.n && memcmp(s.p + i, what, strlen(what)) == 0;
}

static int plain_control(int c)
{
    const char *letters = "abfnrtv", *bytes = "\a\b\f\n\r\t\v";
    const char *at = c > 0 ? strchr(letters, c) : NULL;
    return at != NULL ? bytes[at - letters] : -1;
}

// Up to three octal digits at `i`; two where three would pass a byte. @return how many
static size_t plain_octal(struct plain_text s, size_t i, int *byte)
{
    size_t n = 0;
    int v = 0;
    while (n < 3 && plain_digit(plain_at(s, i + n), 8) >= 0 &&
           v * 8 + plain_digit(plain_at(s, i + n), 8) <= 255) {
        v = v * 8 + plain_digit(plain_at(s, i + n), 8);
        n++;
    }
    *byte = v;
    return n;
}

static void plain_url_decode(struct plain_text s, struct plain_out *o, bool uni)
{
    for (size_t i = 0; i < s.n;) {
        bool is_percent = s.p[i] == '%';
        if (is_percent && plain_hex(s, i + 1, 2) >= 0) {
            plain_put(o, (int)plain_hex(s, i + 1, 2));
            i += 3;
        } else if (uni && is_percent && tolower(plain_at(s, i + 1)) == 'u' &&
                   plain_hex(s, i + 2, 4) >= 0) {
            plain_put(o, plain_narrow(plain_hex(s, i + 2, 4)));
            i += 6;
        } else {
            plain_put(o, s.p[i] == '+' ? ' ' : s.p[i]);
            i++;
        }
    }
}

static void plain_html(struct plain_text s, struct plain_out *o)
{
    static const struct {
        const char *name;
        int c;
    } names[] = {{"quot", '"'}, {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"nbsp", 0xa0}};
    for (size_t i = 0; i < s.n;) {
        int c = -1;
        size_t end = i + 1;
        bool is_number = s.p[i] == '&' && plain_at(s, i + 1) == '#';
        if (is_number) {
            int base = tolower(plain_at(s, i + 2)) == 'x' ? 16 : 10;
            size_t from = i + (base == 16 ? 3 : 2);
            unsigned long v = 0;
            for (end = from; plain_digit(plain_at(s, end), base) >= 0; end++) {
                v = v * (unsigned)base + (unsigned)plain_digit(plain_at(s, end), base);
            }
            c = end > from ? (int)(v & 0xff) : -1;
        } else if (s.p[i] == '&') {
            while (plain_at(s, end) >= 0 && plain_at(s, end) < 128 && isalnum(plain_at(s, end))) {
                end++;
            }
            for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
                if (strlen(names[k].name) == end - i - 1 &&
                    strncasecmp(names[k].name, s.p + i + 1, end - i - 1) == 0) {
                    c = names[k].c;
                }
            }
        }
        if (c < 0) {
            plain_put(o, s.p[i++]);
            continue;
        }
        plain_put(o, c);
        i = plain_at(s, end) == ';' ? end + 1 : end;
    }
}

static void plain_js(struct plain_text s, struct plain_out *o)
{
    for (size_t i = 0; i < s.n;) {
        int byte, next = plain_at(s, i + 1);
        size_t octal = plain_octal(s, i + 1, &byte);
        if (s.p[i] != '\\' || next < 0) {
            plain_put(o, s.p[i++]);
        } else if (next == 'u' && plain_hex(s, i + 2, 4) >= 0) {
            plain_put(o, plain_narrow(plain_hex(s, i + 2, 4)));
            i += 6;
        } else if (next == 'x' && plain_hex(s, i + 2, 2) >= 0) {
            plain_put(o, (int)plain_hex(s, i + 2, 2));
            i += 4;
        } else if (octal > 0) {
            plain_put(o, byte);
            i += 1 + octal;
        } else {
            plain_put(o, plain_control(next) >= 0 ? plain_control(next) : next);
            i += 2;
        }
    }
}

static void plain_c(struct plain_text s, struct plain_out *o)
{
    for (size_t i = 0; i < s.n;) {
        int byte = 0, next = plain_at(s, i + 1), digit;
        size_t octal = 0;
        while (octal < 3 && (digit = plain_at(s, i + 1 + octal)) >= '0' && digit <= '7') {
            byte = (byte * 8 + digit - '0') & 0xff;
            octal++;
        }
        if (s.p[i] != '\\' || next < 0) {
            plain_put(o, s.p[i++]);
        } else if (plain_control(next) >= 0) {
            plain_put(o, plain_control(next));
            i += 2;
        } else if (next == '\\' || next == '?' || next == '\'' || next == '"') {
            plain_put(o, next);
            i += 2;
        } else if (tolower(next) == 'x' && plain_hex(s, i + 2, 2) >= 0) {
            plain_put(o, (int)plain_hex(s, i + 2, 2));
            i += 4;
        } else if (octal > 0) {
            plain_put(o, byte);
            i += 1 + octal;
        } else {
            plain_put(o, next); // what is no escape loses its backslash
            i += 2;
        }
    }
}

static void plain_css(struct plain_text s, struct plain_out *o)
{
    for (size_t i = 0; i < s.n;) {
        size_t n = 0;
        if (s.p[i] != '\\') {
            plain_put(o, s.p[i++]);
            continue;
        }
        i++;
        while (n < 6 && plain_digit(plain_at(s, i + n), 16) >= 0) {
            n++;
        }
        if (n == 0) {
            if (i < s.n && s.p[i] != '\n') {
                plain_put(o, s.p[i]);
            }
            i++;
            continue;
        }
        long code = plain_hex(s, i, n);
        plain_put(o, code > 0xffff ? (int)(code & 0xff) : plain_narrow(code));
        i += n;
        i += plain_at(s, i) >= 0 && isspace(plain_at(s, i)) ? 1 : 0;
    }
}

static void plain_comments(struct plain_text s, struct plain_out *o)
{
    for (size_t i = 0; i < s.n;) {
        if (!plain_is(s, i, "/*")) {
            plain_put(o, s.p[i++]);
            continue;
        }
        for (i += 2; i < s.n && !plain_is(s, i, "*/"); i++) {
        }
        plain_put(o, ' ');
        i += 2;
    }
}

static void plain_comment_marks(struct plain_text s, struct plain_out *o)
{
    static const char *const marks[] = {"/*", "*/", "<!--", "-->", "--", "#"};
    for (size_t i = 0; i < s.n;) {
        size_t skip = 0;
        for (size_t k = 0; skip == 0 && k < sizeof marks / sizeof marks[0]; k++) {
            skip = plain_is(s, i, marks[k]) ? strlen(marks[k]) : 0;
        }
        if (skip == 0) {
            plain_put(o, s.p[i]);
        }
        i += skip == 0 ? 1 : skip;
    }
}

static void plain_sql_hex(struct plain_text s, struct plain_out *o)
{
    for (size_t i = 0; i < s.n;) {
        if (s.p[i] != '0' || tolower(plain_at(s, i + 1)) != 'x' || plain_hex(s, i + 2, 2) < 0) {
            plain_put(o, s.p[i++]);
            continue;
        }
        for (i += 2; plain_hex(s, i, 2) >= 0; i += 2) {
            plain_put(o, (int)plain_hex(s, i, 2));
        }
    }
}

// Segments in a list; ".." takes the last of them back, where there is one that may be taken.
static void plain_path(struct plain_text s, struct plain_out *o, bool win)
{
    struct plain_text *kept = malloc((s.n + 1) * sizeof *kept);
    size_t count = 0, ups = 0;
    bool is_rooted = s.n != 0 && (s.p[0] == '/' || (win && s.p[0] == '\\'));
    bool is_open = s.n != 0 && (s.p[s.n - 1] == '/' || (win && s.p[s.n - 1] == '\\'));
    for (size_t i = 0; i <= s.n; i++) {
        size_t from = i;
        while (i < s.n && s.p[i] != '/' && !(win && s.p[i] == '\\')) {
            i++;
        }
        struct plain_text segment = {s.p + from, i - from};
        bool is_up = segment.n == 2 && memcmp(segment.p, "..", 2) == 0;
        if (segment.n == 0 || (segment.n == 1 && segment.p[0] == '.') ||
            (is_up && is_rooted && count == 0)) {
            continue;
        }
        if (is_up && count > ups) {
            count--;
            continue;
        }
        ups += is_up ? 1 : 0;
        kept[count++] = segment;
    }
    if (is_rooted) {
        plain_put(o, '/');
    }
    for (size_t k = 0; k < count; k++) {
        for (size_t b = 0; b < kept[k].n; b++) {
            plain_put(o, kept[k].p[b]);
        }
        if (k + 1 < count || is_open) {
            plain_put(o, '/');
        }
    }
    free(kept);
}

static void plain_cmd_line(struct plain_text s, struct plain_out *o)
{
    for (size_t i = 0; i < s.n; i++) {
        int c = plain_at(s, i);
        c = c < 128 ? tolower(c) : c;
        bool is_space = c != 0 && strchr(" ,;\t\r\n", c) != NULL;
        if (c != 0 && strchr("\"'\\^", c) != NULL) {
            continue;
        }
        if (is_space && o->n > 0 && o->p[o->n - 1] == ' ') {
            continue;
        }
        if ((c == '/' || c == '(') && o->n > 0 && o->p[o->n - 1] == ' ') {
            o->n--;
        }
        plain_put(o, is_space ? ' ' : c);
    }
}

static bool plain_is_blank(int c)
{
    return isspace(c) || c == 0xa0;
}

static void plain_each(const char *name, struct plain_text s, struct plain_out *o)
{
    for (size_t i = 0; i < s.n; i++) {
        int c = plain_at(s, i);
        if (strcmp(name, "lowercase") == 0) {
            plain_put(o, c < 128 ? tolower(c) : c);
        } else if (strcmp(name, "uppercase") == 0) {
            plain_put(o, c < 128 ? toupper(c) : c);
        } else if (strcmp(name, "replaceNulls") == 0) {
            plain_put(o, c == 0 ? ' ' : c);
        } else if (strcmp(name, "removeNulls") == 0 ? c != 0 : !plain_is_blank(c)) {
            plain_put(o, c);
        } else if (strcmp(name, "compressWhitespace") == 0 &&
                   (i == 0 || !plain_is_blank(plain_at(s, i - 1)))) {
            plain_put(o, ' ');
        }
    }
}

static void plain_hex_encode(struct plain_text s, struct plain_out *o)
{
    for (size_t i = 0; i < s.n; i++) {
        plain_put(o, "0123456789abcdef"[plain_at(s, i) / 16]);
        plain_put(o, "0123456789abcdef"[plain_at(s, i) % 16]);
    }
}

static void plain_trim(struct plain_text s, struct plain_out *o, bool left, bool right)
{
    size_t from = 0, end = s.n;
    while (left && from < end && isspace(plain_at(s, from))) {
        from++;
    }
    while (right && end > from && isspace(plain_at(s, end - 1))) {
        end--;
    }
    for (; from < end; from++) {
        plain_put(o, s.p[from]);
    }
}

/// What the transformation should give. @return false: it has no plain version
static bool plain_transform(const char *name, struct plain_text s, struct plain_out *o)
{
    static const char *const each[] = {"lowercase",   "uppercase",        "replaceNulls",
                                       "removeNulls", "removeWhitespace", "compressWhitespace"};
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++) {
        if (strcmp(name, each[i]) == 0) {
            plain_each(name, s, o);
            return true;
        }
    }
    if (strncmp(name, "urlDecode", 9) == 0) {
        plain_url_decode(s, o, name[9] != '\0');
    } else if (strncmp(name, "trim", 4) == 0) {
        plain_trim(s, o, strcmp(name, "trimRight") != 0, strcmp(name, "trimLeft") != 0);
    } else if (strncmp(name, "normali", 7) == 0) {
        plain_path(s, o, strstr(name, "Win") != NULL);
    } else {
        static const struct {
            const char *name;
            void (*run)(struct plain_text, struct plain_out *);
        } others[] = {
            {"htmlEntityDecode", plain_html},    {"jsDecode", plain_js},
            {"escapeSeqDecode", plain_c},        {"cssDecode", plain_css},
            {"replaceComments", plain_comments}, {"removeCommentsChar", plain_comment_marks},
            {"sqlHexDecode", plain_sql_hex},     {"cmdLine", plain_cmd_line},
            {"hexEncode", plain_hex_encode}};
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
            if (strcmp(name, others[i].name) == 0) {
                others[i].run(s, o);
                return true;
            }
        }
        return false;
    }
    return true;
}
