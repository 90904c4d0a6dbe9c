/* SPDX-License-Identifier: Apache-2.0 */
#include "json/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

// The longest number that is worth reading: more digits than a double can use, by far.
#define NUMBER_MAX 512

// Bytes that end the plain run inside a string: controls, the quote, the backslash, all above ASCII.
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

void json_reader_init(struct moon_json_reader *r, struct moon_slice text, char *scratch,
                      unsigned max_depth)
{
    r->start = text.data != NULL ? text.data : "";
    r->at = r->start;
    r->end = r->start + text.len;
    r->scratch = scratch;
    r->error = NULL;
    r->expect = MOON_JSON_EXPECT_VALUE;
    r->depth = 0;
    r->max_depth = max_depth <= MOON_JSON_MAX_DEPTH ? max_depth : MOON_JSON_MAX_DEPTH;
    r->text = (struct moon_slice){NULL, 0};
    r->number = 0;
}

static enum moon_json_token fail(struct moon_json_reader *r, const char *error)
{
    r->error = error;
    r->expect = MOON_JSON_FAILED;
    return MOON_JSON_ERROR;
}

static inline void skip_space(struct moon_json_reader *r)
{
    const char *at = r->at;
    // Compact texts have none: one comparison says so.
    while (at < r->end && (unsigned char)*at <= ' ' &&
           (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) {
        at++;
    }
    r->at = at;
}

size_t json_utf8(const char *at, const char *end)
{
    const unsigned char *p = (const unsigned char *)at;
    size_t left = (size_t)(end - at);
    unsigned char low = 0x80, high = 0xBF;
    size_t n;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        n = 2;
    } else if ((p[0] & 0xF0) == 0xE0) {
        n = 3;
        low = p[0] == 0xE0 ? 0xA0 : 0x80;
        high = p[0] == 0xED ? 0x9F : 0xBF; // no surrogates
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        n = 4;
        low = p[0] == 0xF0 ? 0x90 : 0x80;
        high = p[0] == 0xF4 ? 0x8F : 0xBF;
    } else {
        return 0;
    }
    if (left < n || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return n;
}

static bool read_hex4(struct moon_json_reader *r, unsigned *out)
{
    if (r->end - r->at < 4) {
        return false;
    }
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)r->at[i];
        unsigned digit;
        if (c >= '0' && c <= '9') {
            digit = c - '0';
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (unsigned)(c | 0x20) - 'a' + 10;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    r->at += 4;
    *out = value;
    return true;
}

static char *put_utf8(char *to, unsigned c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xC0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *to++ = (char)(0xE0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    } else {
        *to++ = (char)(0xF0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3F));
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    }
    return to;
}

// After `\u`: one code point, with its second half where it is a surrogate. NULL: wrong.
static char *read_unicode(struct moon_json_reader *r, char *to)
{
    unsigned c, low;
    if (!read_hex4(r, &c)) {
        return NULL;
    }
    if (c >= 0xD800 && c <= 0xDFFF) {
        if (c > 0xDBFF || r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u') {
            return NULL;
        }
        r->at += 2;
        if (!read_hex4(r, &low) || low < 0xDC00 || low > 0xDFFF) {
            return NULL;
        }
        c = 0x10000 + ((c - 0xD800) << 10 | (low - 0xDC00));
    }
    return put_utf8(to, c);
}

// At the byte after a backslash. NULL: no such escape.
static char *read_escape(struct moon_json_reader *r, char *to)
{
    if (r->at >= r->end) {
        return NULL;
    }
    char c = *r->at++;
    switch (c) {
    case '"':
    case '\\':
    case '/':
        break;
    case 'b':
        c = '\b';
        break;
    case 'f':
        c = '\f';
        break;
    case 'n':
        c = '\n';
        break;
    case 'r':
        c = '\r';
        break;
    case 't':
        c = '\t';
        break;
    case 'u':
        return read_unicode(r, to);
    default:
        return NULL;
    }
    *to++ = c;
    return to;
}

#ifdef __SSE2__
enum { PLAIN_STEP = 16 };

// How many of sixteen bytes stand for themselves before the first that does not (is_plain).
static inline size_t plain_run(const char *at)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    // Signed, all from 0x80 on are below the space, too.
    __m128i ends = _mm_cmplt_epi8(bytes, _mm_set1_epi8(' '));
    ends = _mm_or_si128(ends, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
    ends = _mm_or_si128(ends, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    unsigned mask = (unsigned)_mm_movemask_epi8(ends);
    return mask == 0 ? PLAIN_STEP : (size_t)__builtin_ctz(mask);
}
#else
enum { PLAIN_STEP = 8 };

// The same of eight bytes.
static inline size_t plain_run(const char *at)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t w;
    memcpy(&w, at, sizeof w);
    // A byte's top bit is set where it is no plain one. A borrow spoils only bytes behind such a one.
    uint64_t ends =
        (w | (w - ones * 0x20) | ((w ^ ones * '"') - ones) | ((w ^ ones * '\\') - ones)) &
        ones * 0x80;
    return ends == 0 ? PLAIN_STEP : (size_t)__builtin_ctzll(ends) / 8;
}
#endif

// Runs over bytes that stand for themselves. False: invalid UTF-8.
static bool skip_plain(struct moon_json_reader *r)
{
    while (r->at < r->end) {
        while (r->end - r->at >= PLAIN_STEP) {
            size_t n = plain_run(r->at);
            r->at += n;
            if (n < PLAIN_STEP) {
                break;
            }
        }
        if (r->at < r->end && is_plain((unsigned char)*r->at)) {
            r->at++;
            continue;
        }
        if (r->at == r->end || (unsigned char)*r->at < 0x80) {
            return true;
        }
        size_t n = json_utf8(r->at, r->end);
        if (n == 0) {
            return false;
        }
        r->at += n;
    }
    return true;
}

// At the first backslash of a string that began at `begin`: the rest, unescaped after what came
// before. It is never longer than what it is made of, so it may be written over it.
static const char *read_escaped(struct moon_json_reader *r, const char *begin)
{
    if (r->scratch == NULL) {
        return "an escape where none can be read";
    }
    char *base = r->scratch + (begin - r->start);
    char *to = base + (r->at - begin);
    memmove(base, begin, (size_t)(r->at - begin));
    while (r->at < r->end && *r->at == '\\') {
        r->at++;
        to = read_escape(r, to);
        if (to == NULL) {
            return "invalid escape in a string";
        }
        const char *run = r->at;
        if (!skip_plain(r)) {
            return "invalid UTF-8 in a string";
        }
        memmove(to, run, (size_t)(r->at - run));
        to += r->at - run;
    }
    r->text = (struct moon_slice){base, (size_t)(to - base)};
    return NULL;
}

// The rest of a string that began at `begin`.
static bool read_long_string(struct moon_json_reader *r, const char *begin)
{
    if (!skip_plain(r)) {
        (void)fail(r, "invalid UTF-8 in a string");
        return false;
    }
    r->text = (struct moon_slice){begin, (size_t)(r->at - begin)};
    if (r->at < r->end && *r->at == '\\') {
        const char *error = read_escaped(r, begin);
        if (error != NULL) {
            (void)fail(r, error);
            return false;
        }
    }
    if (r->at >= r->end) {
        (void)fail(r, "string without its end");
        return false;
    }
    if (*r->at != '"') {
        (void)fail(r, "control character in a string");
        return false;
    }
    r->at++;
    return true;
}

// At the byte after the opening quote.
static inline bool read_string(struct moon_json_reader *r)
{
    const char *begin = r->at;
    if (r->end - begin > PLAIN_STEP) { // most are short, and plain
        const char *stop = begin + plain_run(begin);
        if (*stop == '"') {
            r->text = (struct moon_slice){begin, (size_t)(stop - begin)};
            r->at = stop + 1;
            return true;
        }
        r->at = stop;
    }
    return read_long_string(r, begin);
}

static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// Reads a run of digits into *mantissa while it stays exact. Returns how many there were.
static size_t read_digits(struct moon_json_reader *r, uint64_t *mantissa, size_t *used)
{
    const char *begin = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        if (*used < 19) {
            *mantissa = *mantissa * 10 + (uint64_t)(*r->at - '0');
        }
        if (*mantissa != 0) {
            ++*used;
        }
        r->at++;
    }
    return (size_t)(r->at - begin);
}

static bool convert(struct moon_json_reader *r, uint64_t mantissa, size_t used, long exponent)
{
    bool is_negative = *r->text.data == '-';
    if (used <= 15 && exponent >= -22 && exponent <= 22) {
        double value = (double)mantissa; // both are exact, so one rounding gives the nearest double
        value = exponent < 0 ? value / POWERS[-exponent] : value * POWERS[exponent];
        r->number = is_negative ? -value : value;
        return true;
    }
    char copy[NUMBER_MAX + 1];
    if (r->text.len > NUMBER_MAX) {
        return false;
    }
    memcpy(copy, r->text.data, r->text.len);
    copy[r->text.len] = '\0';
    r->number = strtod(copy, NULL); // the process keeps the C locale
    return isfinite(r->number);
}

static enum moon_json_token read_number(struct moon_json_reader *r)
{
    const char *begin = r->at;
    uint64_t mantissa = 0;
    size_t used = 0;
    long exponent = 0;
    if (*r->at == '-') {
        r->at++;
    }
    const char *first = r->at;
    size_t digits = read_digits(r, &mantissa, &used);
    if (digits == 0 || (*first == '0' && digits > 1)) {
        return fail(r, "invalid number");
    }
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        digits = read_digits(r, &mantissa, &used);
        if (digits == 0) {
            return fail(r, "invalid number");
        }
        exponent = -(long)digits;
    }
    if (r->at < r->end && (*r->at | 0x20) == 'e') {
        r->at++;
        bool is_minus = r->at < r->end && *r->at == '-';
        if (is_minus || (r->at < r->end && *r->at == '+')) {
            r->at++;
        }
        long power = 0;
        const char *power_begin = r->at;
        while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
            power = power < 100000 ? power * 10 + (*r->at - '0') : power;
            r->at++;
        }
        if (r->at == power_begin) {
            return fail(r, "invalid number");
        }
        exponent += is_minus ? -power : power;
    }
    r->text = (struct moon_slice){begin, (size_t)(r->at - begin)};
    return convert(r, mantissa, used, exponent) ? MOON_JSON_NUMBER : fail(r, "number out of range");
}

static enum moon_json_token read_word(struct moon_json_reader *r, const char *word, size_t len,
                                      enum moon_json_token token)
{
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0) {
        return fail(r, "invalid value");
    }
    r->at += len;
    return token;
}

static inline bool is_in_object(const struct moon_json_reader *r)
{
    unsigned i = r->depth - 1;
    return (r->is_object[i / 8] >> (i % 8) & 1) != 0;
}

static enum moon_json_token open_container(struct moon_json_reader *r, bool is_object)
{
    if (r->depth >= r->max_depth) {
        return fail(r, "nested too deeply");
    }
    unsigned i = r->depth++;
    unsigned bit = 1U << (i % 8);
    r->is_object[i / 8] =
        (uint8_t)(is_object ? r->is_object[i / 8] | bit : r->is_object[i / 8] & ~bit);
    r->expect = is_object ? MOON_JSON_EXPECT_FIRST_KEY : MOON_JSON_EXPECT_FIRST_ITEM;
    r->at++;
    return is_object ? MOON_JSON_OBJECT : MOON_JSON_ARRAY;
}

static inline void after_value(struct moon_json_reader *r)
{
    r->expect = r->depth == 0 ? MOON_JSON_EXPECT_END : MOON_JSON_EXPECT_MORE;
}

static enum moon_json_token close_container(struct moon_json_reader *r)
{
    enum moon_json_token token = is_in_object(r) ? MOON_JSON_OBJECT_END : MOON_JSON_ARRAY_END;
    r->depth--;
    r->at++;
    after_value(r);
    return token;
}

static enum moon_json_token read_value(struct moon_json_reader *r)
{
    enum moon_json_token token;
    switch (*r->at) {
    case '{':
        return open_container(r, true);
    case '[':
        return open_container(r, false);
    case '"':
        r->at++;
        token = read_string(r) ? MOON_JSON_STRING : MOON_JSON_ERROR;
        break;
    case 't':
        token = read_word(r, "true", 4, MOON_JSON_TRUE);
        break;
    case 'f':
        token = read_word(r, "false", 5, MOON_JSON_FALSE);
        break;
    case 'n':
        token = read_word(r, "null", 4, MOON_JSON_NULL);
        break;
    default:
        token = *r->at == '-' || (*r->at >= '0' && *r->at <= '9') ? read_number(r)
                                                                  : fail(r, "invalid value");
        break;
    }
    if (token != MOON_JSON_ERROR) {
        after_value(r);
    }
    return token;
}

static enum moon_json_token read_key(struct moon_json_reader *r)
{
    if (*r->at != '"') {
        return fail(r, "expected a member's name");
    }
    r->at++;
    if (!read_string(r)) {
        return MOON_JSON_ERROR;
    }
    skip_space(r);
    if (r->at >= r->end || *r->at != ':') {
        return fail(r, "expected ':'");
    }
    r->at++;
    r->expect = MOON_JSON_EXPECT_VALUE;
    return MOON_JSON_KEY;
}

// At a comma or at the end of the innermost container.
static enum moon_json_token read_more(struct moon_json_reader *r)
{
    bool is_object = is_in_object(r);
    if (*r->at == (is_object ? '}' : ']')) {
        return close_container(r);
    }
    if (*r->at != ',') {
        return fail(r, is_object ? "expected ',' or '}'" : "expected ',' or ']'");
    }
    r->at++;
    skip_space(r);
    if (r->at >= r->end) {
        return fail(r, "unexpected end");
    }
    return is_object ? read_key(r) : read_value(r);
}

enum moon_json_token json_next(struct moon_json_reader *r)
{
    skip_space(r);
    if (r->at >= r->end && r->expect < MOON_JSON_EXPECT_END) {
        return fail(r, "unexpected end");
    }
    switch (r->expect) {
    case MOON_JSON_EXPECT_VALUE:
        return read_value(r);
    case MOON_JSON_EXPECT_FIRST_ITEM:
        return *r->at == ']' ? close_container(r) : read_value(r);
    case MOON_JSON_EXPECT_FIRST_KEY:
        return *r->at == '}' ? close_container(r) : read_key(r);
    case MOON_JSON_EXPECT_KEY:
        return read_key(r);
    case MOON_JSON_EXPECT_MORE:
        return read_more(r);
    case MOON_JSON_EXPECT_END:
        return r->at == r->end ? MOON_JSON_DONE : fail(r, "bytes after the value");
    case MOON_JSON_FAILED:
        break;
    }
    return MOON_JSON_ERROR;
}
