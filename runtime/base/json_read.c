/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_read.h"

#include "base/utf8.h"

enum json_expect {
    EXPECT_VALUE,
    EXPECT_FIRST_ELEMENT, // a value, or the end of the array just opened
    EXPECT_FIRST_KEY,     // a key, or the end of the object just opened
    EXPECT_COMMA,         // or the end of the open level
    EXPECT_NOTHING,
};

void moon_json_read_init(struct moon_json_reader *reader, struct moon_slice text, size_t max_depth)
{
    MOON_ASSERT(max_depth >= 1 && max_depth <= MOON_JSON_READ_DEPTH);
    *reader =
        (struct moon_json_reader){.text = text, .max_depth = max_depth, .expect = EXPECT_VALUE};
}

static enum moon_json_event json_fail(struct moon_json_reader *reader, const char *error)
{
    reader->error = error;
    return MOON_JSON_READ_ERROR;
}

static bool json_is_in_object(const struct moon_json_reader *reader)
{
    size_t level = reader->depth - 1;
    return (reader->is_object[level / 8] >> (level % 8) & 1) != 0;
}

static enum moon_json_event json_open(struct moon_json_reader *reader, bool is_object)
{
    if (reader->depth == reader->max_depth) {
        return json_fail(reader, "nested too deep");
    }
    unsigned bit = 1U << (reader->depth % 8);
    uint8_t *byte = &reader->is_object[reader->depth / 8];
    *byte = (uint8_t)(is_object ? *byte | bit : *byte & ~bit);
    reader->depth++;
    reader->at++;
    reader->expect = is_object ? EXPECT_FIRST_KEY : EXPECT_FIRST_ELEMENT;
    return is_object ? MOON_JSON_READ_OBJECT : MOON_JSON_READ_ARRAY;
}

static void json_value_done(struct moon_json_reader *reader)
{
    reader->expect = reader->depth == 0 ? EXPECT_NOTHING : EXPECT_COMMA;
}

static enum moon_json_event json_close(struct moon_json_reader *reader)
{
    bool is_object = json_is_in_object(reader);
    reader->depth--;
    reader->at++;
    json_value_done(reader);
    return is_object ? MOON_JSON_READ_OBJECT_END : MOON_JSON_READ_ARRAY_END;
}

static int json_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = moon_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Four hex digits. @return -1 when they are none
static int json_hex4(struct moon_slice s)
{
    int code = 0;
    if (s.len < 4) {
        return -1;
    }
    for (size_t i = 0; i < 4; i++) {
        int digit = json_hex(s.data[i]);
        if (digit < 0) {
            return -1;
        }
        code = code * 16 + digit;
    }
    return code;
}

// "XXXX" or "XXXX\uXXXX" behind a "\u". @return bytes it takes, 0 when bad or half a pair
static size_t json_unicode(struct moon_slice s, uint32_t *code)
{
    int first = json_hex4(s);
    if (first < 0 || (first >= 0xDC00 && first <= 0xDFFF)) {
        return 0;
    }
    *code = (uint32_t)first;
    if (first < 0xD800 || first > 0xDBFF) {
        return 4;
    }
    int second = moon_slice_starts(moon_slice_from(s, 4), MOON_S("\\u"))
                     ? json_hex4(moon_slice_from(s, 6))
                     : -1;
    if (second < 0xDC00 || second > 0xDFFF) {
        return 0;
    }
    *code = 0x10000 + (((uint32_t)first - 0xD800) << 10) + ((uint32_t)second - 0xDC00);
    return 10;
}

// Bytes of the escape at s (its backslash first); 0 when it is none.
static size_t json_escape_length(struct moon_slice s)
{
    uint32_t code;
    if (s.len < 2) {
        return 0;
    }
    if (s.data[1] == 'u') {
        size_t n = json_unicode(moon_slice_from(s, 2), &code);
        return n == 0 ? 0 : n + 2;
    }
    return s.data[1] != '\0' && strchr("\"\\/bfnrt", s.data[1]) != NULL ? 2 : 0;
}

// From behind the opening quote to behind the closing one.
static bool json_string(struct moon_json_reader *reader, struct moon_slice *raw)
{
    const char *data = reader->text.data;
    size_t start = ++reader->at;
    while (reader->at < reader->text.len) {
        unsigned char c = (unsigned char)data[reader->at];
        size_t n = 1;
        if (c == '"') {
            *raw = moon_slice(data + start, reader->at++ - start);
            return true;
        }
        if (c < 0x20) {
            break;
        }
        if (c == '\\') {
            n = json_escape_length(moon_slice_from(reader->text, reader->at));
        } else if (c >= 0x80) {
            n = moon_utf8_length(data + reader->at, reader->text.len - reader->at);
        }
        if (n == 0) {
            break;
        }
        reader->at += n;
    }
    return false;
}

static void json_skip_space(struct moon_json_reader *reader)
{
    while (reader->at < reader->text.len) {
        char c = reader->text.data[reader->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            break;
        }
        reader->at++;
    }
}

// The byte to read, or NUL at the end (a NUL in the text is no JSON anyway).
static char json_peek(const struct moon_json_reader *reader)
{
    if (reader->at >= reader->text.len) {
        return '\0';
    }
    return reader->text.data[reader->at];
}

static enum moon_json_event json_key(struct moon_json_reader *reader, struct moon_slice *raw)
{
    if (json_peek(reader) != '"') {
        return json_fail(reader, "a key was expected");
    }
    if (!json_string(reader, raw)) {
        return json_fail(reader, "bad string");
    }
    json_skip_space(reader);
    if (json_peek(reader) != ':') {
        return json_fail(reader, "a colon was expected");
    }
    reader->at++;
    reader->expect = EXPECT_VALUE;
    return MOON_JSON_READ_KEY;
}

static size_t json_digits(struct moon_json_reader *reader)
{
    size_t start = reader->at;
    while (json_peek(reader) >= '0' && json_peek(reader) <= '9') {
        reader->at++;
    }
    return reader->at - start;
}

static bool json_number(struct moon_json_reader *reader)
{
    if (json_peek(reader) == '-') {
        reader->at++;
    }
    bool is_zero = json_peek(reader) == '0';
    size_t digits = json_digits(reader);
    if (digits == 0 || (is_zero && digits > 1)) {
        return false;
    }
    if (json_peek(reader) == '.') {
        reader->at++;
        if (json_digits(reader) == 0) {
            return false;
        }
    }
    if (json_peek(reader) == 'e' || json_peek(reader) == 'E') {
        reader->at++;
        if (json_peek(reader) == '+' || json_peek(reader) == '-') {
            reader->at++;
        }
        if (json_digits(reader) == 0) {
            return false;
        }
    }
    return true;
}

static enum moon_json_event json_literal(struct moon_json_reader *reader, struct moon_slice word,
                                         enum moon_json_event event)
{
    if (!moon_slice_starts(moon_slice_from(reader->text, reader->at), word)) {
        return json_fail(reader, "a value was expected");
    }
    reader->at += word.len;
    json_value_done(reader);
    return event;
}

static enum moon_json_event json_value(struct moon_json_reader *reader, struct moon_slice *raw)
{
    size_t start = reader->at;
    switch (json_peek(reader)) {
    case '{':
        return json_open(reader, true);
    case '[':
        return json_open(reader, false);
    case '"':
        if (!json_string(reader, raw)) {
            return json_fail(reader, "bad string");
        }
        json_value_done(reader);
        return MOON_JSON_READ_STRING;
    case 't':
        return json_literal(reader, MOON_S("true"), MOON_JSON_READ_TRUE);
    case 'f':
        return json_literal(reader, MOON_S("false"), MOON_JSON_READ_FALSE);
    case 'n':
        return json_literal(reader, MOON_S("null"), MOON_JSON_READ_NULL);
    default: // a number, or nothing that JSON knows
        if (!json_number(reader)) {
            return json_fail(reader, "a value was expected");
        }
        *raw = moon_slice(reader->text.data + start, reader->at - start);
        json_value_done(reader);
        return MOON_JSON_READ_NUMBER;
    }
}

static enum moon_json_event json_after_value(struct moon_json_reader *reader,
                                             struct moon_slice *raw)
{
    bool is_object = json_is_in_object(reader);
    char c = json_peek(reader);
    if (c == (is_object ? '}' : ']')) {
        return json_close(reader);
    }
    if (c != ',') {
        return json_fail(reader, "a comma or the end was expected");
    }
    reader->at++;
    json_skip_space(reader);
    return is_object ? json_key(reader, raw) : json_value(reader, raw);
}

enum moon_json_event moon_json_read_next(struct moon_json_reader *reader, struct moon_slice *raw)
{
    if (reader->error != NULL) {
        return MOON_JSON_READ_ERROR;
    }
    json_skip_space(reader);
    switch ((enum json_expect)reader->expect) {
    case EXPECT_VALUE:
        return json_value(reader, raw);
    case EXPECT_FIRST_ELEMENT:
        return json_peek(reader) == ']' ? json_close(reader) : json_value(reader, raw);
    case EXPECT_FIRST_KEY:
        return json_peek(reader) == '}' ? json_close(reader) : json_key(reader, raw);
    case EXPECT_COMMA:
        return json_after_value(reader, raw);
    case EXPECT_NOTHING:
        break;
    }
    if (reader->at < reader->text.len) {
        return json_fail(reader, "nothing was expected behind the text");
    }
    return MOON_JSON_READ_END;
}

// One escape of a string that was read before: it is well-formed. @return bytes read
static size_t json_decode_escape(struct moon_slice s, char **out)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    uint32_t code = 0;
    if (s.data[1] == 'u') {
        size_t n = json_unicode(moon_slice_from(s, 2), &code);
        *out += moon_utf8_encode(code, *out);
        return n + 2;
    }
    const char *at = strchr(from, s.data[1]);
    char c = s.data[1];
    if (at != NULL) {
        c = to[at - from];
    }
    *(*out)++ = c;
    return 2;
}

bool moon_json_read_text(struct moon_arena *arena, struct moon_slice raw, struct moon_slice *text)
{
    if (moon_slice_find(raw, '\\') == raw.len) {
        *text = raw;
        return true;
    }
    char *out = moon_arena_alloc(arena, raw.len); // an escape is longer than what it stands for
    char *at = out;
    if (out == NULL) {
        return false;
    }
    for (size_t i = 0; i < raw.len;) {
        struct moon_slice rest = moon_slice_from(raw, i);
        if (raw.data[i] == '\\' && json_escape_length(rest) > 0) {
            i += json_decode_escape(rest, &at);
        } else {
            *at++ = raw.data[i];
            i++;
        }
    }
    *text = moon_slice(out, (size_t)(at - out));
    return true;
}

bool moon_json_read_integer(struct moon_slice raw, int64_t *value)
{
    bool is_negative = raw.len > 0 && raw.data[0] == '-';
    int64_t magnitude;
    if (!moon_slice_number(moon_slice_from(raw, is_negative), &magnitude)) {
        return false;
    }
    *value = is_negative ? -magnitude : magnitude;
    return true;
}

bool moon_json_read_is_valid(struct moon_slice text, size_t max_depth, size_t *error_at)
{
    struct moon_json_reader reader;
    struct moon_slice raw = {NULL, 0};
    enum moon_json_event event;
    moon_json_read_init(&reader, text, max_depth);
    do {
        event = moon_json_read_next(&reader, &raw);
    } while (event != MOON_JSON_READ_END && event != MOON_JSON_READ_ERROR);
    if (event == MOON_JSON_READ_ERROR && error_at != NULL) {
        *error_at = reader.at;
    }
    return event == MOON_JSON_READ_END;
}
