/* SPDX-License-Identifier: Apache-2.0 */

/// Answers out of the store: conditional requests (RFC 9110 §13), ranges (§14), Age, Cache-Status
/// (RFC 9211).

#include "base/clock.h"
#include "base/log.h"
#include "gateway/exchange.h"

static const struct moon_cache_facts *serve_facts(const struct moon_exchange *x)
{
    return (const struct moon_cache_facts *)(const void *)x->cache->served.facts;
}

static struct moon_slice serve_field(const struct moon_exchange *x, enum moon_field_id id)
{
    const struct moon_field *field = moon_fields_find_id(&x->response.fields, id);
    return field == NULL ? moon_slice(NULL, 0) : field->value;
}

static struct moon_slice serve_opaque(struct moon_slice etag)
{
    return moon_slice_from(etag, moon_slice_starts(etag, MOON_S("W/")) ? 2 : 0);
}

// ---- conditions --------------------------------------------------------------------------------

static bool serve_matches_any(struct moon_slice list, struct moon_slice etag)
{
    struct moon_slice element;
    if (moon_slice_is(moon_slice_trim(list), MOON_S("*")))
        return true;
    while (etag.data != NULL && moon_slice_next_element(&list, &element)) {
        if (moon_slice_is(serve_opaque(element), serve_opaque(etag)))
            return true; // the weak comparison (RFC 9110 §8.8.3.2)
    }
    return false;
}

// Without Last-Modified the Date serves (RFC 9111 §4.3.2).
static bool serve_is_unmodified(const struct moon_exchange *x, struct moon_slice since)
{
    int64_t since_ms, modified_ms;
    if (!moon_clock_parse_http_date(since, &since_ms))
        return false;
    struct moon_slice modified = serve_field(x, MOON_FIELD_LAST_MODIFIED);
    if (modified.data == NULL || !moon_clock_parse_http_date(modified, &modified_ms))
        modified_ms = serve_facts(x)->fresh.date_ms;
    return modified_ms <= since_ms;
}

static bool serve_is_not_modified(const struct moon_exchange *x)
{
    const struct moon_cache_conditions *client = &x->cache->client;
    if (x->response.status != 200)
        return false;
    if (client->if_none_match.data != NULL)
        return serve_matches_any(client->if_none_match, serve_field(x, MOON_FIELD_ETAG));
    return client->if_modified_since.data != NULL &&
           serve_is_unmodified(x, client->if_modified_since);
}

// ---- ranges ------------------------------------------------------------------------------------

// If-Range takes a strong validator only.
static bool serve_range_holds(const struct moon_exchange *x)
{
    struct moon_slice given = x->cache->client.if_range;
    if (given.data == NULL)
        return true;
    if (given.len > 0 && given.data[0] == '"')
        return moon_slice_is(given, serve_field(x, MOON_FIELD_ETAG));
    struct moon_slice modified = serve_field(x, MOON_FIELD_LAST_MODIFIED);
    int64_t modified_ms;
    if (!moon_slice_is(given, modified) || !moon_clock_parse_http_date(modified, &modified_ms))
        return false;
    // Strong when a second or more lies between it and the Date (RFC 9110 §8.8.2.2).
    return serve_facts(x)->fresh.date_ms >= modified_ms + 1000;
}

enum serve_range { SERVE_WHOLE, SERVE_PART, SERVE_NONE };

// One range of bytes; several, or what cannot be read, gives the whole.
static enum serve_range serve_parse_range(struct moon_slice text, uint64_t size, uint64_t *from,
                                          uint64_t *to)
{
    int64_t first = 0, last = 0;
    if (!moon_slice_starts_nocase(text, MOON_S("bytes=")))
        return SERVE_WHOLE;
    text = moon_slice_trim(moon_slice_from(text, 6));
    size_t dash = moon_slice_find(text, '-');
    if (dash == text.len || moon_slice_find(text, ',') < text.len)
        return SERVE_WHOLE;
    struct moon_slice a = moon_slice_trim(moon_slice(text.data, dash));
    struct moon_slice b = moon_slice_trim(moon_slice_from(text, dash + 1));
    bool has_first = a.len > 0, has_last = b.len > 0;
    if ((!has_first && !has_last) || (has_first && !moon_slice_number(a, &first)) ||
        (has_last && !moon_slice_number(b, &last)))
        return SERVE_WHOLE;
    if (!has_first) { // the last so many
        if (last == 0 || size == 0)
            return SERVE_NONE;
        *from = (uint64_t)last >= size ? 0 : size - (uint64_t)last;
        *to = size - 1;
        return SERVE_PART;
    }
    if (has_last && last < first)
        return SERVE_WHOLE;
    if ((uint64_t)first >= size)
        return SERVE_NONE;
    *from = (uint64_t)first;
    *to = has_last && (uint64_t)last < size ? (uint64_t)last : size - 1;
    return SERVE_PART;
}

static void serve_set(struct moon_exchange *x, struct moon_slice name, struct moon_slice value)
{
    if (value.data == NULL || moon_fields_set(&x->response.fields, name, value) != MOON_OK)
        moon_log_warn("no memory for a field request=%.*s", MOON_SLICE_ARG(x->ctx.id));
}

static void serve_empty(struct moon_exchange *x, int status)
{
    x->response.status = status;
    x->response.framing = MOON_FRAMING_LENGTH;
    x->response.content_length = status == 304 ? -1 : 0;
    moon_buf_clear(&x->response_body);
    x->is_response_kept = true;
    x->cache->is_serving = false;
}

static void serve_range(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    uint64_t size = cache->served.body_bytes, from = 0, to = 0;
    if (cache->client.range.data == NULL || x->request.method != MOON_METHOD_GET ||
        x->response.status != 200 || !serve_range_holds(x))
        return;
    switch (serve_parse_range(cache->client.range, size, &from, &to)) {
    case SERVE_WHOLE:
        return;
    case SERVE_NONE:
        serve_set(x, MOON_S("Content-Range"),
                  moon_arena_printf(&x->arena, "bytes */%llu", (unsigned long long)size));
        moon_fields_remove_id(&x->response.fields, MOON_FIELD_CONTENT_TYPE);
        moon_fields_remove_id(&x->response.fields, MOON_FIELD_CONTENT_ENCODING);
        serve_empty(x, 416);
        return;
    case SERVE_PART:
        serve_set(x, MOON_S("Content-Range"),
                  moon_arena_printf(&x->arena, "bytes %llu-%llu/%llu", (unsigned long long)from,
                                    (unsigned long long)to, (unsigned long long)size));
        moon_store_skip(&cache->served, &cache->cursor, from);
        cache->left = to - from + 1;
        x->response.status = 206;
        x->response.content_length = (int64_t)cache->left;
        return;
    }
}

// ---- Cache-Status ------------------------------------------------------------------------------

static const char *const serve_forward_names[] = {
    [MOON_CACHE_FWD_BYPASS] = "bypass",     [MOON_CACHE_FWD_METHOD] = "method",
    [MOON_CACHE_FWD_URI_MISS] = "uri-miss", [MOON_CACHE_FWD_VARY_MISS] = "vary-miss",
    [MOON_CACHE_FWD_REQUEST] = "request",   [MOON_CACHE_FWD_STALE] = "stale",
    [MOON_CACHE_FWD_PARTIAL] = "partial",
};

/// Text put together in place: a hit needs no printf. It is made of names and numbers of ours.
enum { SERVE_TEXT_BYTES = 192 };

struct serve_text {
    char *bytes;
    size_t len;
};

static inline void text_add(struct serve_text *text, struct moon_slice s)
{
    MOON_ASSERT(s.len <= SERVE_TEXT_BYTES - text->len);
    memcpy(text->bytes + text->len, s.data, s.len);
    text->len += s.len;
}

static void text_add_number(struct serve_text *text, int64_t value)
{
    char digits[MOON_NUMBER_TEXT_BYTES];
    text_add(text, moon_slice_of_number(digits, value));
}

static void status_text(const struct moon_exchange *x, struct serve_text *text)
{
    const struct moon_cache_state *cache = x->cache;
    if (cache->asked_ms == 0) {
        int64_t left = moon_freshness_left_ms(&serve_facts(x)->fresh, cache->now_ms);
        text_add(text, MOON_S("moongate; hit; ttl="));
        text_add_number(text, left > 0 ? (left + 999) / 1000 : -((-left + 999) / 1000));
        if (cache->remote.is_hit)
            text_add(text, MOON_S("; detail=shared"));
    } else {
        text_add(text, MOON_S("moongate"));
    }
    if (cache->asked_ms != 0 && cache->forward != MOON_CACHE_FWD_NONE) {
        text_add(text, MOON_S("; fwd="));
        text_add(text, moon_slice_text(serve_forward_names[cache->forward]));
        if (x->call.response.status >= 200) {
            text_add(text, MOON_S("; fwd-status="));
            text_add_number(text, x->call.response.status);
        }
        if (cache->is_stored)
            text_add(text, MOON_S("; stored"));
        if (cache->detail != NULL) {
            text_add(text, MOON_S("; detail="));
            text_add(text, moon_slice_text(cache->detail));
        }
    }
    if (cache->is_collapsed)
        text_add(text, MOON_S("; collapsed"));
}

static enum moon_rc status_add(struct moon_exchange *x, struct serve_text *text)
{
    struct moon_fields *fields = &x->response.fields;
    const struct moon_slice name = MOON_S("Cache-Status");
    struct moon_slice before = {NULL, 0};
    status_text(x, text);
    struct moon_slice own = moon_slice(text->bytes, text->len), all;
    if (!x->cache->is_serving) // what is stored has none
        before = moon_fields_joined(fields, name);
    if (before.len == 0)
        return moon_fields_add_known(fields, MOON_FIELD_OTHER, name, own);
    struct moon_slice parts[3] = {before, MOON_S(", "), own};
    return moon_arena_join(&x->arena, parts, 3, &all) ? moon_fields_set(fields, name, all)
                                                      : MOON_ERR_MEMORY;
}

void moon_cache_add_status(struct moon_exchange *x)
{
    struct serve_text text = {moon_arena_alloc(&x->arena, SERVE_TEXT_BYTES), 0};
    if (text.bytes == NULL || status_add(x, &text) != MOON_OK)
        moon_log_warn("no memory for Cache-Status request=%.*s", MOON_SLICE_ARG(x->ctx.id));
}

// ---- the whole ---------------------------------------------------------------------------------

static void serve_begin(struct moon_exchange *x)
{
    moon_response_init(&x->response, &x->arena);
    x->response.version_major = x->response.version_minor = 1;
    x->response.is_keep_alive = true;
    x->is_answered = false;
    x->is_response_kept = false;
    x->ctx.response = &x->response;
}

static void serve_age(struct moon_exchange *x)
{
    char *digits = moon_arena_alloc(&x->arena, MOON_NUMBER_TEXT_BYTES);
    int64_t age_ms = moon_freshness_age_ms(&serve_facts(x)->fresh, x->cache->now_ms);
    if (digits == NULL ||
        moon_fields_add_known(&x->response.fields, MOON_FIELD_AGE, MOON_S("Age"),
                              moon_slice_of_number(digits, age_ms / 1000)) != MOON_OK)
        moon_log_warn("no memory for Age request=%.*s", MOON_SLICE_ARG(x->ctx.id));
}

void moon_cache_serve(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    serve_begin(x);
    if (!moon_cache_unpack(cache->served.head, &x->response))
        moon_log_warn("no memory for a stored response request=%.*s", MOON_SLICE_ARG(x->ctx.id));
    x->is_from_cache = true;
    cache->is_serving = true;
    cache->left = cache->served.body_bytes;
    moon_store_rewind(&cache->served, &cache->cursor);
    x->response.framing = MOON_FRAMING_LENGTH;
    x->response.content_length = (int64_t)cache->left;
    serve_age(x);
    moon_cache_add_status(x);
    if (serve_is_not_modified(x)) {
        moon_fields_remove_id(&x->response.fields, MOON_FIELD_CONTENT_TYPE);
        moon_fields_remove_id(&x->response.fields, MOON_FIELD_CONTENT_ENCODING);
        serve_empty(x, 304);
        return;
    }
    serve_range(x);
    if (cache->left == 0 && cache->is_serving) // nothing to pump
        serve_empty(x, x->response.status);
}

void moon_cache_refuse(struct moon_exchange *x)
{
    struct moon_slice date;
    serve_begin(x);
    serve_empty(x, 504);
    if (moon_arena_copy(&x->arena, moon_clock_http_date(moon_clock_wall_ms()), &date))
        serve_set(x, MOON_S("Date"), date);
    serve_set(x, MOON_S("Cache-Status"), MOON_S("moongate; detail=only-if-cached"));
}
