/* SPDX-License-Identifier: Apache-2.0 */

/// Cached responses in the second tier (upstream/cache_tier.h): asked where this node has nothing
/// that is fresh, filled when it stores something. What is found is stored here first, and served
/// from here.
///
/// A response without Vary lies under the request's name. One with Vary lies under a name with the
/// fields that it varies on; the request's own name then has the list of these.

#include "base/clock.h"
#include "base/log.h"
#include "gateway/exchange.h"

enum {
    REMOTE_PARTS = 64,     // runs of a body
    REMOTE_NEWER_MS = 500, // clocks of two readings differ by less
};

static const int64_t remote_time_most_ms = INT64_C(1) << 45; // a thousand years
static const int64_t remote_keep_most_ms = INT64_C(24) * 3600 * 1000;

enum remote_kind { REMOTE_VARY = 1, REMOTE_RESPONSE = 2 };

/// Stands before a response's head and body, or before the names of a Vary.
struct remote_header {
    uint16_t kind;
    uint16_t fields; // MOON_FIELD_COUNT of the writer: another release has other numbers
    uint32_t head_len;
    int64_t age_ms; // since the response came, when it was put there
    int64_t stamp_ms;
    struct moon_cache_facts facts;
};

// ---- filling -----------------------------------------------------------------------------------

static int64_t remote_keep_ms(const struct moon_store_info *info)
{
    int64_t left = info->keep_until_ms - moon_clock_wall_ms();
    return left < remote_keep_most_ms ? left : remote_keep_most_ms;
}

static void remote_put(struct moon_exchange *x, const uint8_t *name, const struct moon_slice *parts,
                       size_t count)
{
    struct moon_cache_state *cache = x->cache;
    struct moon_cache_tag tags[MOON_CACHE_TIER_TAGS];
    size_t n = 0;
    _Static_assert((int)MOON_CACHE_RULE_TAGS < (int)MOON_CACHE_TIER_TAGS, "a URI and the tags");
    tags[n++] = cache->name;
    for (size_t i = 0; i < cache->rule->tag_count; i++)
        tags[n++] = cache->rule->tags[i];
    if (!moon_cache_tier_put(moon_cache_tier(x), name, parts, count, tags, n,
                             cache->remote.position, remote_keep_ms(&cache->info)))
        return; // this node has it
}

// The object's runs behind two places that the caller fills. @return 0 when there are too many
static size_t remote_runs(const struct moon_store_object *object,
                          struct moon_slice parts[REMOTE_PARTS])
{
    struct moon_store_cursor cursor;
    struct moon_slice run;
    size_t n = 2;
    moon_store_rewind(object, &cursor);
    while ((run = moon_store_next(object, &cursor, UINT64_MAX)).len > 0) {
        if (n == REMOTE_PARTS)
            return 0;
        parts[n++] = run;
    }
    return n;
}

static void remote_put_object(struct moon_exchange *x, const struct moon_store_object *object)
{
    struct moon_slice parts[REMOTE_PARTS], vary = moon_cache_packed_vary(object->head);
    uint8_t name[MOON_CACHE_TIER_NAME_BYTES];
    int64_t now = moon_clock_wall_ms();
    struct remote_header header = {.kind = REMOTE_RESPONSE, .fields = MOON_FIELD_COUNT};
    size_t count = remote_runs(object, parts);
    if (count == 0 || vary.len > MOON_CACHE_VARY_BYTES ||
        !moon_cache_remote_name(x, &x->cache->asked, vary, name))
        return;
    header.facts = *moon_cache_facts(object);
    header.age_ms = now - header.facts.fresh.response_ms;
    header.stamp_ms = object->stamp_ms;
    header.head_len = (uint32_t)object->head.len;
    parts[0] = moon_slice((const char *)&header, sizeof(header));
    parts[1] = object->head;
    remote_put(x, name, parts, count);
    if (vary.len == 0 || !moon_cache_remote_name(x, &x->cache->asked, moon_slice("", 0), name))
        return;
    header = (struct remote_header){
        .kind = REMOTE_VARY, .fields = MOON_FIELD_COUNT, .head_len = (uint32_t)vary.len};
    parts[1] = vary;
    remote_put(x, name, parts, 2);
}

void moon_cache_remote_fill(struct moon_exchange *x)
{
    struct moon_store_object object;
    if (!x->cache->rule->is_tiered || moon_cache_tier(x) == NULL ||
        moon_store_find(moon_cache_seat(x), x->cache->key, moon_clock_wall_ms(), moon_cache_match,
                        x, NULL, &object) != MOON_STORE_OBJECT)
        return;
    remote_put_object(x, &object);
    moon_store_release(&object);
}

// ---- asking ------------------------------------------------------------------------------------

// Stores what came, as if the backend had just answered with it.
static bool remote_take(struct moon_exchange *x, const struct remote_header *header,
                        struct moon_slice bytes, int64_t since_put_ms)
{
    struct moon_cache_state *cache = x->cache;
    struct moon_cache_facts facts = header->facts;
    struct moon_slice head = moon_slice(bytes.data, header->head_len);
    struct moon_slice body = moon_slice_from(bytes, header->head_len);
    if (!moon_cache_head_is_sound(head) || moon_cache_packed_vary(head).len > MOON_CACHE_VARY_BYTES)
        return false;
    // By this node's clock: the writer's may be another.
    int64_t shift = cache->now_ms - header->age_ms - since_put_ms - facts.fresh.response_ms;
    facts.fresh.response_ms += shift;
    if (facts.fresh.response_ms <= cache->remote.known_ms + REMOTE_NEWER_MS)
        return false; // it is what we have
    struct moon_slice vary = moon_cache_packed_vary(head);
    struct moon_store_info *info = &cache->info;
    info->tag_count = 0;
    moon_cache_fill_tags(x, info);
    info->stamp_ms = header->stamp_ms;
    info->keep_until_ms = moon_cache_keep_until(&facts.fresh);
    info->variant = vary.len == 0 ? 0 : moon_cache_variant(&cache->asked, vary);
    memcpy(info->facts, &facts, sizeof(facts));
    struct moon_store_writer writer;
    return moon_store_begin(moon_cache_seat(x), cache->key, head, (int64_t)body.len, &writer) &&
           moon_store_write(&writer, body) && moon_store_commit(&writer, info);
}

// Redis is not ours alone: what lies there is believed as far as it cannot do harm.
static bool remote_read(const struct moon_cache_tier_object *object, struct remote_header *header,
                        struct moon_slice *rest)
{
    if (object == NULL || object->bytes.len < sizeof(*header))
        return false;
    memcpy(header, object->bytes.data, sizeof(*header));
    *rest = moon_slice_from(object->bytes, sizeof(*header));
    const struct moon_freshness *fresh = &header->facts.fresh;
    const int64_t times[] = {header->age_ms,   fresh->response_ms,
                             fresh->date_ms,   fresh->lifetime_ms,
                             fresh->age_ms,    fresh->stale_while_revalidate_ms,
                             header->stamp_ms, fresh->stale_if_error_ms};
    for (size_t i = 0; i < MOON_COUNT(times); i++) {
        if (times[i] < 0 || times[i] > remote_time_most_ms)
            return false;
    }
    return header->fields == MOON_FIELD_COUNT && header->head_len <= rest->len;
}

static void remote_found(void *owner, enum moon_rc rc, const struct moon_cache_tier_object *object)
{
    struct moon_exchange *x = owner;
    struct moon_cache_remote *remote = &x->cache->remote;
    struct remote_header header;
    struct moon_slice rest;
    remote->query = NULL;
    x->cache->now_ms = moon_clock_wall_ms();
    if (rc == MOON_OK && remote_read(object, &header, &rest)) {
        if (header.kind == REMOTE_RESPONSE) {
            remote->is_hit = remote_take(x, &header, rest, object->since_put_ms);
        } else if (header.kind == REMOTE_VARY && !remote->is_vary_known) {
            uint8_t name[MOON_CACHE_TIER_NAME_BYTES];
            remote->is_vary_known = true;
            struct moon_slice vary = moon_slice(rest.data, header.head_len);
            if (vary.len > 0 && vary.len <= MOON_CACHE_VARY_BYTES &&
                moon_cache_remote_name(x, &x->cache->asked, vary, name) &&
                moon_cache_tier_find(moon_cache_tier(x), name, remote_found, x, &remote->query) ==
                    MOON_AGAIN)
                return;
        }
    }
    moon_cache_resume(x);
}

bool moon_cache_remote_ask(struct moon_exchange *x, int64_t known_ms)
{
    struct moon_cache_remote *remote = &x->cache->remote;
    uint8_t name[MOON_CACHE_TIER_NAME_BYTES];
    if (!x->cache->rule->is_tiered || remote->is_asked || moon_cache_tier(x) == NULL ||
        x->cache->asked.arena == NULL)
        return false;
    remote->is_asked = true;
    remote->known_ms = known_ms;
    return moon_cache_remote_name(x, &x->cache->asked, moon_slice("", 0), name) &&
           moon_cache_tier_find(moon_cache_tier(x), name, remote_found, x, &remote->query) ==
               MOON_AGAIN;
}
