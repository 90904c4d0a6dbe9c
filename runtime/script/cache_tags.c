/* SPDX-License-Identifier: Apache-2.0 */

/// Names by which stored objects are purged: tags, keys, URIs. All are hashes of 64 bits; two that
/// meet in one cell are purged together, which costs a miss and nothing else.

#include "base/hash.h"
#include "http/uri.h"
#include "script/cache_rule.h"

enum { CACHE_URI_SEED = 0x7572 };

uint64_t moon_cache_tag_hash(struct moon_slice kind, struct moon_slice name)
{
    return moon_hash_mix(moon_hash(kind) * 31 + moon_hash(name));
}

uint64_t moon_cache_uri_hash(struct moon_slice scheme, struct moon_slice authority,
                             struct moon_slice path, struct moon_slice query)
{
    uint64_t h = CACHE_URI_SEED;
    struct moon_slice parts[4] = {scheme, authority, path, query};
    for (size_t i = 0; i < MOON_COUNT(parts); i++)
        h = moon_hash_mix(h * UINT64_C(0x100000001b3) + moon_hash(parts[i]));
    return moon_hash_mix(h + (query.data != NULL));
}

static bool tags_lower(struct moon_arena *arena, struct moon_slice text, struct moon_slice *out)
{
    char *lower = moon_arena_alloc(arena, text.len + 1);
    if (lower == NULL)
        return false;
    for (size_t i = 0; i < text.len; i++)
        lower[i] = moon_lower(text.data[i]);
    *out = moon_slice(lower, text.len);
    return true;
}

bool moon_cache_url_hash(struct moon_arena *arena, struct moon_slice text, uint64_t *hash)
{
    struct moon_url url;
    struct moon_slice path, host;
    if (!moon_url_parse(text, &url) || !tags_lower(arena, url.authority.host, &host) ||
        moon_uri_normalize_path(arena, url.path.len > 0 ? url.path : MOON_S("/"),
                                MOON_URI_ALLOW_ENCODED_SLASH, &path) != MOON_OK)
        return false;
    struct moon_slice authority = host;
    int usual = moon_slice_is_nocase(url.scheme, MOON_S("https")) ? 443 : 80;
    if (url.port != usual)
        authority = moon_arena_printf(arena, "%.*s:%d", MOON_SLICE_ARG(host), url.port);
    *hash = moon_cache_uri_hash(usual == 443 ? MOON_S("https") : MOON_S("http"), authority, path,
                                url.query);
    return true;
}
