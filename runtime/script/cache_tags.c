/* SPDX-License-Identifier: Apache-2.0 */

/// Names by which stored objects are purged: tags, keys, URIs. All are digests, so that nodes agree on
/// them; in a node's store two that meet in one cell are purged together, which costs a miss and
/// nothing else.

#include "http/uri.h"
#include "net/digest.h"
#include "script/cache_rule.h"

enum { TAGS_PARTS = 64 };

bool moon_cache_digest(struct moon_arena *arena, const struct moon_slice *parts, size_t count,
                       uint8_t out[MOON_CACHE_TIER_NAME_BYTES])
{
    struct moon_slice all[2 * TAGS_PARTS], text;
    uint32_t lengths[TAGS_PARTS];
    if (count > TAGS_PARTS)
        return false;
    for (size_t i = 0; i < count; i++) {
        lengths[i] = parts[i].data == NULL ? UINT32_MAX : (uint32_t)parts[i].len;
        all[2 * i] = moon_slice((const char *)&lengths[i], sizeof(lengths[i]));
        all[2 * i + 1] = parts[i];
    }
    _Static_assert((int)MOON_CACHE_TIER_NAME_BYTES == (int)MOON_DIGEST_BYTES, "names are digests");
    if (!moon_arena_join(arena, all, 2 * count, &text))
        return false;
    moon_digest_sha256(text, out);
    return true;
}

static struct moon_cache_tag tags_of(struct moon_arena *arena, const struct moon_slice *parts,
                                     size_t count)
{
    uint8_t digest[MOON_CACHE_TIER_NAME_BYTES];
    struct moon_cache_tag tag = {{0}};
    if (moon_cache_digest(arena, parts, count, digest))
        memcpy(tag.bytes, digest, sizeof(tag.bytes));
    return tag;
}

struct moon_cache_tag moon_cache_tag(struct moon_arena *arena, struct moon_slice kind,
                                     struct moon_slice name)
{
    struct moon_slice parts[2] = {kind, name};
    return tags_of(arena, parts, 2);
}

struct moon_cache_tag moon_cache_uri_tag(struct moon_arena *arena, struct moon_slice scheme,
                                         struct moon_slice authority, struct moon_slice path,
                                         struct moon_slice query)
{
    struct moon_slice parts[5] = {MOON_S("url"), scheme, authority, path, query};
    return tags_of(arena, parts, 5);
}

void moon_cache_purge(struct moon_store_seat *seat, struct moon_cache_tier *tier,
                      const struct moon_cache_tag *tag)
{
    if (tier != NULL)
        moon_cache_tier_purge(tier, tag);
    else
        moon_store_purge(moon_store_of(seat), moon_cache_tag_hash(tag));
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

bool moon_cache_url_tag(struct moon_arena *arena, struct moon_slice text,
                        struct moon_cache_tag *tag)
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
        authority = moon_arena_printf(arena, url.authority.is_ip_literal ? "[%.*s]:%d" : "%.*s:%d",
                                      MOON_SLICE_ARG(host), url.port);
    *tag = moon_cache_uri_tag(arena, usual == 443 ? MOON_S("https") : MOON_S("http"), authority,
                              path, url.query);
    return true;
}
