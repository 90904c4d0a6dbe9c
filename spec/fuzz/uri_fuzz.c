/* SPDX-License-Identifier: Apache-2.0 */

/// Paths and URLs: a normal form is its own normal form, holds nothing that is refused, and decodes
/// to what the raw path decodes to where that has no dot segments and no slashes to lose.

#include "base/arena.h"
#include "http/uri.h"

enum { FUZZ_ARENA_BYTES = 1 << 22 };

static void fuzz_check_normal(struct moon_slice path, unsigned allow)
{
    MOON_ASSERT(path.len > 0 && path.data[0] == '/');
    for (size_t i = 0; i < path.len; i++) {
        char c = path.data[i];
        MOON_ASSERT(c > ' ' && c < 0x7F && c != '\\' && c != '?' && c != '#');
        bool is_start = c == '/' && i + 1 < path.len;
        if (is_start && !(allow & MOON_URI_KEEP_SLASHES))
            MOON_ASSERT(path.data[i + 1] != '/');
        struct moon_slice rest = moon_slice_from(path, i);
        MOON_ASSERT(!moon_slice_starts(rest, MOON_S("/../")));
        MOON_ASSERT(!moon_slice_starts(rest, MOON_S("/./")));
        MOON_ASSERT(!moon_slice_is(rest, MOON_S("/..")) && !moon_slice_is(rest, MOON_S("/.")));
        MOON_ASSERT(!moon_slice_starts(rest, MOON_S("%00")));
        MOON_ASSERT((allow & MOON_URI_ALLOW_ENCODED_SLASH) ||
                    !moon_slice_starts(rest, MOON_S("%2F")));
    }
}

static void fuzz_path(struct moon_slice raw, unsigned allow)
{
    struct moon_arena arena;
    struct moon_slice path, again;
    moon_arena_init(&arena, FUZZ_ARENA_BYTES);
    if (moon_uri_normalize_path(&arena, raw, allow, &path) == MOON_OK) {
        fuzz_check_normal(path, allow);
        enum moon_rc rc = moon_uri_normalize_path(&arena, path, allow, &again);
        MOON_ASSERT(rc == MOON_OK && moon_slice_is(path, again));
    }
    moon_arena_reset(&arena);
}

static void fuzz_parts(struct moon_slice in)
{
    struct moon_arena arena;
    struct moon_url url;
    struct moon_authority authority;
    struct moon_slice name, value, rest = in;
    moon_arena_init(&arena, FUZZ_ARENA_BYTES);
    if (moon_url_parse(in, &url)) {
        MOON_ASSERT(url.scheme.len > 0 && url.authority.host.len > 0 && url.port >= 0);
        MOON_ASSERT(moon_uri_parse_authority(url.authority_text, &authority));
    }
    struct moon_slice encoded = moon_uri_encode(&arena, in);
    MOON_ASSERT(moon_slice_is(moon_uri_decode(&arena, encoded, true), in));
    (void)moon_uri_decode(&arena, in, true);
    while (moon_query_next(&rest, &name, &value))
        MOON_ASSERT(name.len + value.len <= in.len);
    moon_arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1);
    copy[0] = '/';
    memcpy(copy + 1, data, size);
    for (unsigned allow = 0; allow < 4; allow++)
        fuzz_path(moon_slice(copy, size + 1), allow);
    free(copy);
    fuzz_parts(moon_slice((const char *)data, size));
    return 0;
}
