/* SPDX-License-Identifier: Apache-2.0 */

/// What a successful unsafe request makes invalid (RFC 9111 §4.4).

#include "gateway/exchange.h"
#include "http/uri.h"

// A reference, made absolute: the request's URI is its base.
static struct moon_slice invalidate_resolve(struct moon_exchange *x, struct moon_slice reference)
{
    struct moon_url url;
    struct moon_slice path = x->original_path, none = {NULL, 0}, joined;
    if (moon_url_parse(reference, &url))
        return reference;
    bool has_authority = moon_slice_starts(reference, MOON_S("//"));
    bool has_path = has_authority || moon_slice_starts(reference, MOON_S("/"));
    while (path.len > 0 && path.data[path.len - 1] != '/')
        path.len--;
    struct moon_slice parts[5] = {x->request.scheme, has_authority ? MOON_S(":") : MOON_S("://"),
                                  has_authority ? none : moon_cache_authority(x),
                                  has_path ? none : path, reference};
    return moon_arena_join(&x->arena, parts, MOON_COUNT(parts), &joined) ? joined : none;
}

static bool invalidate_is_own(struct moon_exchange *x, const struct moon_url *url)
{
    struct moon_url own;
    struct moon_slice text, parts[3] = {x->request.scheme, MOON_S("://"), moon_cache_authority(x)};
    return moon_arena_join(&x->arena, parts, MOON_COUNT(parts), &text) &&
           moon_url_parse(text, &own) && own.port == url->port &&
           moon_slice_is_nocase(own.scheme, url->scheme) &&
           moon_slice_is_nocase(own.authority.host, url->authority.host);
}

// Another origin's are none of ours to invalidate (RFC 9111 §4.4).
static void invalidate_location(struct moon_exchange *x, enum moon_field_id id)
{
    const struct moon_field *field = moon_fields_find_id(&x->response.fields, id);
    struct moon_url url;
    struct moon_cache_tag tag;
    if (field == NULL || field->value.len == 0)
        return;
    struct moon_slice target = invalidate_resolve(x, field->value);
    target = moon_slice(target.data, moon_slice_find(target, '#'));
    if (moon_url_parse(target, &url) && invalidate_is_own(x, &url) &&
        moon_cache_url_tag(&x->arena, target, &tag))
        moon_cache_purge(moon_cache_seat(x), moon_cache_tier(x), &tag);
}

bool moon_cache_post_is_get(struct moon_exchange *x)
{
    const struct moon_field *field =
        moon_fields_find_id(&x->response.fields, MOON_FIELD_CONTENT_LOCATION);
    struct moon_cache_tag tag, own;
    if (x->request.method != MOON_METHOD_POST || x->response.status != 200 || field == NULL ||
        x->cache->own_key.data != NULL)
        return false;
    struct moon_slice target = invalidate_resolve(x, field->value);
    own = moon_cache_name(x);
    return moon_cache_url_tag(&x->arena, target, &tag) && memcmp(&tag, &own, sizeof(tag)) == 0;
}

// RFC 9111 §4.4.
void moon_cache_invalidate(struct moon_exchange *x)
{
    struct moon_cache_tag own = moon_cache_name(x);
    moon_cache_purge(moon_cache_seat(x), moon_cache_tier(x), &own);
    invalidate_location(x, MOON_FIELD_LOCATION);
    invalidate_location(x, MOON_FIELD_CONTENT_LOCATION);
}
