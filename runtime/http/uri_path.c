/* SPDX-License-Identifier: Apache-2.0 */
#include "http/chars.h"
#include "http/uri.h"

// The normal form while it is built. Segments are written first and judged when they end.
struct path_out {
    char *data; // room for three times the raw path: the worst that escaping can do
    size_t len;
    size_t segment; // where the last segment starts, behind its '/'
    unsigned allow;
    bool has_escaped_slash; // in this segment
};

// True where nothing has to be done: the common case, without a copy.
static bool path_is_plain(struct moon_slice raw, unsigned allow)
{
    char before = '\0';
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.data[i];
        if (c == '/') {
            if (before == '/' && !(allow & MOON_URI_KEEP_SLASHES)) {
                return false;
            }
        } else if (!moon_char_is(c, MOON_CHAR_PATH) || (c == '.' && before == '/')) {
            return false;
        }
        before = c;
    }
    return true;
}

static void path_put_escape(struct path_out *out, unsigned byte)
{
    static const char digits[] = "0123456789ABCDEF";
    out->data[out->len++] = '%';
    out->data[out->len++] = digits[byte >> 4];
    out->data[out->len++] = digits[byte & 15];
}

static bool path_put_decoded(struct path_out *out, char high, char low)
{
    int h = moon_char_hex(high), l = moon_char_hex(low);
    if (h < 0 || l < 0) {
        return false;
    }
    unsigned byte = (unsigned)(h * 16 + l);
    if (byte == '/') {
        if (!(out->allow & MOON_URI_ALLOW_ENCODED_SLASH)) {
            return false;
        }
        out->has_escaped_slash = true;
    }
    if (byte == '\0' || byte == '\\') {
        return false;
    }
    if (moon_char_is((char)byte, MOON_CHAR_UNRESERVED)) {
        out->data[out->len++] = (char)byte;
    } else {
        path_put_escape(out, byte);
    }
    return true;
}

// How many dots stand at `at`, when a segment of dots ends there: 0, 1 or 2.
static int path_dots(struct moon_slice part)
{
    if (part.len == 1 && part.data[0] == '.') {
        return 1;
    }
    return part.len == 2 && part.data[0] == '.' && part.data[1] == '.' ? 2 : 0;
}

// "..;x" and, where %2F is let through, "..%2Fx": dot segments to some backends.
static bool path_hides_dots(const struct path_out *out, struct moon_slice segment)
{
    size_t dots = 0;
    while (dots < segment.len && segment.data[dots] == '.') {
        dots++;
    }
    if ((dots == 1 || dots == 2) && dots < segment.len && segment.data[dots] == ';') {
        return true;
    }
    if (!out->has_escaped_slash) {
        return false;
    }
    size_t start = 0;
    for (size_t i = 0; i + 2 < segment.len; i++) {
        if (memcmp(segment.data + i, "%2F", 3) != 0) {
            continue;
        }
        if (path_dots(moon_slice(segment.data + start, i - start)) != 0) {
            return true;
        }
        start = i + 3;
    }
    return path_dots(moon_slice_from(segment, start)) != 0;
}

static bool path_has_double_escape(struct moon_slice segment)
{
    for (size_t i = 0; i + 4 < segment.len; i++) {
        if (memcmp(segment.data + i, "%25", 3) == 0 &&
            moon_char_is(segment.data[i + 3], MOON_CHAR_HEX) &&
            moon_char_is(segment.data[i + 4], MOON_CHAR_HEX)) {
            return true;
        }
    }
    return false;
}

// Takes out the last segment and goes back to the one before it. @return false at the root
static bool path_pop(struct path_out *out)
{
    if (out->segment <= 1) {
        return false;
    }
    size_t slash = out->segment - 1; // of the segment being dropped
    while (out->data[slash - 1] != '/') {
        slash--;
    }
    out->len = out->segment = slash;
    return true;
}

// A segment has been written; `is_last` when the path ends behind it.
static bool path_end_segment(struct path_out *out, bool is_last)
{
    struct moon_slice segment = moon_slice(out->data + out->segment, out->len - out->segment);
    if (path_hides_dots(out, segment) || path_has_double_escape(segment)) {
        return false;
    }
    out->has_escaped_slash = false;
    int dots = path_dots(segment);
    if (dots == 2) {
        return path_pop(out);
    }
    bool is_dropped = dots == 1 || (segment.len == 0 && !(out->allow & MOON_URI_KEEP_SLASHES));
    if (is_dropped) {
        out->len = out->segment;
        return true;
    }
    if (!is_last) {
        out->data[out->len++] = '/';
    }
    out->segment = out->len;
    return true;
}

static bool path_build(struct path_out *out, struct moon_slice raw)
{
    out->data[out->len++] = '/';
    out->segment = 1;
    for (size_t i = 1; i < raw.len; i++) {
        char c = raw.data[i];
        if (moon_char_is(c, MOON_CHAR_PATH)) {
            out->data[out->len++] = c;
        } else if (c == '/') {
            if (!path_end_segment(out, false)) {
                return false;
            }
        } else if (c == '%' && i + 2 < raw.len) {
            if (!path_put_decoded(out, raw.data[i + 1], raw.data[i + 2])) {
                return false;
            }
            i += 2;
        } else if (moon_char_is(c, MOON_CHAR_QUOTED)) {
            path_put_escape(out, (unsigned char)c);
        } else {
            return false;
        }
    }
    return path_end_segment(out, true);
}

enum moon_rc moon_uri_normalize_path(struct moon_arena *arena, struct moon_slice raw,
                                     unsigned allow, struct moon_slice *path)
{
    if (raw.len == 0 || raw.data[0] != '/') {
        return MOON_ERR_BAD_TARGET;
    }
    if (MOON_LIKELY(path_is_plain(raw, allow))) {
        *path = raw;
        return MOON_OK;
    }
    if (raw.len > SIZE_MAX / 4) {
        return MOON_ERR_BAD_TARGET;
    }
    struct path_out out = {.data = moon_arena_alloc(arena, raw.len * 3), .allow = allow};
    if (out.data == NULL) {
        return MOON_ERR_MEMORY;
    }
    if (!path_build(&out, raw)) {
        return MOON_ERR_BAD_TARGET;
    }
    *path = moon_slice(out.data, out.len);
    return MOON_OK;
}
