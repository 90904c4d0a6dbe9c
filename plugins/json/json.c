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

// Bytes that stand for themselves in a string: not controls, the quote, the backslash, what is no ASCII.
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
    r->expect = MOON_JSON_EXPECT_ROOT;
    r->closer = 0;
    r->is_whole = false;
    r->depth = 0;
    r->max_depth = max_depth <= MOON_JSON_MAX_DEPTH ? max_depth : MOON_JSON_MAX_DEPTH;
    r->name = r->text = (struct moon_slice){NULL, 0};
    r->number = 0;
}

static MOON_COLD enum moon_json_token fail(struct moon_json_reader *r, const char *at,
                                           const char *error)
{
    r->at = at;
    r->error = error;
    r->expect = MOON_JSON_FAILED;
    return MOON_JSON_ERROR;
}

// Of what stands where something else, or nothing more, may.
static MOON_COLD enum moon_json_token fail_or_end(struct moon_json_reader *r, const char *at,
                                                  const char *error)
{
    return fail(r, at, at < r->end ? error : "unexpected end");
}

// Goes to the next byte that is no space. Returns it; at the end of the text a byte that fits nowhere.
static inline char skip_space(const char **at, const char *end)
{
    // Compact texts have none: one comparison says so.
    for (; *at < end; ++*at) {
        char c = **at;
        if ((unsigned char)c > ' ' || (c != ' ' && c != '\n' && c != '\r' && c != '\t')) {
            return c;
        }
    }
    return '\0';
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
static const char *read_escaped(struct moon_json_reader *r, const char *begin,
                                struct moon_slice *out)
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
    *out = (struct moon_slice){base, (size_t)(to - base)};
    return NULL;
}

// The rest of a string that began at `begin` and is plain up to `at`. As read_string.
static MOON_NOINLINE const char *read_long_string(struct moon_json_reader *r, const char *begin,
                                                  const char *at, struct moon_slice *out)
{
    const char *error = NULL;
    r->at = at;
    if (!skip_plain(r)) {
        error = "invalid UTF-8 in a string";
    } else if (r->at < r->end && *r->at == '\\') {
        error = read_escaped(r, begin, out);
    } else {
        *out = (struct moon_slice){begin, (size_t)(r->at - begin)};
    }
    if (error == NULL && r->at >= r->end) {
        error = "string without its end";
    } else if (error == NULL && *r->at != '"') {
        error = "control character in a string";
    }
    if (error != NULL) {
        (void)fail(r, r->at, error);
        return NULL;
    }
    return r->at + 1;
}

// Reads a string whose opening quote is before `at`. Returns where it goes on; NULL: it failed.
static inline const char *read_string(struct moon_json_reader *r, const char *at,
                                      struct moon_slice *out)
{
    const char *stop = at;
    if (r->end - at > PLAIN_STEP) { // most are short, and plain
        stop += plain_run(at);
        if (*stop == '"') {
            out->data = at;
            out->len = (size_t)(stop - at);
            return stop + 1;
        }
    }
    return read_long_string(r, at, stop, out);
}

// Runs over digits, which make *value go on (modulo 2^64).
static inline const char *read_digits(const char *at, const char *end, uint64_t *value)
{
    for (; at < end; at++) {
        unsigned digit = (unsigned)(unsigned char)*at - '0';
        if (digit > 9) {
            break;
        }
        *value = *value * 10 + digit;
    }
    return at;
}

// After the `e`: adds the power to *exponent, which stays near what a double can have. Returns where
// it goes on; NULL: it failed.
static MOON_NOINLINE const char *read_exponent(struct moon_json_reader *r, const char *at,
                                               long *exponent)
{
    bool is_minus = at < r->end && *at == '-';
    if (is_minus || (at < r->end && *at == '+')) {
        at++;
    }
    long power = 0;
    const char *begin = at;
    for (; at < r->end && *at >= '0' && *at <= '9'; at++) {
        power = power < 100000 ? power * 10 + (*at - '0') : power;
    }
    if (at == begin) {
        (void)fail(r, at, "invalid number");
        return NULL;
    }
    *exponent += is_minus ? -power : power;
    return at;
}

// The nearest double of a number of many digits, or of a large exponent. False: there is none.
static MOON_NOINLINE bool convert(struct moon_slice text, double *out)
{
    char copy[NUMBER_MAX + 1];
    if (text.len > NUMBER_MAX) {
        return false;
    }
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    *out = strtod(copy, NULL); // the process keeps the C locale
    return isfinite(*out);
}

static enum moon_json_token read_number(struct moon_json_reader *r, const char *begin)
{
    static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    uint64_t mantissa = 0; // without the point
    long exponent = 0;
    const char *first = begin + (*begin == '-');
    const char *at = read_digits(first, r->end, &mantissa);
    size_t digits = (size_t)(at - first);
    if (digits == 0 || (*first == '0' && digits > 1)) {
        return fail(r, at, "invalid number");
    }
    if (at < r->end && *at == '.') {
        const char *fraction = at + 1;
        at = read_digits(fraction, r->end, &mantissa);
        if (at == fraction) {
            return fail(r, at, "invalid number");
        }
        exponent = fraction - at;
        digits += (size_t)(at - fraction);
    }
    r->is_whole = exponent == 0;
    if (at < r->end && (*at | 0x20) == 'e') {
        r->is_whole = false;
        at = read_exponent(r, at + 1, &exponent);
        if (at == NULL) {
            return MOON_JSON_ERROR;
        }
    }
    r->at = at;
    r->text.data = begin;
    r->text.len = (size_t)(at - begin);
    if (digits <= 15 && exponent >= -22 && exponent <= 22) {
        double value = (double)mantissa; // both are exact, so one rounding gives the nearest double
        value = exponent < 0 ? value / POWERS[-exponent] : value * POWERS[exponent];
        r->number = *begin == '-' ? -value : value;
        return MOON_JSON_NUMBER;
    }
    return convert(r->text, &r->number) ? MOON_JSON_NUMBER : fail(r, at, "number out of range");
}

static enum moon_json_token read_word(struct moon_json_reader *r, const char *at, const char *word,
                                      size_t len, enum moon_json_token token)
{
    if ((size_t)(r->end - at) < len || memcmp(at, word, len) != 0) {
        return fail(r, at, "invalid value");
    }
    r->at = at + len;
    return token;
}

static enum moon_json_token open_container(struct moon_json_reader *r, const char *at,
                                           bool is_object)
{
    if (r->depth >= r->max_depth) {
        return fail(r, at, "nested too deeply");
    }
    unsigned i = r->depth++;
    unsigned bit = 1U << (i % 8);
    r->is_object[i / 8] =
        (uint8_t)(is_object ? r->is_object[i / 8] | bit : r->is_object[i / 8] & ~bit);
    r->closer = is_object ? '}' : ']';
    r->expect = MOON_JSON_EXPECT_FIRST;
    r->at = at + 1;
    return is_object ? MOON_JSON_OBJECT : MOON_JSON_ARRAY;
}

static enum moon_json_token close_container(struct moon_json_reader *r, const char *at)
{
    enum moon_json_token token = r->closer == '}' ? MOON_JSON_OBJECT_END : MOON_JSON_ARRAY_END;
    r->at = at + 1;
    if (--r->depth == 0) {
        r->closer = 0;
        r->expect = MOON_JSON_EXPECT_END;
    } else {
        unsigned i = r->depth - 1;
        r->closer = (r->is_object[i / 8] >> (i % 8) & 1) != 0 ? '}' : ']';
        r->expect = MOON_JSON_EXPECT_MORE;
    }
    return token;
}

// At the first byte of a value, which is `c`.
static inline enum moon_json_token read_value(struct moon_json_reader *r, const char *at, char c)
{
    switch (c) {
    case '"':
        at = read_string(r, at + 1, &r->text);
        if (at == NULL) {
            return MOON_JSON_ERROR;
        }
        r->at = at;
        return MOON_JSON_STRING;
    case '{':
        return open_container(r, at, true);
    case '[':
        return open_container(r, at, false);
    case 't':
        return read_word(r, at, "true", 4, MOON_JSON_TRUE);
    case 'f':
        return read_word(r, at, "false", 5, MOON_JSON_FALSE);
    case 'n':
        return read_word(r, at, "null", 4, MOON_JSON_NULL);
    default:
        return c == '-' || (c >= '0' && c <= '9') ? read_number(r, at)
                                                  : fail_or_end(r, at, "invalid value");
    }
}

// At the first byte of a member's name, which is `c`: goes over it and the colon. Returns where its
// value stands; NULL: it failed.
static inline const char *read_name(struct moon_json_reader *r, const char *at, char c)
{
    if (c != '"') {
        (void)fail_or_end(r, at, "expected a member's name");
        return NULL;
    }
    at = read_string(r, at + 1, &r->name);
    if (at == NULL) {
        return NULL;
    }
    if (skip_space(&at, r->end) != ':') {
        (void)fail(r, at, "expected ':'");
        return NULL;
    }
    return at + 1;
}

// Where no item is before: true, and a value follows; or false, and `*token` is what there is.
static bool begin(struct moon_json_reader *r, const char *at, char c, enum moon_json_token *token)
{
    switch (r->expect) {
    case MOON_JSON_EXPECT_ROOT:
        r->expect = MOON_JSON_EXPECT_END;
        return true;
    case MOON_JSON_EXPECT_FIRST:
        if (c != r->closer) {
            r->expect = MOON_JSON_EXPECT_MORE;
            return true;
        }
        *token = close_container(r, at);
        return false;
    case MOON_JSON_EXPECT_END:
        *token = at == r->end ? MOON_JSON_DONE : fail(r, at, "bytes after the value");
        return false;
    case MOON_JSON_EXPECT_MORE:
    case MOON_JSON_FAILED:
        break;
    }
    *token = MOON_JSON_ERROR;
    return false;
}

enum moon_json_token json_next(struct moon_json_reader *r)
{
    enum moon_json_token token;
    const char *at = r->at;
    char c = skip_space(&at, r->end);
    if (MOON_UNLIKELY(r->expect != MOON_JSON_EXPECT_MORE)) {
        if (!begin(r, at, c, &token)) {
            return token;
        }
    } else if (c == ',') {
        at++;
        c = skip_space(&at, r->end);
    } else if (c == r->closer) {
        return close_container(r, at);
    } else {
        return fail_or_end(r, at, r->closer == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
    }
    if (r->closer == '}') {
        at = read_name(r, at, c);
        if (at == NULL) {
            return MOON_JSON_ERROR;
        }
        c = skip_space(&at, r->end);
    } else {
        r->name.data = NULL;
    }
    return read_value(r, at, c);
}
