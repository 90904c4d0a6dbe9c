// SPDX-License-Identifier: Apache-2.0
// JSON bodies: strict (RFC 8259), one pass, every scalar an argument named by its path. For the
// profile for APIs, documents of JSON that an argument holds: their texts.
#include "waf/waf.h"

enum { INNER_DEPTH_MAX = 32 };

struct level {
    size_t prefix_n; // length of the path when this level was entered
    size_t key_n;    // .. and of its last key
    bool is_array;
};

struct json {
    struct waf_tx *tx;
    const char *p, *end;
    char *path; // "a.b"
    size_t path_n, path_cap;
    size_t key_n; // length of the last key on it
    struct level *levels;
    size_t depth, depth_max;
    bool is_inner; // within an argument: what is wrong is no error of the body
};

enum { CUT_BYTES = 12 }; // the longest that has to be seen whole: "\\ud83d\\ude00"

// Whether we are where the limit of inspection cut the body off: what is wrong there is the cut's.
static bool at_cut(const struct json *j)
{
    return !j->is_inner && j->tx->body_over_limit && j->end - j->p < CUT_BYTES;
}

static bool fail(struct json *j, const char *what)
{
    if (j->is_inner || at_cut(j)) {
        return false;
    }
    waf_body_error(j->tx, "JSON parsing error: %s at offset %zu", what,
                   j->tx->body_n - (size_t)(j->end - j->p));
    return false;
}

static void skip_blanks(struct json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r')) {
        j->p++;
    }
}

static void path_push(struct json *j, struct waf_str key)
{
    size_t need = j->path_n + key.n + 1;
    if (need > j->path_cap) {
        size_t cap = need * 2;
        char *more = waf_alloc(&j->tx->arena, cap);
        memcpy(more, j->path, j->path_n);
        j->path = more;
        j->path_cap = cap;
    }
    if (j->path_n != 0) {
        j->path[j->path_n++] = '.';
    }
    memcpy(j->path + j->path_n, key.p, key.n);
    j->path_n += key.n;
    j->key_n = key.n;
}

static void emit(struct json *j, struct waf_str value)
{
    if (j->is_inner && j->tx->args.n >= j->tx->rules->options.arguments_limit) {
        return;
    }
    waf_arg_add(j->tx, waf_dup(&j->tx->arena, (struct waf_str){j->path, j->path_n}), value,
                WAF_FROM_JSON);
}

// A number, a word: within an argument only for the name that it has.
static void emit_bare(struct json *j, struct waf_str value)
{
    if (!j->is_inner || (j->depth > 0 && !j->levels[j->depth - 1].is_array)) {
        emit(j, value);
    }
}

static size_t utf8_put(char *d, unsigned c)
{
    if (c < 0x80) {
        d[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        d[0] = (char)(0xc0 | c >> 6);
        d[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        d[0] = (char)(0xe0 | c >> 12);
        d[1] = (char)(0x80 | (c >> 6 & 0x3f));
        d[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    d[0] = (char)(0xf0 | c >> 18);
    d[1] = (char)(0x80 | (c >> 12 & 0x3f));
    d[2] = (char)(0x80 | (c >> 6 & 0x3f));
    d[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

static bool hex4(struct json *j, unsigned *v)
{
    *v = 0;
    if (j->end - j->p < 4) {
        return false;
    }
    for (int i = 0; i < 4; i++) {
        int h = waf_hex((unsigned char)*j->p++);
        if (h < 0) {
            return false;
        }
        *v = *v * 16 + (unsigned)h;
    }
    return true;
}

// After a backslash. A lone surrogate becomes '?', as yajl has it.
static bool read_escape(struct json *j, char **d)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (j->p == j->end) {
        return fail(j, "unfinished escape");
    }
    char c = *j->p++;
    const char *at = c == '\0' ? NULL : strchr(from, c);
    if (at != NULL) {
        *(*d)++ = to[at - from];
        return true;
    }
    unsigned v, low;
    if (c != 'u' || !hex4(j, &v)) {
        return fail(j, "bad escape");
    }
    if (v >= 0xd800 && v < 0xdc00) {
        const char *back = j->p;
        if (j->end - j->p >= 6 && j->p[0] == '\\' && j->p[1] == 'u') {
            j->p += 2;
            if (!hex4(j, &low)) {
                return fail(j, "bad escape");
            }
            if (low >= 0xdc00 && low < 0xe000) {
                *d += utf8_put(*d, 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00));
                return true;
            }
            j->p = back;
        }
        *(*d)++ = '?';
        return true;
    }
    if (v >= 0xdc00 && v < 0xe000) {
        *(*d)++ = '?';
        return true;
    }
    *d += utf8_put(*d, v);
    return true;
}

// Steps over a byte of a string, or a character of several. What is no UTF-8 by its form is no JSON.
static bool step(struct json *j)
{
    const unsigned char *p = (const unsigned char *)j->p;
    size_t more = p[0] < 0x80 ? 0 : p[0] < 0xc0 ? SIZE_MAX : p[0] < 0xe0 ? 1 : p[0] < 0xf0 ? 2 : 3;
    if (p[0] < 32) {
        return fail(j, "control character in string");
    }
    if (more != SIZE_MAX && more >= (size_t)(j->end - j->p) && at_cut(j)) {
        j->p = j->end;
        return true;
    }
    if (p[0] >= 0xf8 || more >= (size_t)(j->end - j->p)) {
        return fail(j, "invalid UTF-8 in string");
    }
    for (size_t i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return fail(j, "invalid UTF-8 in string");
        }
    }
    j->p += 1 + more;
    return true;
}

// After the opening quote.
static bool read_string(struct json *j, struct waf_str *out)
{
    const char *start = j->p;
    while (j->p < j->end && *j->p != '"' && *j->p != '\\') {
        if (*j->p >= 32) { // plain ASCII; other bytes are negative, or control
            j->p++;
        } else if (!step(j)) {
            return false;
        }
    }
    if (j->p == j->end && at_cut(j)) { // what there is of it is looked at
        *out = (struct waf_str){start, (size_t)(j->p - start)};
        return true;
    }
    if (j->p == j->end) {
        return fail(j, "unfinished string");
    }
    if (*j->p == '"') {
        *out = (struct waf_str){start, (size_t)(j->p++ - start)};
        return true;
    }
    const char *stop = j->p;
    while (stop < j->end && *stop != '"') {
        stop += *stop == '\\' && j->end - stop > 1 ? 2 : 1;
    }
    char *buf = waf_alloc(&j->tx->arena, (size_t)(stop - start) + 4), *d = buf;
    d = (char *)mempcpy(d, start, (size_t)(j->p - start));
    while (j->p < j->end && *j->p != '"') {
        if (*j->p == '\\') {
            j->p++;
            if (!read_escape(j, &d)) {
                if (!at_cut(j)) {
                    return false;
                }
                j->p = j->end;
            }
        } else {
            const char *from = j->p;
            if (!step(j)) {
                return false;
            }
            d = (char *)mempcpy(d, from, (size_t)(j->p - from));
        }
    }
    if (j->p == j->end && !at_cut(j)) {
        return fail(j, "unfinished string");
    }
    j->p += j->p < j->end;
    *out = (struct waf_str){buf, (size_t)(d - buf)};
    return true;
}

static bool digits(struct json *j)
{
    const char *start = j->p;
    while (j->p < j->end && waf_is_digit((unsigned char)*j->p)) {
        j->p++;
    }
    return j->p > start;
}

static bool read_number(struct json *j)
{
    const char *start = j->p;
    j->p += *j->p == '-';
    if (j->p < j->end && *j->p == '0') {
        j->p++;
    } else if (!digits(j)) {
        return fail(j, "bad number");
    }
    if (j->p < j->end && *j->p == '.') {
        j->p++;
        if (!digits(j)) {
            return fail(j, "bad number");
        }
    }
    if (j->p < j->end && (*j->p | 32) == 'e') {
        j->p++;
        j->p += j->p < j->end && (*j->p == '+' || *j->p == '-');
        if (!digits(j)) {
            return fail(j, "bad number");
        }
    }
    emit_bare(j, (struct waf_str){start, (size_t)(j->p - start)});
    return true;
}

static bool read_word(struct json *j, const char *word, struct waf_str value)
{
    size_t n = strlen(word);
    if ((size_t)(j->end - j->p) < n || memcmp(j->p, word, n) != 0) {
        return fail(j, "unknown word");
    }
    j->p += n;
    emit_bare(j, value);
    return true;
}

static bool enter(struct json *j, bool is_array)
{
    if (j->depth == j->depth_max) {
        return fail(j, "too deep");
    }
    j->levels[j->depth++] = (struct level){j->path_n, j->key_n, is_array};
    j->p++;
    return true;
}

enum step { STEP_FAIL, STEP_VALUE, STEP_AFTER };

// Reads `"key" :` and puts the key on the path.
static enum step read_key(struct json *j)
{
    struct waf_str key;
    skip_blanks(j);
    if (j->p == j->end || *j->p != '"') {
        fail(j, "key expected");
        return STEP_FAIL;
    }
    j->p++;
    if (!read_string(j, &key)) {
        return STEP_FAIL;
    }
    skip_blanks(j);
    if (j->p == j->end || *j->p != ':') {
        fail(j, "colon expected");
        return STEP_FAIL;
    }
    j->p++;
    j->path_n = j->levels[j->depth - 1].prefix_n;
    path_push(j, key);
    return STEP_VALUE;
}

static enum step open_container(struct json *j, bool is_array)
{
    if (!enter(j, is_array)) {
        return STEP_FAIL;
    }
    skip_blanks(j);
    if (j->p < j->end && *j->p == (is_array ? ']' : '}')) {
        j->p++;
        j->depth--;
        return STEP_AFTER;
    }
    if (!is_array) {
        return read_key(j);
    }
    // As mod_security2 names them: an array is entered by its key, and its members have it again.
    if (j->depth == 1) {
        path_push(j, WAF_LIT("array"));
    }
    path_push(j,
              waf_dup(&j->tx->arena, (struct waf_str){j->path + j->path_n - j->key_n, j->key_n}));
    return STEP_VALUE;
}

static enum step read_value(struct json *j)
{
    struct waf_str s;
    skip_blanks(j);
    if (j->p == j->end) {
        fail(j, "value expected");
        return STEP_FAIL;
    }
    bool ok;
    switch (*j->p) {
    case '{':
        return open_container(j, false);
    case '[':
        return open_container(j, true);
    case '"':
        j->p++;
        ok = read_string(j, &s);
        if (ok) {
            emit(j, s);
        }
        break;
    case 't':
        ok = read_word(j, "true", WAF_LIT("true"));
        break;
    case 'f':
        ok = read_word(j, "false", WAF_LIT("false"));
        break;
    case 'n':
        ok = read_word(j, "null", WAF_LIT(""));
        break;
    default:
        ok = (*j->p == '-' || waf_is_digit((unsigned char)*j->p)) ? read_number(j)
                                                                  : fail(j, "value expected");
    }
    return ok ? STEP_AFTER : STEP_FAIL;
}

// After a value: a comma and the next one, or the end of what holds it.
static enum step read_after(struct json *j, bool *over)
{
    skip_blanks(j);
    if (j->depth == 0) {
        *over = true;
        return j->is_inner || j->p == j->end || fail(j, "something after the value") ? STEP_AFTER
                                                                                     : STEP_FAIL;
    }
    struct level *l = &j->levels[j->depth - 1];
    if (j->p < j->end && *j->p == ',') {
        j->p++;
        return l->is_array ? STEP_VALUE : read_key(j);
    }
    if (j->p < j->end && *j->p == (l->is_array ? ']' : '}')) {
        j->p++;
        j->path_n = l->prefix_n;
        j->key_n = l->key_n;
        j->depth--;
        return STEP_AFTER;
    }
    fail(j, "comma or end expected");
    return STEP_FAIL;
}

static bool read_document(struct json *j)
{
    enum step step = STEP_VALUE;
    bool over = false;
    while (step != STEP_FAIL && !over) {
        step = step == STEP_VALUE ? read_value(j) : read_after(j, &over);
    }
    return step != STEP_FAIL;
}

void waf_body_json(struct waf_tx *tx, struct waf_str body)
{
    struct json j = {.tx = tx, .p = body.p, .end = body.p + body.n, .path_cap = 256};
    if (body.n == 0) {
        return;
    }
    j.depth_max = tx->rules->options.json_depth;
    j.levels = waf_alloc(&tx->arena, sizeof *j.levels * (j.depth_max + 1));
    j.path = waf_alloc(&tx->arena, j.path_cap);
    (void)read_document(&j);
}

struct waf_str waf_json_inner(struct waf_tx *tx, struct waf_str name, struct waf_str text)
{
    struct level levels[INNER_DEPTH_MAX + 1];
    struct json j = {.tx = tx,
                     .p = text.p,
                     .end = text.p + text.n,
                     .path_cap = name.n + 128,
                     .path_n = name.n,
                     .levels = levels,
                     .depth_max = INNER_DEPTH_MAX,
                     .is_inner = true};
    j.path = memcpy(waf_alloc(&tx->arena, j.path_cap), name.p, name.n);
    const char *left = text.p;
    while (j.p < j.end && (*j.p == '{' || *j.p == '[') && read_document(&j)) {
        skip_blanks(&j);
        left = j.p;
        j.path_n = name.n;
    }
    return (struct waf_str){left, (size_t)(j.end - left)};
}
