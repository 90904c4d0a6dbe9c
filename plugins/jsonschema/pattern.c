/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "jsonschema/pattern.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MATCH_LIMIT 100000
#define HEAP_LIMIT_KIB 4096
#define SOURCE_MAX ((size_t)16 << 10)

struct jsc_pattern {
    pcre2_code *code;
    bool is_jit;
    struct moon_slice prefix; // `^` and plain bytes, and nothing more: compared instead; lent
    char bytes[];
};

static pcre2_match_context *limits;
static pcre2_match_data *data;

bool jsc_pattern_open(void)
{
    limits = pcre2_match_context_create(NULL);
    data = pcre2_match_data_create(1, NULL);
    if (limits == NULL || data == NULL) {
        return false;
    }
    (void)pcre2_set_match_limit(limits, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(limits, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(limits, HEAP_LIMIT_KIB);
    return true;
}

void jsc_pattern_close(void)
{
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
    data = NULL;
    limits = NULL;
}

// What ECMA-262 takes for space, as the inside of a class.
#define SPACES                                                                                     \
    "\\x09-\\x0D\\x20\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"               \
    "\\x{205F}\\x{3000}\\x{FEFF}"
#define NO_SPACES                                                                                  \
    "\\x00-\\x08\\x0E-\\x1F\\x21-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}"                      \
    "\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}"                 \
    "\\x{3001}-\\x{FEFE}\\x{FF00}-\\x{10FFFF}"

struct out {
    char *at;
    char *end;
};

static bool put(struct out *o, const char *bytes, size_t len)
{
    if ((size_t)(o->end - o->at) <= len) {
        return false;
    }
    memcpy(o->at, bytes, len);
    o->at += len;
    return true;
}

static bool put_text(struct out *o, const char *text)
{
    return put(o, text, strlen(text));
}

static const struct {
    const char *name;
    const char *property;
} PROPERTIES[] = {
    {"Letter", "L"},
    {"Lowercase_Letter", "Ll"},
    {"Uppercase_Letter", "Lu"},
    {"Titlecase_Letter", "Lt"},
    {"Modifier_Letter", "Lm"},
    {"Other_Letter", "Lo"},
    {"Mark", "M"},
    {"Number", "N"},
    {"Decimal_Number", "Nd"},
    {"digit", "Nd"},
    {"Letter_Number", "Nl"},
    {"Punctuation", "P"},
    {"punct", "P"},
    {"Symbol", "S"},
    {"Separator", "Z"},
    {"Space_Separator", "Zs"},
    {"Other", "C"},
    {"Control", "Cc"},
    {"Alphabetic", "Alphabetic"},
    {"ASCII", "ASCII"},
};

// \p{…}: `at` stands at the brace. @return bytes read, 0 where it is no property
static size_t put_property(struct out *o, const char *at, const char *end, char letter)
{
    const char *stop = memchr(at, '}', (size_t)(end - at));
    if (*at != '{' || stop == NULL || stop - at > 64) {
        return 0;
    }
    const char *name = at + 1;
    const char *equals = memchr(name, '=', (size_t)(stop - name));
    if (equals != NULL) {
        name = equals + 1; // Script=, sc=, General_Category=, gc=
    }
    int len = (int)(stop - name);
    for (size_t i = 0; i < sizeof PROPERTIES / sizeof *PROPERTIES; i++) {
        if (strlen(PROPERTIES[i].name) == (size_t)len &&
            memcmp(PROPERTIES[i].name, name, (size_t)len) == 0) {
            name = PROPERTIES[i].property;
            len = (int)strlen(name);
            break;
        }
    }
    char text[80];
    int n = snprintf(text, sizeof text, "\\%c{%.*s}", letter, len, name);
    return put(o, text, (size_t)n) ? (size_t)(stop - at) + 1 : 0;
}

static bool is_hex(const char *at, const char *end, int count)
{
    for (int i = 0; i < count; i++) {
        if (at + i >= end || strchr("0123456789abcdefABCDEF", at[i]) == NULL || at[i] == '\0') {
            return false;
        }
    }
    return true;
}

// \uXXXX, a pair of them, or \u{X…}. @return bytes read after the `u`
static size_t put_unicode(struct out *o, const char *at, const char *end)
{
    char text[24];
    int n;
    const char *stop = at < end && *at == '{' ? memchr(at, '}', (size_t)(end - at)) : NULL;
    if (stop != NULL && stop - at >= 2 && stop - at <= 8) {
        n = snprintf(text, sizeof text, "\\x%.*s", (int)(stop - at) + 1, at);
        return put(o, text, (size_t)n) ? (size_t)(stop - at) + 1 : 0;
    }
    if (!is_hex(at, end, 4)) {
        return 0;
    }
    char digits[5] = {at[0], at[1], at[2], at[3], 0};
    unsigned long code = strtoul(digits, NULL, 16);
    size_t used = 4;
    if (code >= 0xD800 && code <= 0xDBFF && end - at >= 10 && at[4] == '\\' && at[5] == 'u' &&
        is_hex(at + 6, end, 4)) {
        memcpy(digits, at + 6, 4);
        unsigned long low = strtoul(digits, NULL, 16);
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        used = 10;
    }
    n = snprintf(text, sizeof text, "\\x{%lX}", code);
    return put(o, text, (size_t)n) ? used : 0;
}

// At the byte after a backslash. @return bytes read, 0: no escape of ECMA-262
static size_t put_escape(struct out *o, const char *at, const char *end, bool is_in_class)
{
    char text[24];
    size_t used;
    switch (*at) {
    case 's':
        return put_text(o, is_in_class ? SPACES : "[" SPACES "]") ? 1 : 0;
    case 'S':
        return put_text(o, is_in_class ? NO_SPACES : "[" NO_SPACES "]") ? 1 : 0;
    case 'p':
    case 'P':
        used = end - at > 1 ? put_property(o, at + 1, end, *at) : 0;
        return used == 0 ? 0 : used + 1;
    case 'u':
        used = put_unicode(o, at + 1, end);
        return used == 0 ? 0 : used + 1;
    case 'x':
        return is_hex(at + 1, end, 2) && put(o, "\\", 1) && put(o, at, 3) ? 3 : 0;
    case 'c':
        if (end - at < 2 || (((unsigned char)at[1] | 0x20U) - 'a') > 25) {
            return 0;
        }
        (void)snprintf(text, sizeof text, "\\x%02X", at[1] & 0x1F);
        return put_text(o, text) ? 2 : 0;
    case 'v':
        return put_text(o, "\\x0B") ? 1 : 0;
    case '0':
        return put_text(o, "\\x00") ? 1 : 0;
    case 'a':
    case 'e':
    case 'h':
    case 'A':
    case 'C':
    case 'E':
    case 'G':
    case 'H':
    case 'K':
    case 'L':
    case 'N':
    case 'Q':
    case 'R':
    case 'U':
    case 'V':
    case 'X':
    case 'Z':
    case 'z':
        return 0;
    default:
        break;
    }
    return put(o, "\\", 1) && put(o, at, 1) ? 1 : 0;
}

static const char *translate(struct moon_slice source, struct out *o)
{
    const char *at = source.data, *end = source.data + source.len;
    bool is_in_class = false;
    while (at < end) {
        bool is_put = true;
        if (*at == '\\') {
            size_t used = ++at < end ? put_escape(o, at, end, is_in_class) : 0;
            if (used == 0) {
                return "an escape that ECMA-262 does not have";
            }
            at += used;
            continue;
        }
        if (is_in_class && *at == '[') {
            is_put = put(o, "\\[", 2); // no POSIX classes
        } else if (!is_in_class && *at == '(' && end - at > 1 && at[1] == '*') {
            return "a quantifier without what it counts";
        } else if (!is_in_class && *at == '(' && end - at > 1 && at[1] == '?' &&
                   (end - at < 3 || at[2] == '\0' || strchr(":=!<", at[2]) == NULL)) {
            return "a group that ECMA-262 does not have";
        } else {
            is_put = put(o, at, 1);
        }
        if (*at == '[' && !is_in_class) {
            is_in_class = true;
        } else if (*at == ']') {
            is_in_class = false;
        }
        if (!is_put) {
            return "the pattern is too long";
        }
        at++;
    }
    return NULL;
}

static bool is_plain_prefix(struct moon_slice source)
{
    if (source.len < 2 || source.data[0] != '^') {
        return false;
    }
    for (size_t i = 1; i < source.len; i++) {
        if (source.data[i] == '\0' || strchr("\\^$.|?*+()[]{}", source.data[i]) != NULL) {
            return false;
        }
    }
    return true;
}

struct jsc_pattern *jsc_pattern_new(struct moon_slice source, char *error, size_t room)
{
    struct jsc_pattern *p = NULL;
    char *text = NULL;
    if (source.len > SOURCE_MAX) {
        (void)snprintf(error, room, "the pattern is longer than 16 KiB");
        return NULL;
    }
    size_t cap = source.len * 24 + 256;
    text = malloc(cap);
    p = calloc(1, sizeof *p + source.len + 1);
    if (text == NULL || p == NULL) {
        (void)snprintf(error, room, "no memory is left");
        goto fail;
    }
    struct out o = {text, text + cap};
    const char *wrong = translate(source, &o);
    if (wrong != NULL) {
        (void)snprintf(error, room, "%s", wrong);
        goto fail;
    }
    int code;
    size_t at;
    p->code = pcre2_compile((PCRE2_SPTR)text, (size_t)(o.at - text),
                            PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_ALLOW_EMPTY_CLASS |
                                PCRE2_MATCH_UNSET_BACKREF | PCRE2_NEVER_BACKSLASH_C,
                            &code, &at, NULL);
    if (p->code == NULL) {
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)error, room);
        goto fail;
    }
    p->is_jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    if (is_plain_prefix(source)) {
        memcpy(p->bytes, source.data + 1, source.len - 1);
        p->prefix = (struct moon_slice){p->bytes, source.len - 1};
    }
    free(text);
    return p;
fail:
    free(text);
    free(p);
    return NULL;
}

void jsc_pattern_free(struct jsc_pattern *pattern)
{
    if (pattern != NULL) {
        pcre2_code_free(pattern->code);
        free(pattern);
    }
}

enum jsc_match jsc_pattern_match(const struct jsc_pattern *p, struct moon_slice text)
{
    if (p->prefix.len > 0) {
        bool is_match =
            text.len >= p->prefix.len && memcmp(text.data, p->prefix.data, p->prefix.len) == 0;
        return is_match ? JSC_MATCH_YES : JSC_MATCH_NO;
    }
    PCRE2_SPTR subject = (PCRE2_SPTR)(text.data != NULL ? text.data : "");
    // The reader has checked the UTF-8.
    int rc = p->is_jit
                 ? pcre2_jit_match(p->code, subject, text.len, 0, 0, data, limits)
                 : pcre2_match(p->code, subject, text.len, 0, PCRE2_NO_UTF_CHECK, data, limits);
    if (rc >= 0) {
        return JSC_MATCH_YES;
    }
    return rc == PCRE2_ERROR_NOMATCH ? JSC_MATCH_NO : JSC_MATCH_LIMIT;
}
