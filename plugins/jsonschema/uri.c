/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonschema/uri.h"

#include <string.h>

struct parts {
    struct moon_slice scheme;    // with its colon
    struct moon_slice authority; // with its slashes
    struct moon_slice path;
    struct moon_slice query; // with its question mark
};

static struct moon_slice take(struct moon_slice *rest, size_t len)
{
    struct moon_slice part = {rest->data, len};
    rest->data += len;
    rest->len -= len;
    return part;
}

static size_t span(struct moon_slice text, const char *stops)
{
    size_t i = 0;
    while (i < text.len && (text.data[i] == '\0' || strchr(stops, text.data[i]) == NULL)) {
        i++;
    }
    return i;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static struct parts split(struct moon_slice text)
{
    struct parts p = {{"", 0}, {"", 0}, {"", 0}, {"", 0}};
    size_t colon = span(text, ":/?#");
    if (colon > 0 && colon < text.len && text.data[colon] == ':' && is_letter(text.data[0])) {
        p.scheme = take(&text, colon + 1);
    }
    if (text.len >= 2 && text.data[0] == '/' && text.data[1] == '/') {
        struct moon_slice after = {text.data + 2, text.len - 2};
        p.authority = take(&text, 2 + span(after, "/?#"));
    }
    p.path = take(&text, span(text, "?#"));
    p.query = text;
    return p;
}

static char *append(char *to, struct moon_slice part)
{
    if (part.len > 0) {
        memcpy(to, part.data, part.len);
    }
    return to + part.len;
}

// Removes "." and ".." segments of an absolute path, in place.
static char *tidy(char *path, char *end)
{
    char *to = path;
    char *from = path;
    while (from < end) {
        char *stop = from + 1;
        while (stop < end && *stop != '/') {
            stop++;
        }
        size_t len = (size_t)(stop - from);
        bool is_dot = len == 2 && from[1] == '.';
        bool is_up = len == 3 && from[1] == '.' && from[2] == '.';
        if (is_up) {
            while (to > path && *--to != '/') {
            }
        }
        if (is_dot || is_up) {
            if (stop == end) {
                *to++ = '/';
            }
        } else {
            memmove(to, from, len);
            to += len;
        }
        from = stop;
    }
    return to;
}

static char *merge_path(char *to, const struct parts *base, struct moon_slice path)
{
    char *begin = to;
    if (path.len > 0 && path.data[0] == '/') {
        to = append(to, path);
    } else {
        size_t keep = base->path.len;
        while (keep > 0 && base->path.data[keep - 1] != '/') {
            keep--;
        }
        if (keep == 0 && base->authority.len > 0) {
            *to++ = '/';
        }
        to = append(to, (struct moon_slice){base->path.data, keep});
        to = append(to, path);
    }
    return to > begin && *begin == '/' ? tidy(begin, to) : to;
}

struct moon_slice jsc_uri_resolve(struct jsc_memory *m, struct moon_slice base,
                                  struct moon_slice reference, struct moon_slice *fragment)
{
    size_t hash = span(reference, "#");
    *fragment = hash < reference.len
                    ? (struct moon_slice){reference.data + hash + 1, reference.len - hash - 1}
                    : (struct moon_slice){"", 0};
    reference.len = hash;
    char *out = jsc_alloc(m, base.len + reference.len + 2);
    if (out == NULL) {
        return (struct moon_slice){NULL, 0};
    }
    struct parts b = split(base), r = split(reference);
    char *to = out;
    if (r.scheme.len > 0) {
        to = append(to, reference);
    } else if (r.authority.len > 0) {
        to = append(append(to, b.scheme), reference);
    } else {
        to = append(append(to, b.scheme), b.authority);
        if (r.path.len == 0) {
            to = append(to, b.path);
            to = append(to, r.query.len > 0 ? r.query : b.query);
        } else {
            to = append(merge_path(to, &b, r.path), r.query);
        }
    }
    return (struct moon_slice){out, (size_t)(to - out)};
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t jsc_uri_decode(char *text, size_t len)
{
    size_t to = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%' && i + 2 < len && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
            text[to++] = (char)(hex(text[i + 1]) << 4 | hex(text[i + 2]));
            i += 2;
        } else {
            text[to++] = text[i];
        }
    }
    return to;
}
