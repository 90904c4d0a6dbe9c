/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_write.h"

#include "base/utf8.h"

#include <math.h>

void moon_json_init(struct moon_json *json, char *into, size_t cap)
{
    *json = (struct moon_json){.data = into, .cap = cap};
}

// Room is always left for the closers of all open levels, so that a cut text can be ended.
static bool json_has_room(struct moon_json *json, size_t n)
{
    if (!json->is_cut && json->cap - json->len >= n + json->depth)
        return true;
    json->is_cut = true;
    return false;
}

static void json_put(struct moon_json *json, const char *bytes, size_t n)
{
    if (n > 0)
        memcpy(json->data + json->len, bytes, n);
    json->len += n;
}

// Writes the comma and the name. @return false when the value would not fit behind it
static bool json_begin(struct moon_json *json, const char *name, size_t value_bytes)
{
    size_t name_len = name == NULL ? 0 : strlen(name);
    if (!json_has_room(json, value_bytes + name_len + 4))
        return false;
    if (json->needs_comma)
        json_put(json, ",", 1);
    if (name != NULL) {
        json_put(json, "\"", 1);
        json_put(json, name, name_len);
        json_put(json, "\":", 2);
    }
    json->needs_comma = true;
    return true;
}

static void json_open(struct moon_json *json, const char *name, char opener, char closer)
{
    MOON_ASSERT(json->depth < MOON_JSON_DEPTH);
    if (json_begin(json, name, 2))
        json_put(json, &opener, 1);
    else
        closer = '\0';
    json->closers[json->depth++] = closer;
    json->needs_comma = false;
}

void moon_json_object(struct moon_json *json)
{
    json_open(json, NULL, '{', '}');
}

void moon_json_object_at(struct moon_json *json, const char *name)
{
    json_open(json, name, '{', '}');
}

void moon_json_array_at(struct moon_json *json, const char *name)
{
    json_open(json, name, '[', ']');
}

void moon_json_end(struct moon_json *json)
{
    MOON_ASSERT(json->depth > 0);
    char closer = json->closers[--json->depth];
    if (closer != '\0')
        json_put(json, &closer, 1);
    json->needs_comma = true;
}

// Escapes the character or sequence at `at`. @return bytes of `out` used; *taken: bytes of input
static size_t json_escape(const char *at, size_t left, char out[8], size_t *taken)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char c = (unsigned char)at[0];
    *taken = 1;
    out[0] = '\\';
    switch (c) {
    case '"':
    case '\\':
        out[1] = (char)c;
        return 2;
    case '\n':
        out[1] = 'n';
        return 2;
    case '\r':
        out[1] = 'r';
        return 2;
    case '\t':
        out[1] = 't';
        return 2;
    default:
        break;
    }
    if (c < 0x20 || c == 0x7F) {
        memcpy(out, "\\u00", 4);
        out[4] = hex[c >> 4];
        out[5] = hex[c & 15];
        return 6;
    }
    size_t n = moon_utf8_length(at, left);
    if (n == 0) {
        memcpy(out, "\xEF\xBF\xBD", 3);
        return 3;
    }
    memcpy(out, at, n);
    *taken = n;
    return n;
}

void moon_json_text(struct moon_json *json, const char *name, struct moon_slice value)
{
    if (!json_begin(json, name, 2))
        return;
    json_put(json, "\"", 1);
    size_t at = 0;
    while (at < value.len) {
        size_t plain = at;
        while (plain < value.len && value.data[plain] >= 0x20 && value.data[plain] != '"' &&
               value.data[plain] != '\\' && value.data[plain] != 0x7F)
            plain++;
        if (plain > at) {
            if (!json_has_room(json, plain - at + 1))
                break;
            json_put(json, value.data + at, plain - at);
            at = plain;
            continue;
        }
        char out[8];
        size_t taken;
        size_t n = json_escape(value.data + at, value.len - at, out, &taken);
        if (!json_has_room(json, n + 1))
            break;
        json_put(json, out, n);
        at += taken;
    }
    json_put(json, "\"", 1);
}

void moon_json_raw(struct moon_json *json, const char *name, struct moon_slice value)
{
    if (json_begin(json, name, value.len))
        json_put(json, value.data, value.len);
}

static size_t json_format_number(char out[24], int64_t value)
{
    char reversed[24];
    size_t n = 0;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        reversed[n++] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (value < 0)
        reversed[n++] = '-';
    for (size_t i = 0; i < n; i++)
        out[i] = reversed[n - 1 - i];
    return n;
}

void moon_json_number(struct moon_json *json, const char *name, int64_t value)
{
    char text[24];
    moon_json_raw(json, name, moon_slice(text, json_format_number(text, value)));
}

void moon_json_real(struct moon_json *json, const char *name, double value)
{
    char text[40];
    if (!isfinite(value)) {
        moon_json_null(json, name);
        return;
    }
    int n = snprintf(text, sizeof(text), "%.9g", value);
    if (n > 0)
        moon_json_raw(json, name, moon_slice(text, moon_min_size((size_t)n, sizeof(text) - 1)));
}

void moon_json_bool(struct moon_json *json, const char *name, bool value)
{
    moon_json_raw(json, name, value ? MOON_S("true") : MOON_S("false"));
}

void moon_json_null(struct moon_json *json, const char *name)
{
    moon_json_raw(json, name, MOON_S("null"));
}
