// SPDX-License-Identifier: Apache-2.0
#include "waf/transform.h"

#include "waf/digest.h"

#include <stdio.h>

static const unsigned char *unicode_map; // 65,536 bytes; 0: not mapped

void waf_transform_use_map(const unsigned char *map_65536)
{
    unicode_map = map_65536;
}

static int hex_pair(const char *p)
{
    return waf_hex((unsigned char)p[0]) * 16 + waf_hex((unsigned char)p[1]);
}

static bool is_hex(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (waf_hex((unsigned char)p[i]) < 0) {
            return false;
        }
    }
    return true;
}

/// Closes an output written to `d`; `in` is what it was made from.
static bool done(struct waf_str in, const char *buf, const char *d, struct waf_str *out)
{
    struct waf_str s = {buf, (size_t)(d - buf)};
    if (waf_eq(s, in)) {
        return false;
    }
    *out = s;
    return true;
}

static bool has(struct waf_str in, char c)
{
    return in.n != 0 && memchr(in.p, c, in.n) != NULL;
}

// A code point given by four hex digits: full-width forms become ASCII, others their low byte.
static char low_byte(const char *hex4)
{
    int c = hex_pair(hex4 + 2);
    bool full = (hex4[0] | 32) == 'f' && (hex4[1] | 32) == 'f';
    return (char)(full && c > 0 && c < 0x5f ? c + 0x20 : c);
}

static char from_unicode(const char *hex4)
{
    if (unicode_map != NULL) {
        unsigned char m = unicode_map[hex_pair(hex4) * 256 + hex_pair(hex4 + 2)];
        if (m != 0) {
            return (char)m;
        }
    }
    return low_byte(hex4);
}

// --- decoders ------------------------------------------------------------------------

/// Reads one escape at `p`, which is at its mark, and writes what it means (never more than it is
/// long). @return bytes read, at least one
typedef size_t (*escape_fn)(const char *p, size_t n, char **d);

// Copies `in` to a new text, with what `escape` makes of each run that starts with `mark`.
static bool decode(struct waf_arena *a, struct waf_str in, struct waf_str *out, char mark,
                   escape_fn escape)
{
    const char *p = in.p, *end = in.p + in.n, *next = in.n == 0 ? NULL : memchr(p, mark, in.n);
    if (next == NULL) {
        return false;
    }
    char *buf = waf_alloc(a, in.n + 1), *d = buf;
    while (next != NULL) {
        d = mempcpy(d, p, (size_t)(next - p));
        p = next + escape(next, (size_t)(end - next), &d);
        next = memchr(p, mark, (size_t)(end - p));
    }
    d = mempcpy(d, p, (size_t)(end - p));
    return done(in, buf, d, out);
}

static bool url_decode_with(struct waf_arena *a, struct waf_str in, struct waf_str *out, bool uni)
{
    if (!has(in, '%') && !has(in, '+')) {
        return false;
    }
    char *buf = waf_alloc(a, in.n + 1), *d = buf;
    const char *p = in.p, *end = in.p + in.n;
    while (p < end) {
        char c = *p;
        size_t left = (size_t)(end - p);
        if (c != '%') {
            *d++ = c == '+' ? ' ' : c;
            p++;
        } else if (left >= 3 && is_hex(p + 1, 2)) {
            *d++ = (char)hex_pair(p + 1);
            p += 3;
        } else if (uni && left >= 6 && (p[1] | 32) == 'u' && is_hex(p + 2, 4)) {
            *d++ = from_unicode(p + 2);
            p += 6;
        } else {
            *d++ = c;
            p++;
        }
    }
    return done(in, buf, d, out);
}

static bool url_decode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return url_decode_with(a, in, out, false);
}

static bool url_decode_uni(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return url_decode_with(a, in, out, true);
}

static bool url_encode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    static const char digits[] = "0123456789abcdef";
    char *buf = waf_alloc(a, in.n * 3 + 1), *d = buf;
    for (size_t i = 0; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i];
        if (c == ' ') {
            *d++ = '+';
        } else if (c == '*' || waf_is_alnum(c)) {
            *d++ = (char)c;
        } else {
            *d++ = '%';
            *d++ = digits[c >> 4];
            *d++ = digits[c & 15];
        }
    }
    return done(in, buf, d, out);
}

// Reads "#x41", "#65" or a name after an ampersand. @return bytes read, 0 if it is no entity
static size_t entity(const char *p, size_t n, char *c)
{
    static const struct {
        struct waf_str name;
        char c;
    } names[] = {{WAF_LIT("quot"), '"'},
                 {WAF_LIT("amp"), '&'},
                 {WAF_LIT("lt"), '<'},
                 {WAF_LIT("gt"), '>'},
                 {WAF_LIT("nbsp"), (char)0xa0}};
    size_t i = 0;
    if (n >= 2 && p[0] == '#') {
        bool hex = (p[1] | 32) == 'x';
        unsigned long v = 0;
        for (i = hex ? 2 : 1; i < n; i++) {
            unsigned char ch = (unsigned char)p[i];
            if (hex ? waf_hex(ch) < 0 : !waf_is_digit(ch)) {
                break;
            }
            v = (hex ? v * 16 : v * 10) + (unsigned long)waf_hex(ch);
        }
        *c = (char)v;
        return i > (hex ? 2u : 1u) ? i : 0;
    }
    while (i < n && waf_is_alnum((unsigned char)p[i])) {
        i++;
    }
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        if (waf_ieq((struct waf_str){p, i}, names[k].name)) {
            *c = names[k].c;
            return i;
        }
    }
    return 0;
}

static size_t html_escape(const char *p, size_t n, char **d)
{
    char c;
    size_t used = entity(p + 1, n - 1, &c);
    *(*d)++ = used != 0 ? c : *p;
    return used != 0 && used + 1 < n && p[used + 1] == ';' ? used + 2 : used + 1;
}

static bool html_entity_decode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return decode(a, in, out, '&', html_escape);
}

// Up to three octal digits, the low byte of what they say. @return how many
static size_t octal_digits(const char *p, size_t n, char *c)
{
    size_t i = 0;
    int v = 0;
    for (; i < n && i < 3 && p[i] >= '0' && p[i] <= '7'; i++) {
        v = v * 8 + (p[i] - '0');
    }
    *c = (char)v;
    return i;
}

// .. of which as many count as fit a byte.
static size_t octal(const char *p, size_t n, char *c)
{
    return octal_digits(p, n >= 3 && p[0] > '3' ? 2 : n, c);
}

static char control_letter(char c)
{
    switch (c) {
    case 'a':
        return '\a';
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'v':
        return '\v';
    default:
        return c;
    }
}

static size_t js_escape(const char *p, size_t n, char **d)
{
    char c;
    size_t used = 2;
    if (n < 2) {
        c = p[0];
        used = 1;
    } else if (n >= 6 && p[1] == 'u' && is_hex(p + 2, 4)) {
        c = low_byte(p + 2);
        used = 6;
    } else if (n >= 4 && p[1] == 'x' && is_hex(p + 2, 2)) {
        c = (char)hex_pair(p + 2);
        used = 4;
    } else {
        size_t digits = octal(p + 1, n - 1, &c);
        c = digits != 0 ? c : control_letter(p[1]);
        used = digits != 0 ? 1 + digits : 2;
    }
    *(*d)++ = c;
    return used;
}

static bool js_decode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return decode(a, in, out, '\\', js_escape);
}

// One to six hex digits of a CSS escape.
static char css_char(const char *p, size_t n)
{
    size_t skip = n > 4 ? n - 4 : 0;
    if (n == 1) {
        return (char)waf_hex((unsigned char)p[0]);
    }
    for (size_t i = 0; i < skip; i++) {
        if (p[i] != '0') {
            return (char)hex_pair(p + n - 2);
        }
    }
    return n >= 4 ? low_byte(p + skip) : (char)hex_pair(p + n - 2);
}

static size_t css_escape(const char *p, size_t n, char **d)
{
    size_t digits = 0;
    while (digits < 6 && 1 + digits < n && waf_hex((unsigned char)p[1 + digits]) >= 0) {
        digits++;
    }
    if (digits != 0) {
        *(*d)++ = css_char(p + 1, digits);
        bool is_ended = 1 + digits < n && waf_is_space((unsigned char)p[1 + digits]);
        return 1 + digits + is_ended;
    }
    if (n >= 2 && p[1] != '\n') {
        *(*d)++ = p[1];
    }
    return n >= 2 ? 2 : 1; // the backslash goes, even at the end
}

static bool css_decode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return decode(a, in, out, '\\', css_escape);
}

// What is no escape loses its backslash.
static size_t c_escape(const char *p, size_t n, char **d)
{
    char c = p[0];
    size_t used = 1, digits;
    if (n < 2) {
        *(*d)++ = c;
        return used;
    }
    if (n >= 4 && (p[1] | 32) == 'x' && is_hex(p + 2, 2)) {
        c = (char)hex_pair(p + 2);
        used = 4;
    } else if ((digits = octal_digits(p + 1, n - 1, &c)) != 0) {
        used = 1 + digits;
    } else {
        c = control_letter(p[1]);
        used = 2;
    }
    *(*d)++ = c;
    return used;
}

static bool escape_seq_decode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return decode(a, in, out, '\\', c_escape);
}

// --- blanks, comments, bytes ---------------------------------------------------------------

// What cmdLine does with a byte: 0: drops it, 1: a blank, 2: a blank before it goes; else writes this.
static const unsigned char *cmd_table(void)
{
    static unsigned char table[256];
    if (table['a'] != 0) {
        return table;
    }
    for (unsigned c = 0; c < 256; c++) {
        table[c] = waf_lower((unsigned char)c);
    }
    for (const char *p = "\"'\\^"; *p != '\0'; p++) {
        table[(unsigned char)*p] = 0;
    }
    for (const char *p = " ,;\t\r\n"; *p != '\0'; p++) {
        table[(unsigned char)*p] = 1;
    }
    table['/'] = table['('] = 2;
    return table;
}

static bool cmd_line(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    const unsigned char *table = cmd_table();
    char *buf = waf_alloc(a, in.n + 1), *d = buf;
    bool space = false;
    for (size_t i = 0; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i], to = table[c];
        if (to > 2 || c <= 2) { // the codes 1 and 2 are bytes, too
            *d++ = (char)(c <= 2 ? c : to);
            space = false;
        } else if (to == 1) {
            if (!space) {
                *d++ = ' ';
            }
            space = true;
        } else if (to == 2) {
            if (space) {
                d--;
            }
            *d++ = (char)c;
            space = false;
        }
    }
    return done(in, buf, d, out);
}

static bool compress_whitespace(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 1), *d = buf;
    bool space = false;
    for (size_t i = 0; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i];
        if (c > ' ' && c != 0xa0) {
            *d++ = (char)c;
            space = false;
        } else if (c != 0xa0 && !waf_is_space(c)) {
            *d++ = (char)c;
            space = false;
        } else if (!space) {
            *d++ = ' ';
            space = true;
        }
    }
    return done(in, buf, d, out);
}

static bool remove_whitespace(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 1), *d = buf;
    for (size_t i = 0; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i];
        if (!waf_is_space(c) && c != 0xa0) {
            *d++ = (char)c;
        }
    }
    return done(in, buf, d, out);
}

static bool at(struct waf_str in, size_t i, struct waf_str what)
{
    return in.n - i >= what.n && memcmp(in.p + i, what.p, what.n) == 0;
}

static bool replace_comments(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 1), *d = buf;
    bool inside = false;
    for (size_t i = 0; i < in.n;) {
        if (!inside && at(in, i, WAF_LIT("/*"))) {
            inside = true;
            i += 2;
        } else if (inside && at(in, i, WAF_LIT("*/"))) {
            inside = false;
            *d++ = ' ';
            i += 2;
        } else {
            if (!inside) {
                *d++ = in.p[i];
            }
            i++;
        }
    }
    if (inside) {
        *d++ = ' ';
    }
    return done(in, buf, d, out);
}

static bool remove_comments(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 2), *d = buf;
    struct waf_str end = {NULL, 0}; // what closes the comment that we are in
    for (size_t i = 0; i < in.n;) {
        if (end.n != 0) {
            if (at(in, i, end)) {
                i += end.n;
                end.n = 0;
            } else {
                i++;
            }
        } else if (at(in, i, WAF_LIT("/*"))) {
            end = WAF_LIT("*/");
            i += 2;
        } else if (at(in, i, WAF_LIT("<!--"))) {
            end = WAF_LIT("-->");
            i += 4;
        } else if (at(in, i, WAF_LIT("--")) || in.p[i] == '#') {
            break;
        } else {
            *d++ = in.p[i++];
        }
    }
    if (end.n != 0) {
        *d++ = ' ';
    }
    return done(in, buf, d, out);
}

static bool remove_comments_char(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 1), *d = buf;
    for (size_t i = 0; i < in.n;) {
        if (at(in, i, WAF_LIT("/*")) || at(in, i, WAF_LIT("*/"))) {
            i += 2;
        } else if (at(in, i, WAF_LIT("<!--"))) {
            i += 4;
        } else if (at(in, i, WAF_LIT("-->"))) {
            i += 3;
        } else if (at(in, i, WAF_LIT("--"))) {
            i += 2;
        } else if (in.p[i] == '#') {
            i++;
        } else {
            *d++ = in.p[i++];
        }
    }
    return done(in, buf, d, out);
}

static bool replace_byte(struct waf_arena *a, struct waf_str in, struct waf_str *out, int with)
{
    if (!has(in, '\0')) {
        return false;
    }
    char *buf = waf_alloc(a, in.n + 1), *d = buf;
    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] != '\0') {
            *d++ = in.p[i];
        } else if (with >= 0) {
            *d++ = (char)with;
        }
    }
    return done(in, buf, d, out);
}

static bool remove_nulls(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return replace_byte(a, in, out, -1);
}

static bool replace_nulls(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return replace_byte(a, in, out, ' ');
}

static bool lowercase(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 1);
    for (size_t i = 0; i < in.n; i++) {
        buf[i] = (char)waf_lower((unsigned char)in.p[i]);
    }
    return done(in, buf, buf + in.n, out);
}

static bool uppercase(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 1);
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        buf[i] = c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
    }
    return done(in, buf, buf + in.n, out);
}

/// Length of the UTF-8 character at `p` by its form alone, its value in `code`; 0 if it has none.
static size_t utf8_form(const unsigned char *p, size_t n, unsigned *code)
{
    size_t len = p[0] >= 0xf5 ? 0 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 0;
    if (len == 0 || len > n) {
        return 0;
    }
    *code = p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        *code = *code << 6 | (p[i] & 0x3f);
    }
    return len;
}

// As mod_security2 has it: NULs and lead bytes that nothing follows go. What is longer than it need be
// becomes the character that it hides, with its first byte behind it, so that rules see both.
static bool utf8_to_unicode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    char *buf = waf_alloc(a, in.n * 4 + 1), *d = buf;
    for (size_t i = 0; i < in.n;) {
        const unsigned char *p = (const unsigned char *)in.p + i;
        unsigned code = 0;
        size_t len = p[0] < 0x80 ? 0 : utf8_form(p, in.n - i, &code);
        bool is_lead = p[0] >= 0xc0 && p[0] < 0xf5;
        if (len != 0) {
            d += snprintf(d, 9, "%%u%04x", code);
        }
        if (len != 0 ? code < least[len] || (code >= 0xd800 && code <= 0xdfff)
                     : p[0] != 0 && !is_lead) {
            *d++ = (char)p[0];
        }
        i += len != 0 ? len : 1;
    }
    return done(in, buf, d, out);
}

static size_t path_last(const char *buf, size_t n)
{
    while (n > 0 && buf[n - 1] != '/') {
        n--;
    }
    return n;
}

static bool normalize(struct waf_arena *a, struct waf_str in, struct waf_str *out, bool win)
{
    char *src = waf_alloc(a, in.n + 1), *buf = waf_alloc(a, in.n + 1);
    size_t n = 0, root, ups = 0;
    for (size_t i = 0; i < in.n; i++) {
        src[i] = win && in.p[i] == '\\' ? '/' : in.p[i];
    }
    root = in.n != 0 && src[0] == '/' ? 1 : 0;
    bool trailing = in.n != 0 && src[in.n - 1] == '/';
    for (size_t i = 0; i < in.n;) {
        size_t start = i, len;
        while (i < in.n && src[i] != '/') {
            i++;
        }
        len = i - start;
        i++;
        if (len == 0 || (len == 1 && src[start] == '.')) {
            continue;
        }
        // buf holds segments, each with a slash after it; `ups` bytes of leading "../" stay
        if (len == 2 && src[start] == '.' && src[start + 1] == '.') {
            if (n > ups) {
                n = path_last(buf, n - 1);
                continue;
            }
            if (root != 0) {
                continue;
            }
            ups += 3;
        }
        memcpy(buf + n, src + start, len);
        n += len;
        if (n < in.n) {
            buf[n] = '/';
        }
        n++;
    }
    if (n != 0 && !trailing) {
        n--;
    }
    char *full = waf_alloc(a, n + 2);
    full[0] = '/';
    memcpy(full + root, buf, n);
    return done(in, full, full + root + n, out);
}

static bool normalize_path(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return normalize(a, in, out, false);
}

static bool normalize_path_win(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return normalize(a, in, out, true);
}

static bool hex_encode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    static const char digits[] = "0123456789abcdef";
    char *buf = waf_alloc(a, in.n * 2 + 1), *d = buf;
    for (size_t i = 0; i < in.n; i++) {
        *d++ = digits[(unsigned char)in.p[i] >> 4];
        *d++ = digits[(unsigned char)in.p[i] & 15];
    }
    return done(in, buf, d, out);
}

// A digit as mod_security2 reads it without a look whether it is one.
static int loose_hex(char c)
{
    int v = (unsigned char)c;
    return v >= 'A' ? (v & 0xdf) - 'A' + 10 : v - '0';
}

static bool hex_decode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n / 2 + 1), *d = buf;
    for (size_t i = 0; i + 1 < in.n; i += 2) {
        *d++ = (char)(loose_hex(in.p[i]) * 16 + loose_hex(in.p[i + 1]));
    }
    return done(in, buf, d, out);
}

static bool sql_hex_decode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 1), *d = buf;
    for (size_t i = 0; i < in.n;) {
        if (in.n - i >= 4 && in.p[i] == '0' && (in.p[i + 1] | 32) == 'x' &&
            is_hex(in.p + i + 2, 2)) {
            for (i += 2; in.n - i >= 2 && is_hex(in.p + i, 2); i += 2) {
                *d++ = (char)hex_pair(in.p + i);
            }
        } else {
            *d++ = in.p[i++];
        }
    }
    return done(in, buf, d, out);
}

static int base64_value(unsigned char c)
{
    if (waf_is_alpha(c)) {
        return c >= 'a' ? c - 'a' + 26 : c - 'A';
    }
    return waf_is_digit(c) ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

// One digit of base64 after another. @return the end of what was written
static char *base64_add(char *d, unsigned *bits, unsigned *have, unsigned v)
{
    *bits = *bits << 6 | v;
    *have += 6;
    if (*have >= 8) {
        *have -= 8;
        *d++ = (char)(*bits >> *have);
    }
    return d;
}

static bool base64_decode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 4), *d = buf;
    unsigned bits = 0, have = 0;
    for (size_t i = 0; i < in.n && base64_value((unsigned char)in.p[i]) >= 0; i++) {
        d = base64_add(d, &bits, &have, (unsigned)base64_value((unsigned char)in.p[i]));
    }
    return done(in, buf, d, out);
}

// Goes over what is no base64, and over '=' but where a digit of four stands alone before it.
static bool base64_decode_ext(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    char *buf = waf_alloc(a, in.n + 4), *d = buf;
    unsigned bits = 0, have = 0, digits = 0;
    for (size_t i = 0; i < in.n; i++) {
        int v = base64_value((unsigned char)in.p[i]);
        bool is_last = i + 1 == in.n;
        if (in.p[i] == '=' && digits % 4 == 1 && (is_last || in.p[i + 1] != '=')) {
            d = buf; // cut off: no base64
            break;
        }
        if (v >= 0) {
            d = base64_add(d, &bits, &have, (unsigned)v);
            digits++;
        }
    }
    return done(in, buf, d, out);
}

static bool base64_encode(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *buf = waf_alloc(a, in.n / 3 * 4 + 5), *d = buf;
    for (size_t i = 0; i < in.n; i += 3) {
        size_t left = in.n - i;
        unsigned v = (unsigned)(unsigned char)in.p[i] << 16;
        v |= left > 1 ? (unsigned)(unsigned char)in.p[i + 1] << 8 : 0;
        v |= left > 2 ? (unsigned char)in.p[i + 2] : 0;
        *d++ = digits[v >> 18];
        *d++ = digits[v >> 12 & 63];
        *d++ = left > 1 ? digits[v >> 6 & 63] : '=';
        *d++ = left > 2 ? digits[v & 63] : '=';
    }
    return done(in, buf, d, out);
}

static bool length(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    *out = waf_printf(a, "%zu", in.n);
    return true;
}

static bool md5(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    unsigned char *d = waf_alloc(a, 16);
    waf_md5(in, d);
    *out = (struct waf_str){(char *)d, 16};
    return true;
}

static bool sha1(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    unsigned char *d = waf_alloc(a, 20);
    waf_sha1(in, d);
    *out = (struct waf_str){(char *)d, 20};
    return true;
}

static bool trim_with(struct waf_str in, struct waf_str *out, bool left, bool right)
{
    struct waf_str s = in;
    while (left && s.n != 0 && waf_is_space((unsigned char)s.p[0])) {
        s.p++;
        s.n--;
    }
    while (right && s.n != 0 && waf_is_space((unsigned char)s.p[s.n - 1])) {
        s.n--;
    }
    if (s.n == in.n) {
        return false;
    }
    *out = s;
    return true;
}

static bool trim(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    (void)a;
    return trim_with(in, out, true, true);
}

static bool trim_left(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    (void)a;
    return trim_with(in, out, true, false);
}

static bool trim_right(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    (void)a;
    return trim_with(in, out, false, true);
}

enum parity { PARITY_ZERO, PARITY_EVEN, PARITY_ODD };

static bool parity_with(struct waf_arena *a, struct waf_str in, struct waf_str *out, enum parity to)
{
    char *buf = waf_alloc(a, in.n + 1);
    for (size_t i = 0; i < in.n; i++) {
        unsigned c = (unsigned char)in.p[i] & 0x7f;
        bool odd = __builtin_parity((unsigned char)in.p[i]) != 0; // of all eight bits, as it came
        bool set = to == PARITY_EVEN ? odd : to == PARITY_ODD ? !odd : false;
        buf[i] = (char)(set ? c | 0x80 : c);
    }
    return done(in, buf, buf + in.n, out);
}

static bool parity_zero(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return parity_with(a, in, out, PARITY_ZERO);
}

static bool parity_even(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return parity_with(a, in, out, PARITY_EVEN);
}

static bool parity_odd(struct waf_arena *a, struct waf_str in, struct waf_str *out)
{
    return parity_with(a, in, out, PARITY_ODD);
}

static const struct waf_transform transforms[] = {
#define TRANSFORM(name, fn, marks, folded) {#name, fn, marks, folded},
#include "waf/transform.def"
#undef TRANSFORM
};

size_t waf_transform_count(void)
{
    return sizeof transforms / sizeof transforms[0];
}

const struct waf_transform *waf_transform_at(size_t i)
{
    return &transforms[i];
}

const struct waf_transform *waf_transform_find(struct waf_str name)
{
    for (size_t i = 0; i < waf_transform_count(); i++) {
        if (waf_ieq(waf_cstr(transforms[i].name), name)) {
            return &transforms[i];
        }
    }
    return NULL;
}

unsigned waf_marks_of(unsigned char c)
{
    static const struct {
        const char *bytes;
        unsigned mark;
    } table[] = {{"%", WAF_MARK_PERCENT},    {"+", WAF_MARK_PLUS},  {"&", WAF_MARK_AMP},
                 {"\\", WAF_MARK_BACKSLASH}, {"/", WAF_MARK_SLASH}, {"\"'^,;", WAF_MARK_QUOTE},
                 {"-", WAF_MARK_DASH},       {"#", WAF_MARK_HASH},  {"*", WAF_MARK_STAR},
                 {".", WAF_MARK_DOT},        {"xX", WAF_MARK_X}};
    unsigned marks = c == 0 ? WAF_MARK_NUL : 0;
    for (size_t i = 0; c != 0 && i < sizeof table / sizeof table[0]; i++) {
        marks |= strchr(table[i].bytes, c) != NULL ? table[i].mark : 0;
    }
    marks |= c >= 0x80 ? WAF_MARK_HIGH : 0;
    marks |= c == 0xa0 ? WAF_MARK_NBSP : 0;
    marks |= waf_is_space(c) ? WAF_MARK_SPACE : 0;
    marks |= c >= 'A' && c <= 'Z' ? WAF_MARK_UPPER : 0;
    marks |= c >= 'a' && c <= 'z' ? WAF_MARK_LOWER : 0;
    return marks;
}
