/* SPDX-License-Identifier: Apache-2.0 */

/// A stored response goes on to hold, with newer fields: after a 304 (RFC 9111 §4.3.4), and after the
/// 200 that a HEAD got (§4.3.5).

#include "gateway/exchange.h"
#include "gateway/forward.h"

// What a 304 says replaces what was stored, but for what belongs to the body (RFC 9111 §3.2): that
// one is not the 304's.
static bool freshen_is_kept(const struct moon_fields *fields, size_t i)
{
    switch ((int)fields->ids[i]) {
    case MOON_FIELD_CONTENT_LENGTH:
    case MOON_FIELD_CONTENT_ENCODING:
    case MOON_FIELD_CONTENT_RANGE:
    case MOON_FIELD_ETAG:
        return true;
    default:
        return moon_slice_is_nocase(fields->items[i].name, MOON_S("content-md5")) ||
               moon_slice_is_nocase(fields->items[i].name, MOON_S("content-digest"));
    }
}

static bool freshen_merge(struct moon_exchange *x, struct moon_response *merged)
{
    const struct moon_fields *fresh = &x->response.fields;
    moon_response_init(merged, &x->arena);
    if (!moon_cache_unpack(x->cache->stale.head, merged))
        return false;
    for (size_t i = 0; i < fresh->count; i++) {
        if (!freshen_is_kept(fresh, i))
            moon_fields_remove(&merged->fields, fresh->items[i].name);
    }
    for (size_t i = 0; i < fresh->count; i++) {
        enum moon_field_id id = (enum moon_field_id)fresh->ids[i];
        if (!freshen_is_kept(fresh, i) &&
            moon_fields_add_known(&merged->fields, id, fresh->items[i].name,
                                  fresh->items[i].value) != MOON_OK)
            return false;
    }
    return true;
}

static void freshen_copy_body(struct moon_exchange *x)
{
    struct moon_store_cursor cursor;
    struct moon_slice run;
    moon_store_rewind(&x->cache->stale, &cursor);
    while ((run = moon_store_next(&x->cache->stale, &cursor, UINT64_MAX)).len > 0) {
        if (!moon_store_write(&x->cache->writer, run))
            return;
    }
}

static bool freshen_is_same(const struct moon_exchange *x, const struct moon_response *stored,
                            enum moon_field_id id)
{
    const struct moon_field *came = moon_fields_find_id(&x->response.fields, id);
    const struct moon_field *had = moon_fields_find_id(&stored->fields, id);
    return came == NULL || (had != NULL && moon_slice_is(came->value, had->value));
}

// Whether the HEAD speaks of what is stored: validators and length that it brings are the same.
bool moon_cache_head_holds(struct moon_exchange *x)
{
    struct moon_response stored;
    int64_t length = x->response.content_length;
    moon_response_init(&stored, &x->arena);
    return moon_cache_unpack(x->cache->stale.head, &stored) && stored.status == 200 &&
           (length < 0 || (uint64_t)length == x->cache->stale.body_bytes) &&
           freshen_is_same(x, &stored, MOON_FIELD_ETAG) &&
           freshen_is_same(x, &stored, MOON_FIELD_LAST_MODIFIED);
}

// The stored response holds on, with the fields that came. Its body is copied into a new object:
// the old one may be on its way to others.
void moon_cache_freshen(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    struct moon_cache_control cc;
    struct moon_response merged;
    bool is_merged = freshen_merge(x, &merged);
    moon_forward_end_call(x);
    if (is_merged) {
        x->response = merged;
        moon_cache_read_control(x, &merged, &cc);
        bool may_store = (cc.flags & (MOON_CC_NO_STORE | MOON_CC_PRIVATE)) == 0;
        if (may_store && moon_cache_begin(x, &cc, (int64_t)cache->stale.body_bytes)) {
            freshen_copy_body(x);
            cache->is_stored = cache->writer.seat != NULL;
        }
    }
    moon_cache_commit(x);
    struct moon_store_object object = moon_store_move(&cache->stale);
    if (cache->is_stored) {
        struct moon_store_object renewed;
        if (moon_store_find(moon_cache_seat(x), cache->key, cache->now_ms, moon_cache_match, x,
                            cache->room, &renewed) == MOON_STORE_OBJECT) {
            moon_store_release(&object);
            object = renewed;
        }
    }
    (void)moon_cache_answer_from(x, &object, MOON_CACHE_REVALIDATED);
}
