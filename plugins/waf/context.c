// SPDX-License-Identifier: Apache-2.0
// What the profile for APIs (SecMoonValues On) sees in values beside their bytes: texts in base64 or
// encoded twice are arguments of their own, beside the one that holds them; prose is told from
// input of machines, and kept apart; path and header values count as arguments.
#include "waf/waf.h"

enum {
    DEPTH_MAX = 3,     // encodings inside one another
    BASE64_LEAST = 12, // shorter texts are names, ids, words
    DATA_LABEL_MAX = 48,
    BASE64_SHORT = 6, // .. but for what begins with a mark
};

void waf_context_xml(struct waf_tx *tx, struct waf_str body)
{
    static const char *const MARKS[] = {"<!DOCTYPE",       "<!ENTITY",    "encoding=\"UTF-7",
                                        "encoding='UTF-7", "<xs:include", "<xi:include"};
    for (size_t i = 0; i < sizeof MARKS / sizeof MARKS[0]; i++) {
        const char *at = body.n == 0 ? NULL : memmem(body.p, body.n, MARKS[i], strlen(MARKS[i]));
        if (at != NULL) {
            size_t left = (size_t)(body.p + body.n - at);
            waf_arg_add(tx, WAF_LIT("xml.dtd"), (struct waf_str){at, left < 256 ? left : 256},
                        WAF_FROM_BODY);
            return;
        }
    }
}

static const struct waf_str PATH = {"url.path", 8};

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80 || c == '\'';
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' || c == '-' || c == ' ' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

// Binary data decodes to anything; text does to text. @return false when it is no text
static bool is_text(struct waf_str s)
{
    bool has_mark = false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == 0x7F || (c < 0x20 && c != '\t' && c != '\r' && c != '\n')) {
            return false;
        }
        if (c >= 0x80) {
            size_t more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : c >= 0xC2 ? 1 : s.n;
            if (more > s.n - i - 1) {
                return false;
            }
            for (; more > 0; more--) {
                if (((unsigned char)s.p[++i] & 0xC0) != 0x80) {
                    return false;
                }
            }
        }
        has_mark |= c < 0x80 && !waf_is_digit(c) && !is_letter(c);
    }
    return has_mark;
}

// Few bytes are text by chance; that they begin with a mark as well, as what breaks out of something
// does, they hardly are: "| id", "{{7*7}}".
static bool begins_with_mark(struct waf_str s)
{
    int high = base64_digit(s.p[0]), low = base64_digit(s.p[1]);
    unsigned char first = 'a';
    if (high >= 0 && low >= 0)
        first = (unsigned char)(high << 2 | low >> 4);
    return !waf_is_digit(first) && (first == '\'' || !is_letter(first));
}

// Base64 as it stands, or as the data of a URI: "data:text/html;base64,…".
static bool base64_text(struct waf_tx *tx, struct waf_str s, struct waf_str *out)
{
    static const struct waf_str LABEL = {";base64,", 8};
    if (s.n > 5 && memcmp(s.p, "data:", 5) == 0 && !waf_is_data_image(s)) {
        size_t within = s.n < DATA_LABEL_MAX ? s.n : DATA_LABEL_MAX;
        const char *at = memmem(s.p, within, LABEL.p, LABEL.n);
        size_t skipped = at == NULL ? 0 : (size_t)(at - s.p) + LABEL.n;
        s = (struct waf_str){s.p + skipped, s.n - skipped};
    }
    while (s.n > 0 && s.p[s.n - 1] == '=') {
        s.n--;
    }
    if (s.n < BASE64_SHORT || s.n % 4 == 1 || (s.n < BASE64_LEAST && !begins_with_mark(s))) {
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (base64_digit(s.p[i]) < 0) {
            return false;
        }
    }
    char *p = waf_alloc(&tx->arena, s.n);
    unsigned bits = 0, have = 0;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        bits = (bits << 6 | (unsigned)base64_digit(s.p[i])) & 0xFFFFFF;
        have += 6;
        if (have >= 8) {
            have -= 8;
            p[n++] = (char)(bits >> have);
        }
    }
    *out = (struct waf_str){p, n};
    return is_text(*out);
}

// @return whether an escape was there
static bool percent_text(struct waf_tx *tx, struct waf_str s, struct waf_str *out)
{
    size_t n = 0;
    char *p = NULL;
    for (size_t i = 0; i < s.n; i++) {
        int hi = s.p[i] == '%' && i + 2 < s.n ? waf_hex((unsigned char)s.p[i + 1]) : -1;
        int lo = hi >= 0 ? waf_hex((unsigned char)s.p[i + 2]) : -1;
        if (lo >= 0 && p == NULL) {
            p = waf_alloc(&tx->arena, s.n);
            memcpy(p, s.p, i);
            for (size_t k = 0; k < i; k++) {
                p[k] = p[k] == '+' ? ' ' : p[k];
            }
            n = i;
        }
        if (p != NULL) {
            p[n++] = lo >= 0 ? (char)(hi * 16 + lo) : s.p[i] == '+' ? ' ' : s.p[i];
        }
        i += lo >= 0 ? 2 : 0;
    }
    *out = (struct waf_str){p, n};
    return p != NULL;
}

// Whether rules for machines need not see the value; what its markup holds is added by itself.
static bool is_apart(struct waf_tx *tx, struct waf_str name, struct waf_str value,
                     enum waf_origin origin, struct waf_vec *parts)
{
    return waf_is_prose(value) || waf_is_data_image(value) || waf_is_condition(value) ||
           waf_is_directory_filter(value) || waf_is_named_text(name, value, origin) ||
           waf_is_harmless_markup(tx, value, parts) || waf_is_reference(tx, value, parts) ||
           waf_is_listing(value) || (waf_is_command_line(value) && !waf_has_target(value));
}

static void add_parts(struct waf_tx *tx, struct waf_str name, const struct waf_vec *parts,
                      enum waf_origin origin)
{
    for (uint32_t i = 0; i < parts->n && tx->args.n < tx->rules->options.arguments_limit; i++) {
        struct waf_str part = *WAF_AT(parts, struct waf_str, i);
        struct waf_arg *a = waf_push(&tx->arena, &tx->args, sizeof *a);
        *a = (struct waf_arg){.name = waf_text_new(tx, name, WAF_REQUEST),
                              .value = waf_text_new(tx, part, WAF_REQUEST),
                              .origin = origin,
                              .is_prose = waf_is_prose(part)};
    }
}

// What decides what a value is: of a path, what its first segments lead to that are names alone.
static struct waf_str decisive_part(struct waf_str name, struct waf_str path)
{
    if (name.p != PATH.p) {
        return path;
    }
    size_t start = 0;
    for (size_t i = 0; i < path.n; i++) {
        char c = path.p[i];
        bool is_up = c == '.' && i + 1 < path.n && path.p[i + 1] == '.';
        if (is_up || (!is_letter((unsigned char)c) && !waf_is_digit((unsigned char)c) &&
                      memchr("._-/", c, 4) == NULL)) {
            break;
        }
        start = c == '/' ? i + 1 : start;
    }
    return (struct waf_str){path.p + start, path.n - start};
}

static void add(struct waf_tx *tx, struct waf_str name, struct waf_str value,
                enum waf_origin origin)
{
    struct waf_vec parts = {0};
    struct waf_str decisive = decisive_part(name, value), inner;
    if (percent_text(tx, decisive, &inner)) {
        decisive = inner;
    }
    bool apart = is_apart(tx, name, decisive, origin, &parts);
    if (tx->args.n < tx->rules->options.arguments_limit) {
        struct waf_arg *a = waf_push(&tx->arena, &tx->args, sizeof *a);
        *a = (struct waf_arg){.name = waf_text_new(tx, name, WAF_REQUEST),
                              .value = waf_text_new(tx, value, WAF_REQUEST),
                              .origin = origin,
                              .is_prose = apart};
    }
    if (apart) {
        add_parts(tx, name, &parts, origin);
    }
}

// The name below `name` of the text whose quote is at `at`: what stands before it with a colon, as in
// GraphQL's "user(name: \"x\")".
static struct waf_str name_before(struct waf_tx *tx, struct waf_str name, struct waf_str s,
                                  size_t at)
{
    while (at > 0 && waf_is_space((unsigned char)s.p[at - 1])) {
        at--;
    }
    size_t end = at > 0 && s.p[at - 1] == ':' ? at - 1 : 0, start = end;
    while (start > 0 && (is_letter((unsigned char)s.p[start - 1]) || s.p[start - 1] == '_' ||
                         waf_is_digit((unsigned char)s.p[start - 1]))) {
        start--;
    }
    return start == end ? name
                        : waf_printf(&tx->arena, "%.*s.%.*s", (int)name.n, name.p,
                                     (int)(end - start), s.p + start);
}

// Each quoted text of a document as an argument, without its quotes.
static void add_strings(struct waf_tx *tx, struct waf_str name, struct waf_str s,
                        enum waf_origin origin)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '"') {
            continue;
        }
        struct waf_str own = name_before(tx, name, s, i);
        size_t start = ++i;
        while (i < s.n && s.p[i] != '"') {
            i += s.p[i] == '\\' && i + 1 < s.n ? 2 : 1;
        }
        size_t stop = i < s.n ? i : s.n;
        add(tx, own, (struct waf_str){s.p + start, stop - start}, origin);
    }
}

static bool is_json(struct waf_str s)
{
    size_t i = 1;
    while (i < s.n && waf_is_space((unsigned char)s.p[i])) {
        i++;
    }
    return s.n > 4 && i < s.n &&
           ((s.p[0] == '{' && s.p[i] == '"') ||
            (s.p[0] == '[' && (s.p[i] == '"' || s.p[i] == '{')));
}

// The texts of JSON under their paths below `name`; what is left where it ends early, as one more
// value of that name.
static void add_json(struct waf_tx *tx, struct waf_str name, struct waf_str s,
                     enum waf_origin origin)
{
    struct waf_str left = s;
    if (tx->inner_depth < DEPTH_MAX) {
        tx->inner_depth++;
        left = waf_json_inner(tx, name, s);
        tx->inner_depth--;
    }
    if (left.n == s.n) {
        add_strings(tx, name, s, origin); // of something alike
    } else if (left.n > 0) {
        add(tx, name, left, origin);
    }
}

// A document of GraphQL: its own words and braces, none of the marks of other languages.
static bool is_graphql(struct waf_str s)
{
    static const char *const WORDS[] = {"query", "mutation", "subscription", "fragment"};
    while (s.n > 0 && waf_is_space((unsigned char)s.p[0])) {
        s.p++;
        s.n--;
    }
    bool begins = s.n > 1 && s.p[0] == '{' &&
                  (waf_is_space((unsigned char)s.p[1]) || is_letter((unsigned char)s.p[1]));
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++) {
        size_t n = strlen(WORDS[i]);
        begins |= s.n > n && memcmp(s.p, WORDS[i], n) == 0 && !is_letter((unsigned char)s.p[n]);
    }
    if (!begins || memchr(s.p, '{', s.n) == NULL || memchr(s.p, '}', s.n) == NULL) {
        return false;
    }
    bool is_quoted = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        is_quoted ^= c == '"';
        if (!is_quoted && (c == '\0' || strchr(";`<>'\\%*/", c) != NULL)) {
            return false;
        }
    }
    return true;
}

/// Adds what `value` holds once decoded, under the same name: of a document its texts.
static void add_decoded(struct waf_tx *tx, struct waf_str name, struct waf_str value,
                        enum waf_origin origin)
{
    struct waf_str inner;
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        if (!percent_text(tx, value, &inner) && !base64_text(tx, value, &inner)) {
            return;
        }
        if (is_json(inner)) {
            add_json(tx, name, inner, origin);
            return;
        }
        add(tx, name, inner, origin);
        value = inner;
    }
}

void waf_context_arg(struct waf_tx *tx, struct waf_arg *arg)
{
    struct waf_str name = arg->name->s, value = arg->value->s, inner;
    enum waf_origin origin = arg->origin;
    if (is_graphql(value)) {
        arg->is_prose = true;
        add_strings(tx, name, value, origin); // moves `arg`
        return;
    }
    if (is_json(value) && memmem(value.p, value.n, "\"$", 2) == NULL) {
        arg->is_prose = true;
        add_json(tx, name, value, origin); // moves `arg`
        return;
    }
    struct waf_vec parts = {0};
    struct waf_str plain = percent_text(tx, value, &inner) ? inner : value;
    arg->is_prose = is_apart(tx, name, plain, origin, &parts);
    if (arg->is_prose) {
        add_parts(tx, name, &parts, origin); // moves `arg`
    }
    add_decoded(tx, name, value, origin);
    if (percent_text(tx, name, &inner) || base64_text(tx, name, &inner)) {
        add(tx, name, inner, origin);
    }
}

// Fields whose form is their standard's; what others hold is the application's to read.
static bool is_own_field(struct waf_str name)
{
    static const char STANDARD[] =
        " accept authorization baggage cache-control connection content-disposition "
        "content-encoding content-language "
        "content-length content-type cookie date digest dnt etag expect forwarded from host "
        "if-match "
        "if-modified-since if-none-match if-range if-unmodified-since keep-alive max-forwards "
        "origin pragma "
        "prefer priority proxy-authorization range referer save-data signature soapaction te "
        "traceparent "
        "tracestate trailer transfer-encoding upgrade upgrade-insecure-requests user-agent via "
        "want-digest "
        "x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip x-requested-with "
        "x-request-id "
        "x-amz-date x-amz-content-sha256 x-client-data x-api-key x-csrf-token x-xsrf-token ";
    char key[64] = {0};
    if (name.n > sizeof key - 2) {
        return true;
    }
    key[0] = ' ';
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        key[i + 1] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    key[name.n + 1] = ' ';
    return memmem(key, 5, " sec-", 5) == NULL && memmem(key, 8, " accept-", 8) == NULL &&
           memmem(key, 16, " access-control-", 16) == NULL &&
           memmem(STANDARD, sizeof STANDARD - 1, key, name.n + 2) == NULL;
}

void waf_context_request(struct waf_tx *tx)
{
    struct waf_str path = tx->path;
    for (size_t i = 0; i < path.n;) {
        while (i < path.n && path.p[i] == '/') {
            i++;
        }
        size_t start = i;
        while (i < path.n && path.p[i] != '/') {
            i++;
        }
        add_decoded(tx, PATH, (struct waf_str){path.p + start, i - start}, WAF_FROM_QUERY);
    }
    struct waf_str whole = {path.p + (path.n > 0), path.n - (path.n > 0)}, inner;
    if (whole.n > 0) {
        add(tx, PATH, whole, WAF_FROM_QUERY);
        if (percent_text(tx, whole, &inner) && memchr(inner.p, '/', inner.n) != NULL) {
            add_decoded(tx, PATH, whole, WAF_FROM_QUERY);
        } else if (memchr(whole.p, '/', whole.n) != NULL && base64_text(tx, whole, &inner)) {
            add_decoded(tx, PATH, whole, WAF_FROM_QUERY);
        }
    }
    for (uint32_t i = 0; i < tx->headers.n; i++) {
        const struct waf_header *h = WAF_AT(&tx->headers, struct waf_header, i);
        if (is_own_field(h->name)) {
            add(tx, waf_printf(&tx->arena, "header.%.*s", (int)h->name.n, h->name.p), h->value,
                WAF_FROM_QUERY);
            add_decoded(tx, h->name, h->value, WAF_FROM_QUERY);
        }
    }
}
