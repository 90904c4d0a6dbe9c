/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/cache.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/exchange.h"
#include "gateway/forward.h"
#include "http/uri.h"
#include "script/async.h"

enum {
    CACHE_MARK_MS = 120 * 1000,        // hit-for-miss
    CACHE_MARK_FAILURE_MS = 1000,      // nobody queues behind a backend that fails
    CACHE_KEEP_STALE_MS = 3600 * 1000, // past its lifetime, for validation
    CACHE_STATES_KEPT = 256,           // unused ones
};

static const int64_t cache_keep_most_ms = INT64_C(366) * 24 * 3600 * 1000;

static struct moon_flights *cache_flights(const struct moon_exchange *x)
{
    return x->gateway->env.flights;
}

struct moon_store_seat *moon_cache_seat(const struct moon_exchange *x)
{
    struct moon_flights *flights = cache_flights(x);
    return flights == NULL ? NULL : flights->seat;
}

struct moon_cache_tier *moon_cache_tier(const struct moon_exchange *x)
{
    return x->generation == NULL ? NULL : moon_script_env(x->generation->script)->tier;
}

const struct moon_cache_facts *moon_cache_facts(const struct moon_store_object *object)
{
    return (const struct moon_cache_facts *)(const void *)object->facts;
}

void moon_cache_read_control(const struct moon_exchange *x, const struct moon_response *response,
                             struct moon_cache_control *cc)
{
    moon_cache_control_read_response(cc, &response->fields, &x->cache->rule->fresh.targets);
}

static void cache_mark(struct moon_exchange *x, int64_t for_ms);

static void cache_end_flight(struct moon_exchange *x)
{
    if (!x->cache->has_flight)
        return;
    x->cache->has_flight = false;
    moon_store_flight_end(moon_cache_seat(x), x->cache->key);
}

// Most routes have no cache: their exchanges share this, and do without a kilobyte.
static const struct moon_cache_state cache_none = {.outcome = MOON_CACHE_OUTCOMES};
struct moon_cache_state *const moon_cache_none =
    (struct moon_cache_state *)(uintptr_t)&cache_none; // in read-only memory all the same

bool moon_cache_take_state(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->gateway->cache_states;
    if (x->cache != moon_cache_none)
        return true;
    if (cache != NULL) {
        x->gateway->cache_states = cache->next;
        x->gateway->cache_state_count--;
    } else {
        cache = malloc(sizeof(*cache));
    }
    if (cache == NULL)
        return false;
    memset(cache, 0, offsetof(struct moon_cache_state, stale));
    cache->stale.seat = cache->served.seat = cache->writer.seat = NULL;
    cache->info.tag_count = 0;
    cache->info.is_marker = false;
    cache->outcome = MOON_CACHE_OUTCOMES;
    x->cache = cache;
    return true;
}

static void cache_give_state(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    x->cache = moon_cache_none;
    if (MOON_ASAN || x->gateway->cache_state_count >= CACHE_STATES_KEPT) {
        free(cache);
        return;
    }
    cache->next = x->gateway->cache_states;
    x->gateway->cache_states = cache;
    x->gateway->cache_state_count++;
}

void moon_cache_trim(struct moon_gateway *gateway)
{
    while (gateway->cache_states != NULL) {
        struct moon_cache_state *cache = gateway->cache_states;
        gateway->cache_states = cache->next;
        free(cache);
    }
    gateway->cache_state_count = 0;
}

static void cache_release(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    moon_flights_cancel(&cache->wait);
    moon_cache_tier_cancel(cache->remote.query);
    cache->remote.query = NULL;
    // A policy took the body's place: nobody else shall queue for it.
    if (cache->has_flight && cache->rule != NULL && !x->is_client_gone)
        cache_mark(x, CACHE_MARK_FAILURE_MS);
    moon_store_abort(&cache->writer);
    moon_store_release(&cache->stale);
    moon_store_release(&cache->served);
    cache_end_flight(x);
}

void moon_cache_end(struct moon_exchange *x)
{
    if (x->cache == moon_cache_none)
        return;
    cache_release(x);
    cache_give_state(x);
}

const char *const moon_cache_outcome_names[MOON_CACHE_OUTCOMES] = {
    [MOON_CACHE_HIT] = "hit",
    [MOON_CACHE_MISS] = "miss",
    [MOON_CACHE_STALE] = "stale",
    [MOON_CACHE_BYPASS] = "bypass",
    [MOON_CACHE_REVALIDATED] = "revalidated",
    [MOON_CACHE_STALE_IF_ERROR] = "stale-if-error",
    [MOON_CACHE_REFUSED] = "refused",
};

void moon_cache_count(const struct moon_exchange *x)
{
    if (x->cache->outcome < MOON_CACHE_OUTCOMES)
        moon_metrics_add(x->gateway->env.metrics, x->gateway->metrics.cache[x->cache->outcome], 1);
}

// ---- looking up --------------------------------------------------------------------------------

// Fields of a request that ask something of a cache; most requests have none of them.
static bool cache_is_asked(const struct moon_exchange *x)
{
    static const bool asks[MOON_FIELD_COUNT] = {
        [MOON_FIELD_IF_MATCH] = true,      [MOON_FIELD_IF_UNMODIFIED_SINCE] = true,
        [MOON_FIELD_IF_NONE_MATCH] = true, [MOON_FIELD_IF_MODIFIED_SINCE] = true,
        [MOON_FIELD_RANGE] = true,         [MOON_FIELD_IF_RANGE] = true,
        [MOON_FIELD_CACHE_CONTROL] = true, [MOON_FIELD_PRAGMA] = true,
    };
    const struct moon_fields *fields = &x->request.fields;
    for (size_t i = 0; i < fields->count; i++) {
        if (asks[fields->ids[i]])
            return true;
    }
    return false;
}

static struct moon_slice cache_field(const struct moon_exchange *x, enum moon_field_id id)
{
    if (moon_fields_find_id(&x->request.fields, id) == NULL)
        return moon_slice(NULL, 0);
    return moon_fields_joined(&x->request.fields, moon_field_name(id));
}

static bool cache_has(const struct moon_exchange *x, enum moon_field_id id)
{
    return moon_fields_find_id(&x->request.fields, id) != NULL;
}

static enum moon_cache_answer cache_pass(struct moon_exchange *x, enum moon_cache_forward why)
{
    x->cache->forward = why;
    x->cache->outcome = MOON_CACHE_BYPASS;
    return MOON_CACHE_GO_ON;
}

bool moon_cache_match(const struct moon_store_info *info, struct moon_slice head, void *arg)
{
    struct moon_slice names = moon_cache_packed_vary(head);
    if (names.len == 0)
        return true;
    const struct moon_exchange *x = arg;
    const struct moon_fields *fields =
        x->cache->asked.arena != NULL ? &x->cache->asked : &x->request.fields;
    return moon_cache_variant(fields, names) == info->variant;
}

enum moon_cache_answer moon_cache_answer_from(struct moon_exchange *x,
                                              struct moon_store_object *object,
                                              enum moon_cache_outcome outcome)
{
    x->cache->served = moon_store_move(object);
    x->cache->outcome = outcome;
    moon_cache_serve(x);
    x->ctx.is_cached = true;
    return MOON_CACHE_ANSWERED;
}

static enum moon_cache_answer cache_refuse(struct moon_exchange *x)
{
    moon_cache_refuse(x);
    x->cache->outcome = MOON_CACHE_REFUSED;
    x->ctx.is_cached = true;
    return MOON_CACHE_ANSWERED;
}

static void cache_woken(void *owner)
{
    moon_cache_resume(owner);
}

// One request asks the backend, the others wait for what it gets.
static enum moon_cache_answer cache_join(struct moon_exchange *x, bool may_wait)
{
    struct moon_cache_state *cache = x->cache;
    int64_t now = moon_clock_ms();
    if (cache->has_flight || !cache->rule->is_collapsed)
        return MOON_CACHE_GO_ON;
    if (cache->wait_until_ms == 0)
        cache->wait_until_ms = now + cache->rule->wait_ms;
    may_wait = may_wait && now < cache->wait_until_ms;
    switch (moon_store_flight_begin(moon_cache_seat(x), cache->key, may_wait)) {
    case MOON_FLIGHT_OURS:
        cache->has_flight = true;
        return MOON_CACHE_GO_ON;
    case MOON_FLIGHT_WAIT:
        if (!may_wait)
            break;
        cache->has_waited = true;
        moon_flights_wait(cache_flights(x), &cache->wait, cache_woken, x);
        return MOON_CACHE_WAITS;
    case MOON_FLIGHT_FULL:
        break;
    }
    return MOON_CACHE_GO_ON;
}

// Names and values stay where they are; later policies change the list, not what it points to.
static bool cache_note_fields(struct moon_exchange *x)
{
    const struct moon_fields *fields = &x->request.fields;
    if (x->cache->asked.arena != NULL)
        return true;
    moon_fields_init(&x->cache->asked, &x->arena);
    for (size_t i = 0; i < fields->count; i++) {
        if (moon_fields_add_known(&x->cache->asked, (enum moon_field_id)fields->ids[i],
                                  fields->items[i].name, fields->items[i].value) != MOON_OK)
            return false;
    }
    return true;
}

// Past its use without asking: the backend is asked whether it still holds.
static enum moon_cache_answer cache_validate(struct moon_exchange *x,
                                             struct moon_store_object *object)
{
    struct moon_cache_state *cache = x->cache;
    // Another node has renewed it.
    if (cache->remote.is_hit && x->ctx.is_background &&
        moon_freshness_left_ms(&moon_cache_facts(object)->fresh, cache->now_ms) > 0)
        return moon_cache_answer_from(x, object, MOON_CACHE_HIT);
    // What came after this request did is as good as its own question.
    if (cache->has_waited && moon_cache_facts(object)->fresh.response_ms >= cache->arrived_ms) {
        cache->is_collapsed = true;
        return moon_cache_answer_from(x, object, MOON_CACHE_HIT);
    }
    if ((cache->request_cc.flags & MOON_CC_ONLY_IF_CACHED) != 0) {
        moon_store_release(object);
        return cache_refuse(x);
    }
    cache->forward = MOON_CACHE_FWD_STALE;
    cache->outcome = MOON_CACHE_STALE;
    if (moon_freshness_left_ms(&moon_cache_facts(object)->fresh, cache->arrived_ms) > 0)
        cache->forward = MOON_CACHE_FWD_REQUEST;
    bool is_noted = cache_note_fields(x);
    if (moon_cache_is_steered(x)) {
        moon_store_release(object);
        return MOON_CACHE_GO_ON;
    }
    if (x->request.method != MOON_METHOD_GET) {
        cache->stale = moon_store_move(object);
        return MOON_CACHE_GO_ON;
    }
    cache->may_store = is_noted;
    enum moon_cache_answer answer = cache_join(x, !x->ctx.is_background);
    if (answer == MOON_CACHE_GO_ON &&
        moon_cache_remote_ask(x, moon_cache_facts(object)->fresh.response_ms))
        answer = MOON_CACHE_WAITS;
    if (answer == MOON_CACHE_WAITS)
        moon_store_release(object);
    else
        cache->stale = moon_store_move(object);
    return answer;
}

// Others may have purged what is here, and this node has not heard of it.
static bool cache_is_doubtful(const struct moon_exchange *x)
{
    const struct moon_cache_tier *tier = moon_cache_tier(x);
    return tier != NULL && x->generation->plan->is_cache_asking &&
           !moon_cache_tier_is_current(tier);
}

static enum moon_cache_answer cache_use(struct moon_exchange *x, struct moon_store_object *object)
{
    struct moon_cache_state *cache = x->cache;
    if (x->ctx.is_background || cache_is_doubtful(x))
        return cache_validate(x, object);
    switch (
        moon_freshness_reuse(&moon_cache_facts(object)->fresh, &cache->request_cc, cache->now_ms)) {
    case MOON_REUSE_FRESH:
        cache->is_collapsed = cache->has_waited;
        cache_end_flight(x);
        return moon_cache_answer_from(x, object, MOON_CACHE_HIT);
    case MOON_REUSE_STALE:
        cache_end_flight(x);
        return moon_cache_answer_from(x, object, MOON_CACHE_STALE);
    case MOON_REUSE_REVALIDATE_LATER:
        if (cache->has_flight ||
            moon_store_flight_begin(moon_cache_seat(x), cache->key, false) == MOON_FLIGHT_OURS) {
            cache->has_flight = true;
            moon_cache_renew(x);
        }
        return moon_cache_answer_from(x, object, MOON_CACHE_STALE);
    case MOON_REUSE_VALIDATE:
        break;
    }
    return cache_validate(x, object);
}

// What another variant may say of itself: a strong validator, and no coding that this client may not
// know.
static bool cache_is_comparable(const struct moon_store_info *info, struct moon_slice head,
                                void *arg)
{
    (void)info;
    (void)arg;
    return moon_cache_is_comparable(head);
}

// The origin is asked whether another variant would do (RFC 9111 §4.3.1).
static void cache_borrow_variant(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    const struct moon_cache_conditions *client = &cache->client;
    if (client->if_none_match.data != NULL || client->if_modified_since.data != NULL ||
        client->range.data != NULL || cache->stale.seat != NULL)
        return;
    cache->is_other_variant =
        moon_store_find(moon_cache_seat(x), cache->key, cache->now_ms, cache_is_comparable, x,
                        cache->room, &cache->stale) == MOON_STORE_OBJECT;
}

static enum moon_cache_answer cache_find(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    struct moon_store_object object;
    bool had_flight = cache->has_flight;
    enum moon_store_found found = moon_store_find(moon_cache_seat(x), cache->key, cache->now_ms,
                                                  moon_cache_match, x, cache->room, &object);
    if (found == MOON_STORE_OBJECT)
        return cache_use(x, &object);
    if ((cache->request_cc.flags & MOON_CC_ONLY_IF_CACHED) != 0)
        return cache_refuse(x);
    cache->forward = found == MOON_STORE_OTHER ? MOON_CACHE_FWD_VARY_MISS : MOON_CACHE_FWD_URI_MISS;
    cache->outcome = MOON_CACHE_MISS;
    if (x->request.method != MOON_METHOD_GET)
        return MOON_CACHE_GO_ON;
    cache->may_store = cache_note_fields(x) && !moon_cache_is_steered(x);
    cache->is_marked = found == MOON_STORE_MARKER;
    if (cache->is_marked || !cache->may_store)
        return MOON_CACHE_GO_ON;
    if (cache->client.range.data != NULL)
        return moon_cache_remote_ask(x, 0) ? MOON_CACHE_WAITS : MOON_CACHE_GO_ON;
    // Whoever waited and finds only other variants does not wait again.
    enum moon_cache_answer answer =
        cache_join(x, !(cache->has_waited && found == MOON_STORE_OTHER));
    if (answer != MOON_CACHE_GO_ON)
        return answer;
    if (cache->has_flight && !had_flight) {
        // Between the look and the flight another may have filled it.
        found = moon_store_find(moon_cache_seat(x), cache->key, cache->now_ms, moon_cache_match, x,
                                cache->room, &object);
        if (found == MOON_STORE_OBJECT) {
            cache_end_flight(x);
            return cache_use(x, &object);
        }
    }
    if (moon_cache_remote_ask(x, 0))
        return MOON_CACHE_WAITS;
    if (found == MOON_STORE_OTHER)
        cache_borrow_variant(x);
    return MOON_CACHE_GO_ON;
}

static int cache_push(struct moon_ctx *ctx, lua_State *co, void *op)
{
    (void)op;
    lua_pushboolean(co, ctx->is_cached);
    return 1;
}

void moon_cache_resume(struct moon_exchange *x)
{
    x->cache->now_ms = moon_clock_wall_ms();
    if (cache_find(x) != MOON_CACHE_WAITS)
        moon_async_done(&x->ctx, cache_push, &x->ctx);
}

void moon_cache_cancel(void *ctx)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    moon_flights_cancel(&x->cache->wait);
    moon_cache_tier_cancel(x->cache->remote.query);
    x->cache->remote.query = NULL;
}

// What the request asks of the cache. @return false when it passes by, for the reason in `forward`
static bool cache_read_request(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    cache->forward = MOON_CACHE_FWD_BYPASS;
    if (x->request.framing != MOON_FRAMING_NONE || x->request.wants_upgrade)
        return false;
    if (cache_is_asked(x)) {
        if (cache_has(x, MOON_FIELD_IF_MATCH) || cache_has(x, MOON_FIELD_IF_UNMODIFIED_SINCE))
            return false;
        if (cache->rule->heeds_client && !x->ctx.is_background)
            moon_cache_control_read(&cache->request_cc, &x->request.fields, true);
        cache->client = (struct moon_cache_conditions){
            cache_field(x, MOON_FIELD_IF_NONE_MATCH), cache_field(x, MOON_FIELD_IF_MODIFIED_SINCE),
            cache_field(x, MOON_FIELD_RANGE), cache_field(x, MOON_FIELD_IF_RANGE)};
    }
    cache->forward = MOON_CACHE_FWD_REQUEST;
    return (cache->request_cc.flags & MOON_CC_NO_STORE) == 0;
}

enum moon_cache_answer moon_cache_lookup(struct moon_ctx *ctx, const struct moon_cache_rule *rule,
                                         const struct moon_cache_key_parts *parts)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    if (moon_cache_seat(x) == NULL || x->cache->rule != NULL)
        return MOON_CACHE_GO_ON; // once a request
    if (!moon_cache_take_state(x))
        return MOON_CACHE_GO_ON;
    struct moon_cache_state *cache = x->cache;
    cache->rule = rule;
    cache->arrived_ms = cache->now_ms = moon_clock_wall_ms_at(ctx->ran_until_us);
    cache->own_key = parts->key;
    cache->path = x->request.path;
    cache->query = x->request.query;
    moon_cache_control_init(&cache->request_cc);
    struct moon_store_key key;
    if (!moon_cache_make_key(x, rule, parts, &key)) {
        cache->rule = NULL;
        return MOON_CACHE_GO_ON;
    }
    if (key.lo != cache->key.lo || key.hi != cache->key.hi)
        cache_end_flight(x); // one that was handed over for another key
    cache->key = key;
    bool is_get = x->request.method == MOON_METHOD_GET;
    if (x->request.method == MOON_METHOD_POST && !cache_note_fields(x))
        cache->rule = NULL;
    if (!is_get && !(x->request.method == MOON_METHOD_HEAD && rule->has_head))
        return cache_pass(x, MOON_CACHE_FWD_METHOD);
    if (!cache_read_request(x))
        return cache_pass(x, cache->forward);
    return cache_find(x);
}

// ---- asking ------------------------------------------------------------------------------------

void moon_cache_fill_tags(struct moon_exchange *x, struct moon_store_info *info)
{
    struct moon_store *store = moon_store_of(moon_cache_seat(x));
    const struct moon_cache_rule *rule = x->cache->rule;
    info->tags[info->tag_count++] = moon_store_tag(store, 0); // everything
    x->cache->name = moon_cache_name(x);
    info->tags[info->tag_count++] = moon_store_tag(store, moon_cache_tag_hash(&x->cache->name));
    for (size_t i = 0; i < rule->tag_count; i++)
        info->tags[info->tag_count++] = moon_store_tag(store, moon_cache_tag_hash(&rule->tags[i]));
}

// The backend may speak to this cache alone (Edge Architecture §3).
static enum moon_rc cache_tell_surrogate(struct moon_exchange *x)
{
    const struct moon_cache_targets *targets = &x->cache->rule->fresh.targets;
    for (size_t i = 0; i < targets->count; i++) {
        if (moon_slice_is(targets->names[i], MOON_S("surrogate-control")))
            return moon_fields_set(&x->request.fields, MOON_S("Surrogate-Capability"),
                                   MOON_S(MOON_CC_SURROGATE "=\"Surrogate/1.0\""));
    }
    return MOON_OK;
}

enum moon_rc moon_cache_before_call(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    struct moon_fields *fields = &x->request.fields;
    struct moon_response stored;
    if (cache->rule == NULL)
        return MOON_OK;
    cache->asked_ms = cache->now_ms = moon_clock_wall_ms();
    // What is purged from here on may be what the backend is about to answer with.
    cache->info.tag_count = 0;
    moon_cache_fill_tags(x, &cache->info);
    if (moon_cache_tier(x) != NULL)
        cache->remote.position = moon_cache_tier_position(moon_cache_tier(x));
    enum moon_rc rc = cache_tell_surrogate(x);
    if (cache->stale.seat == NULL || rc != MOON_OK)
        return rc;
    moon_response_init(&stored, &x->arena);
    if (!moon_cache_unpack(cache->stale.head, &stored))
        return MOON_ERR_MEMORY;
    moon_fields_remove_id(fields, MOON_FIELD_IF_NONE_MATCH);
    moon_fields_remove_id(fields, MOON_FIELD_IF_MODIFIED_SINCE);
    moon_fields_remove_id(fields, MOON_FIELD_RANGE);
    moon_fields_remove_id(fields, MOON_FIELD_IF_RANGE);
    const struct moon_field *etag = moon_fields_find_id(&stored.fields, MOON_FIELD_ETAG);
    const struct moon_field *modified =
        moon_fields_find_id(&stored.fields, MOON_FIELD_LAST_MODIFIED);
    if (etag != NULL)
        rc = moon_fields_add_id(fields, MOON_FIELD_IF_NONE_MATCH, etag->value);
    if (rc == MOON_OK && modified != NULL && !cache->is_other_variant)
        rc = moon_fields_add_id(fields, MOON_FIELD_IF_MODIFIED_SINCE, modified->value);
    return rc;
}

static void cache_mark(struct moon_exchange *x, int64_t for_ms)
{
    int64_t now = moon_clock_wall_ms();
    struct moon_store_info info = {
        .stamp_ms = now, .keep_until_ms = now + for_ms, .is_marker = true};
    moon_cache_fill_tags(x, &info);
    moon_store_mark(moon_cache_seat(x), x->cache->key, &info);
}

int64_t moon_cache_keep_until(const struct moon_freshness *fresh)
{
    int64_t past = CACHE_KEEP_STALE_MS;
    if (fresh->stale_while_revalidate_ms > past)
        past = fresh->stale_while_revalidate_ms;
    if (fresh->stale_if_error_ms > past)
        past = fresh->stale_if_error_ms;
    int64_t life =
        fresh->lifetime_ms < cache_keep_most_ms ? fresh->lifetime_ms : cache_keep_most_ms;
    return fresh->response_ms + life + past;
}

// Begins to store x->response. @return false when there is no room
bool moon_cache_begin(struct moon_exchange *x, const struct moon_cache_control *cc,
                      int64_t body_bytes)
{
    struct moon_cache_state *cache = x->cache;
    struct moon_slice vary, head;
    cache->detail = "unkeyed-fields"; // of the request, that the answer may depend on
    if (moon_cache_is_forwarded_as_is(x) || !moon_cache_vary(x, &x->response.fields, &vary) ||
        !moon_cache_vary_is_sound(x, vary))
        return false;
    cache->detail = "large";
    if (vary.len > MOON_CACHE_VARY_BYTES)
        return false;
    if (!moon_cache_pack(x, &x->response, vary, &head))
        return false;
    struct moon_cache_facts facts = {.status = x->response.status};
    moon_freshness_read(&facts.fresh, &x->response, cc, &cache->rule->fresh, cache->asked_ms,
                        moon_clock_wall_ms());
    cache->info.stamp_ms = facts.fresh.date_ms;
    cache->info.keep_until_ms = moon_cache_keep_until(&facts.fresh);
    cache->info.variant = vary.len == 0 ? 0 : moon_cache_variant(&cache->asked, vary);
    _Static_assert(sizeof(facts) <= sizeof(cache->info.facts), "facts fit");
    memcpy(cache->info.facts, &facts, sizeof(facts));
    if (!moon_store_begin(moon_cache_seat(x), cache->key, head, body_bytes, &cache->writer))
        return false;
    cache->detail = NULL;
    return true;
}

void moon_cache_commit(struct moon_exchange *x)
{
    // Dropped: one miss more.
    if (x->cache->writer.seat != NULL && moon_store_commit(&x->cache->writer, &x->cache->info))
        moon_cache_remote_fill(x);
    cache_end_flight(x);
}

void moon_cache_on_body(struct moon_exchange *x, struct moon_slice data, bool is_done)
{
    struct moon_cache_state *cache = x->cache;
    if (cache->writer.seat == NULL)
        return;
    if (data.len > 0 && !moon_store_write(&cache->writer, data)) {
        cache_end_flight(x);
        return;
    }
    if (is_done)
        moon_cache_commit(x);
}

// ---- answers -----------------------------------------------------------------------------------

static bool cache_is_error(int status)
{
    return status == 500 || status == 502 || status == 503 || status == 504;
}

static bool cache_serve_on_error(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    if (cache->stale.seat == NULL || cache->is_other_variant || x->ctx.is_background ||
        !moon_freshness_is_usable_on_error(&moon_cache_facts(&cache->stale)->fresh,
                                           &cache->request_cc, moon_clock_wall_ms()))
        return false;
    moon_forward_end_call(x);
    cache_end_flight(x);
    struct moon_store_object object = moon_store_move(&cache->stale);
    (void)moon_cache_answer_from(x, &object, MOON_CACHE_STALE_IF_ERROR);
    return true;
}

bool moon_cache_on_failure(struct moon_exchange *x)
{
    if (x->cache->rule == NULL)
        return false;
    x->cache->now_ms = moon_clock_wall_ms();
    if (x->cache->has_flight && x->cache->stale.seat == NULL)
        cache_mark(x, CACHE_MARK_FAILURE_MS);
    return cache_serve_on_error(x);
}

static void cache_add_date(struct moon_exchange *x)
{
    struct moon_slice date;
    if (moon_fields_find_id(&x->response.fields, MOON_FIELD_DATE) != NULL)
        return;
    if (!moon_arena_copy(&x->arena, moon_clock_http_date(moon_clock_wall_ms()), &date) ||
        moon_fields_add_id(&x->response.fields, MOON_FIELD_DATE, date) != MOON_OK)
        moon_log_warn("no memory for Date request=%.*s", MOON_SLICE_ARG(x->ctx.id));
}

// Length of the whole, of which this is a part; -1: not told.
static int64_t cache_complete_length(const struct moon_response *response)
{
    int64_t length;
    const struct moon_field *range =
        moon_fields_find_id(&response->fields, MOON_FIELD_CONTENT_RANGE);
    if (range == NULL || !moon_slice_starts_nocase(range->value, MOON_S("bytes ")))
        return -1;
    size_t slash = moon_slice_find(range->value, '/');
    return slash < range->value.len &&
                   moon_slice_number(moon_slice_from(range->value, slash + 1), &length)
               ? length
               : -1;
}

// A part is not kept. The whole is fetched in the background, once for all who ask, where it would be
// kept at first sight: so a small range costs the backend no more than that.
static void cache_fill_whole(struct moon_exchange *x, const struct moon_cache_control *cc)
{
    struct moon_cache_state *cache = x->cache;
    struct moon_store_seat *seat = moon_cache_seat(x);
    struct moon_response whole = x->response;
    struct moon_freshness fresh;
    int64_t length = cache_complete_length(&x->response), now = moon_clock_wall_ms();
    whole.status = 200;
    moon_freshness_read(&fresh, &whole, cc, &cache->rule->fresh, cache->asked_ms, now);
    if (length < 0 || (uint64_t)length > moon_store_small_bytes(moon_store_of(seat)) ||
        cache->is_marked || cache->has_flight || x->ctx.is_background ||
        moon_freshness_left_ms(&fresh, now) <= 0 ||
        !moon_freshness_is_storable(&x->request, &cache->request_cc, &whole, cc,
                                    &cache->rule->fresh) ||
        moon_store_flight_begin(seat, cache->key, false) != MOON_FLIGHT_OURS)
        return;
    cache->detail = "fetching-whole";
    cache->has_flight = true;
    moon_cache_renew(x);
}

static void cache_store_response(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    struct moon_cache_control cc;
    moon_cache_read_control(x, &x->response, &cc);
    if (x->response.status == 206)
        cache_fill_whole(x, &cc);
    if (moon_freshness_is_storable(&x->request, &cache->request_cc, &x->response, &cc,
                                   &cache->rule->fresh)) {
        cache->is_stored = moon_cache_begin(x, &cc, x->response.content_length);
        if (cache->is_stored) {
            if (x->is_response_kept) // a policy of the backend section has read it
                moon_cache_on_body(x, moon_buf_slice(&x->response_body), true);
            return; // the flight ends with the body
        }
    }
    int status = x->response.status;
    if (cache->has_flight && status != 304 && status != 206)
        cache_mark(x, cache_is_error(status) ? CACHE_MARK_FAILURE_MS : CACHE_MARK_MS);
    cache_end_flight(x);
}

void moon_cache_on_response(struct moon_exchange *x)
{
    struct moon_cache_state *cache = x->cache;
    int status = x->response.status;
    if (cache->rule == NULL || status < 200)
        return;
    cache->now_ms = moon_clock_wall_ms();
    if (!moon_method_is_safe(x->request.method) && status < 400) {
        moon_cache_invalidate(x);
        cache->info.tag_count = 0;
        moon_cache_fill_tags(x, &cache->info);
        cache->may_store =
            cache->asked.arena != NULL && !moon_cache_is_steered(x) && moon_cache_post_is_get(x);
    }
    bool is_head = x->request.method == MOON_METHOD_HEAD;
    if (cache->stale.seat != NULL &&
        (status == 304 || (is_head && status == 200 && moon_cache_head_holds(x)))) {
        moon_cache_freshen(x);
        return;
    }
    if (cache_is_error(status) && cache_serve_on_error(x))
        return;
    if (cache->stale.seat != NULL && is_head && status == 200) // there is another by now
        moon_store_remove(moon_cache_seat(x), cache->key);
    moon_store_release(&cache->stale);
    cache_add_date(x);
    // HEAD of GET or GET of HEAD, by a policy: the body does not come, or is not read.
    bool is_changed = x->request.method != x->request.client_method &&
                      (is_head || x->request.client_method == MOON_METHOD_HEAD);
    if (cache->may_store && !is_changed)
        cache_store_response(x);
    moon_cache_add_status(x);
    if (cache->writer.seat != NULL &&
        moon_response_is_bodiless(x->request.method, x->response.status))
        moon_cache_commit(x);
}

enum moon_rc moon_cache_read(struct moon_exchange *x, struct moon_slice *data, bool *is_done)
{
    struct moon_cache_state *cache = x->cache;
    *data = moon_store_next(&cache->served, &cache->cursor, cache->left);
    cache->left -= data->len;
    *is_done = cache->left == 0;
    if (!moon_store_is_intact(&cache->served) || (data->len == 0 && cache->left > 0))
        return MOON_ERR_UPSTREAM_TRUNCATED;
    return MOON_OK;
}
