/* SPDX-License-Identifier: Apache-2.0 */
#include "http/uri.h"

#include "base/ip.h"
#include "http/chars.h"

enum { URI_HOST_BYTES = 255, URI_PORT_MAX = 65535 };

static bool uri_parse_port(struct moon_slice text, int *port)
{
    int value = 0;
    if (text.len > 5) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        int digit = text.data[i] - '0';
        if (digit < 0 || digit > 9) {
            return false;
        }
        value = value * 10 + digit;
    }
    if (value > URI_PORT_MAX || (text.len > 0 && value == 0)) {
        return false;
    }
    *port = value;
    return true;
}

// Letters, digits, '-', '_', '~' in labels that are not empty; one final dot. RFC 3986 would also
// let escapes and sub-delims through; no name that a client can reach has them, and readers differ.
static bool uri_is_host_name(struct moon_slice host)
{
    char before = '.';
    if (host.len == 0 || host.len > URI_HOST_BYTES) {
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        char c = host.data[i];
        if (!moon_char_is(c, MOON_CHAR_UNRESERVED) || (c == '.' && before == '.')) {
            return false;
        }
        before = c;
    }
    return true;
}

static bool uri_parse_literal(struct moon_slice text, struct moon_authority *out)
{
    size_t close = moon_slice_find(text, ']');
    struct moon_slice inside = moon_slice(text.data + 1, close - (close > 0));
    struct moon_slice rest = moon_slice_from(text, close + 1);
    struct moon_ip ip;
    if (close == text.len || moon_slice_find(inside, ':') == inside.len ||
        moon_slice_find(inside, '[') != inside.len || !moon_ip_parse(inside, &ip)) {
        return false;
    }
    int port = 0;
    if (rest.len > 0 && (rest.data[0] != ':' || !uri_parse_port(moon_slice_from(rest, 1), &port))) {
        return false;
    }
    *out = (struct moon_authority){.host = inside, .is_ip_literal = true, .port = port};
    return true;
}

bool moon_uri_parse_authority(struct moon_slice text, struct moon_authority *out)
{
    if (text.len == 0) {
        return false;
    }
    if (text.data[0] == '[') {
        return uri_parse_literal(text, out);
    }
    size_t colon = moon_slice_find(text, ':');
    struct moon_slice host = moon_slice(text.data, colon);
    int port = 0;
    if (!uri_is_host_name(host) || !uri_parse_port(moon_slice_from(text, colon + 1), &port)) {
        return false;
    }
    *out = (struct moon_authority){.host = host, .port = port};
    return true;
}

static int url_default_port(struct moon_slice scheme)
{
    static const struct {
        const char *scheme;
        int port;
    } known[] = {{"http", 80}, {"https", 443},  {"ws", 80},
                 {"wss", 443}, {"redis", 6379}, {"rediss", 6379}};
    for (size_t i = 0; i < MOON_COUNT(known); i++) {
        if (moon_slice_is_nocase(scheme, moon_slice_text(known[i].scheme))) {
            return known[i].port;
        }
    }
    return 0;
}

static bool url_parse_scheme(struct moon_slice *text, struct moon_slice *scheme)
{
    size_t colon = moon_slice_find(*text, ':');
    *scheme = moon_slice(text->data, colon);
    if (colon == 0 || !moon_slice_starts(moon_slice_from(*text, colon), MOON_S("://"))) {
        return false;
    }
    for (size_t i = 0; i < colon; i++) {
        char c = moon_lower(text->data[i]);
        bool is_letter = c >= 'a' && c <= 'z';
        bool is_other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if (!is_letter && (i == 0 || !is_other)) {
            return false;
        }
    }
    *text = moon_slice_from(*text, colon + 3);
    return true;
}

bool moon_url_parse(struct moon_slice text, struct moon_url *out)
{
    struct moon_url url = {.query = {NULL, 0}};
    if (text.len == 0 ||
        moon_find_invisible(text.data, text.data + text.len) != text.data + text.len ||
        moon_slice_find(text, '#') != text.len || !url_parse_scheme(&text, &url.scheme)) {
        return false;
    }
    size_t question = moon_slice_find(text, '?');
    if (question < text.len) {
        url.query = moon_slice(text.data + question + 1, text.len - question - 1);
    }
    text.len = question;
    size_t slash = moon_slice_find(text, '/');
    url.authority_text = moon_slice(text.data, slash);
    url.path = moon_slice_from(text, slash);
    if (!moon_uri_parse_authority(url.authority_text, &url.authority)) {
        return false;
    }
    url.port = url.authority.port != 0 ? url.authority.port : url_default_port(url.scheme);
    *out = url;
    return true;
}

struct moon_slice moon_uri_decode(struct moon_arena *arena, struct moon_slice in, bool is_form)
{
    if (moon_slice_find(in, '%') == in.len && (!is_form || moon_slice_find(in, '+') == in.len)) {
        return in;
    }
    char *out = moon_arena_alloc(arena, in.len);
    size_t len = 0;
    if (out == NULL) {
        return moon_slice(NULL, 0);
    }
    for (size_t i = 0; i < in.len; i++) {
        char c = in.data[i];
        if (c == '%' && i + 2 < in.len && moon_char_is(in.data[i + 1], MOON_CHAR_HEX) &&
            moon_char_is(in.data[i + 2], MOON_CHAR_HEX)) {
            c = (char)(moon_char_hex(in.data[i + 1]) * 16 + moon_char_hex(in.data[i + 2]));
            i += 2;
        } else if (c == '+' && is_form) {
            c = ' ';
        }
        out[len++] = c;
    }
    return moon_slice(out, len);
}

struct moon_slice moon_uri_encode(struct moon_arena *arena, struct moon_slice in)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t plain = 0;
    while (plain < in.len && moon_char_is(in.data[plain], MOON_CHAR_UNRESERVED)) {
        plain++;
    }
    if (plain == in.len) {
        return in;
    }
    char *out = in.len > SIZE_MAX / 4 ? NULL : moon_arena_alloc(arena, in.len * 3);
    size_t len = 0;
    if (out == NULL) {
        return moon_slice(NULL, 0);
    }
    for (size_t i = 0; i < in.len; i++) {
        unsigned char c = (unsigned char)in.data[i];
        if (moon_char_is((char)c, MOON_CHAR_UNRESERVED)) {
            out[len++] = (char)c;
            continue;
        }
        out[len++] = '%';
        out[len++] = digits[c >> 4];
        out[len++] = digits[c & 15];
    }
    return moon_slice(out, len);
}

bool moon_query_next(struct moon_slice *rest, struct moon_slice *name, struct moon_slice *value)
{
    while (rest->len > 0) {
        size_t n = 0; // names are short: a call of memchr for them costs more
        while (n < rest->len && rest->data[n] != '=' && rest->data[n] != '&') {
            n++;
        }
        bool has_value = n < rest->len && rest->data[n] == '=';
        struct moon_slice after = moon_slice_from(*rest, n + 1);
        size_t value_len = has_value ? moon_slice_find(after, '&') : 0;
        *name = moon_slice(rest->data, n);
        *value = has_value ? moon_slice(after.data, value_len) : moon_slice(NULL, 0);
        *rest = has_value ? moon_slice_from(after, value_len + 1) : after;
        if (n > 0 || has_value) {
            return true;
        }
    }
    return false;
}
