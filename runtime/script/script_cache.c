/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.cache: rules of the response cache (policies/cache.lua), purging, and flights. Values that
/// policies keep are in script_values.c.

#include "base/clock.h"
#include "base/hash.h"
#include "script/internal.h"

static const char cache_rule_name[] = "moongate.cache.rule";

static struct moon_store_seat *cache_seat(lua_State *L)
{
    struct moon_flights *flights = moon_script_of(L)->env.flights;
    return flights == NULL ? NULL : flights->seat;
}

struct moon_store_seat *moon_cache_need_seat(lua_State *L)
{
    struct moon_store_seat *seat = cache_seat(L);
    if (seat == NULL)
        luaL_error(L, "cache: there is none while a configuration is checked");
    return seat;
}

static struct moon_cache_tag cache_tag(const char *kind, struct moon_slice name)
{
    struct moon_arena arena;
    moon_arena_init(&arena, 1 << 20);
    struct moon_cache_tag tag = moon_cache_tag(&arena, moon_slice_text(kind), name);
    moon_arena_reset(&arena);
    return tag;
}

static void cache_purge(lua_State *L, const struct moon_cache_tag *tag)
{
    moon_cache_purge(moon_cache_need_seat(L), moon_script_of(L)->env.tier, tag);
}

// ---- rules -------------------------------------------------------------------------------------

static int64_t cache_ms(lua_State *L, const char *field)
{
    lua_getfield(L, 1, field);
    int64_t ms = lua_isnil(L, -1) ? -1 : (int64_t)(lua_tonumber(L, -1) * 1000.0);
    lua_pop(L, 1);
    return ms;
}

static bool cache_flag(lua_State *L, const char *field)
{
    lua_getfield(L, 1, field);
    bool is_set = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    return is_set;
}

// The list's texts; they are kept alive by the table at `keep`.
static size_t cache_names(lua_State *L, const char *field, struct moon_slice *into, size_t most,
                          int keep)
{
    lua_getfield(L, 1, field);
    size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
    if (n > most)
        luaL_error(L, "cache.rule: %s: at most %d are possible", field, (int)most);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        into[i] = moon_check_slice(L, lua_gettop(L));
        lua_rawseti(L, keep, (int)lua_objlen(L, keep) + 1);
    }
    lua_pop(L, 1);
    return n;
}

static void cache_statuses(lua_State *L, struct moon_cache_rule *rule)
{
    lua_getfield(L, 1, "statuses");
    size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
    if (n > MOON_CACHE_RULE_STATUSES)
        luaL_error(L, "cache.rule: statuses: at most %d are possible", MOON_CACHE_RULE_STATUSES);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        rule->statuses[i] = (int)lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    rule->fresh.statuses = n > 0 ? rule->statuses : NULL;
    rule->fresh.status_count = n;
}

/// cache.rule{ ttl=, stale_while_revalidate=, stale_if_error=, stale_on_failure=, wait= (seconds),
///   heuristic=, targeted={}, per_caller=, collapse=, heeds_client=, head=, tiered=, statuses={}, vary_headers={}, vary_query={}|nil,
///   tags={}, flavour= } -> rule
static int cache_rule(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct moon_slice tags[MOON_CACHE_RULE_TAGS];
    struct moon_cache_rule *rule = lua_newuserdata(L, sizeof(*rule));
    memset(rule, 0, sizeof(*rule));
    rule->mark = MOON_CACHE_RULE_MARK;
    luaL_getmetatable(L, cache_rule_name);
    lua_setmetatable(L, -2);
    lua_newtable(L);
    int keep = lua_gettop(L);
    rule->fresh.ttl_ms = cache_ms(L, "ttl");
    rule->fresh.stale_while_revalidate_ms = cache_ms(L, "stale_while_revalidate");
    rule->fresh.stale_if_error_ms = cache_ms(L, "stale_if_error");
    rule->fresh.stale_on_failure_ms = cache_ms(L, "stale_on_failure");
    rule->fresh.is_heuristic = cache_flag(L, "heuristic");
    rule->fresh.is_per_caller = cache_flag(L, "per_caller");
    rule->wait_ms = cache_ms(L, "wait");
    rule->is_collapsed = cache_flag(L, "collapse");
    rule->heeds_client = cache_flag(L, "heeds_client");
    rule->has_head = cache_flag(L, "head");
    rule->is_tiered = cache_flag(L, "tiered");
    cache_statuses(L, rule);
    rule->fresh.targets.count =
        cache_names(L, "targeted", rule->fresh.targets.names, MOON_CC_TARGETS, keep);
    rule->vary_header_count =
        cache_names(L, "vary_headers", rule->vary_headers, MOON_CACHE_RULE_NAMES, keep);
    lua_getfield(L, 1, "vary_query");
    rule->is_query_picked = lua_istable(L, -1);
    lua_pop(L, 1);
    rule->vary_query_count =
        cache_names(L, "vary_query", rule->vary_query, MOON_CACHE_RULE_NAMES, keep);
    rule->tag_count = cache_names(L, "tags", tags, MOON_CACHE_RULE_TAGS, keep);
    for (size_t i = 0; i < rule->tag_count; i++)
        rule->tags[i] = cache_tag("tag", tags[i]);
    lua_getfield(L, 1, "flavour");
    struct moon_cache_tag flavour = cache_tag("flavour", moon_check_slice(L, lua_gettop(L)));
    memcpy(&rule->flavour, flavour.bytes, sizeof(rule->flavour));
    lua_pop(L, 1);
    lua_setfenv(L, -2);
    return 1;
}

static int cache_push_answer(struct moon_ctx *x, lua_State *co, void *op)
{
    (void)op;
    lua_pushboolean(co, x->is_cached);
    return 1;
}

static struct moon_slice cache_optional(lua_State *L, int index, struct moon_ctx *x)
{
    return lua_isnoneornil(L, index) ? moon_slice(NULL, 0) : moon_check_copy(L, index, x);
}

/// cache.lookup(rule, ctx, caller?, key?) -> true when it is answered: the section ends with it
///
/// Waits while another request fetches the same.
static int cache_lookup(lua_State *L)
{
    const struct moon_cache_rule *rule =
        moon_check_object(L, 1, sizeof(*rule), MOON_CACHE_RULE_MARK, cache_rule_name);
    struct moon_ctx *x = moon_handle_check(L, 2, MOON_HANDLE_CTX);
    struct moon_cache_key_parts parts = {cache_optional(L, 3, x), cache_optional(L, 4, x)};
    if (x->ops->cache_lookup == NULL)
        return 0;
    x->ran_until_us = moon_clock_us(); // policies before it may have waited
    switch (x->ops->cache_lookup(x, rule, &parts)) {
    case MOON_CACHE_GO_ON:
        return 0;
    case MOON_CACHE_ANSWERED:
        break;
    case MOON_CACHE_WAITS:
        return moon_async_wait(L, x, x->ops->cache_cancel, x);
    }
    return cache_push_answer(x, L, NULL);
}

// The same as an act: nothing but the rule is needed.
static enum moon_act_answer cache_act(struct moon_ctx *x, const void *rule)
{
    static const struct moon_cache_key_parts none;
    if (x->ops->cache_lookup == NULL)
        return MOON_ACT_GO_ON;
    switch (x->ops->cache_lookup(x, rule, &none)) {
    case MOON_CACHE_GO_ON:
        return MOON_ACT_GO_ON;
    case MOON_CACHE_ANSWERED:
        return MOON_ACT_ENDS;
    case MOON_CACHE_WAITS:
        break;
    }
    return moon_act_wait(x, x->ops->cache_cancel, x);
}

// ---- purging -----------------------------------------------------------------------------------

/// cache.purge_tag(name): everything stored under the tag is gone
static int cache_purge_tag(lua_State *L)
{
    struct moon_cache_tag tag = cache_tag("tag", moon_check_slice(L, 1));
    cache_purge(L, &tag);
    return 0;
}

/// cache.purge_key(key): of listings of the policy with `key`
static int cache_purge_key(lua_State *L)
{
    struct moon_cache_tag tag = cache_tag("key", moon_check_slice(L, 1));
    cache_purge(L, &tag);
    return 0;
}

/// cache.purge_url(url) -> whether it is one; what is stored for it is gone, all variants
static int cache_purge_url(lua_State *L)
{
    struct moon_arena arena;
    struct moon_cache_tag tag;
    struct moon_slice url = moon_check_slice(L, 1);
    (void)moon_cache_need_seat(L);
    moon_arena_init(&arena, 65536);
    bool is_url = moon_cache_url_tag(&arena, url, &tag);
    moon_arena_reset(&arena);
    if (is_url)
        cache_purge(L, &tag);
    lua_pushboolean(L, is_url);
    return 1;
}

/// cache.purge_all(): everything is gone, values of policies too
static int cache_purge_all(lua_State *L)
{
    const struct moon_cache_tag everything = {{0}};
    cache_purge(L, &everything);
    return 0;
}

/// cache.figures() -> { bytes=, used_bytes=, objects=, evictions=, refused=, dropped_shards= }
static int cache_figures(lua_State *L)
{
    struct moon_store_figures figures;
    moon_store_figures(moon_store_of(moon_cache_need_seat(L)), &figures);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"bytes", figures.bytes},     {"used_bytes", figures.used_bytes},
        {"objects", figures.objects}, {"evictions", figures.evictions},
        {"refused", figures.refused}, {"dropped_shards", figures.dropped_shards},
    };
    lua_createtable(L, 0, (int)MOON_COUNT(rows));
    for (size_t i = 0; i < MOON_COUNT(rows); i++) {
        lua_pushnumber(L, (double)rows[i].value);
        lua_setfield(L, -2, rows[i].name);
    }
    return 1;
}

// ---- one computes, the others wait -------------------------------------------------------------

/// Ends with the request at the latest.
struct cache_flight {
    struct moon_attachment attachment;
    struct moon_store_seat *seat; // NULL: has ended
    struct moon_store_key key;
};

static const char cache_flight_owner[] = "cache";

static void cache_flight_end(void *object)
{
    struct cache_flight *flight = object;
    if (flight->seat != NULL)
        moon_store_flight_end(flight->seat, flight->key);
    flight->seat = NULL;
}

/// cache.begin(key) -> "ours" (then cache.finish), "wait" (cache.wait), "full"
static int cache_begin(lua_State *L)
{
    static const char *const names[] = {
        [MOON_FLIGHT_OURS] = "ours", [MOON_FLIGHT_WAIT] = "wait", [MOON_FLIGHT_FULL] = "full"};
    struct moon_ctx *x = moon_async_ctx(L);
    struct moon_store_seat *seat = moon_cache_need_seat(L);
    struct cache_flight *flight = moon_arena_zalloc(x->arena, sizeof(*flight));
    if (flight == NULL)
        return moon_raise_full(L);
    flight->key = moon_cache_value_key(L, 1);
    enum moon_flight got = moon_store_flight_begin(seat, flight->key, true);
    if (got == MOON_FLIGHT_OURS) {
        flight->seat = seat;
        flight->attachment =
            (struct moon_attachment){x->attachments, cache_flight_owner, flight, cache_flight_end};
        x->attachments = &flight->attachment;
    }
    lua_pushstring(L, names[got]);
    return 1;
}

/// cache.finish(key): those who wait look again
static int cache_finish(lua_State *L)
{
    struct moon_ctx *x = moon_async_ctx(L);
    struct moon_store_key key = moon_cache_value_key(L, 1);
    for (struct moon_attachment *at = x->attachments; at != NULL; at = at->next) {
        struct cache_flight *flight = at->object;
        if (at->plugin == cache_flight_owner && flight->key.lo == key.lo &&
            flight->key.hi == key.hi)
            cache_flight_end(flight);
    }
    return 0;
}

struct cache_wait {
    struct moon_flight_wait wait;
    struct moon_ctx *x;
};

static int cache_push_nothing(struct moon_ctx *x, lua_State *co, void *op)
{
    (void)x;
    (void)co;
    (void)op;
    return 0;
}

static void cache_woken(void *owner)
{
    struct cache_wait *op = owner;
    moon_async_done(op->x, cache_push_nothing, op);
}

static void cache_wait_cancel(void *op)
{
    moon_flights_cancel(&((struct cache_wait *)op)->wait);
}

/// cache.wait(): until a flight that `begin` said to wait for has ended, or it is time to look
static int cache_wait(lua_State *L)
{
    struct moon_ctx *x = moon_async_ctx(L);
    struct cache_wait *op = moon_arena_zalloc(x->arena, sizeof(*op));
    (void)moon_cache_need_seat(L);
    if (op == NULL)
        return moon_raise_full(L);
    op->x = x;
    moon_flights_wait(x->script->env.flights, &op->wait, cache_woken, op);
    return moon_async_wait(L, x, cache_wait_cancel, op);
}

static const luaL_Reg cache_functions[] = {
    {"rule", cache_rule},
    {"lookup", cache_lookup},
    {"purge_key", cache_purge_key},
    {"purge_url", cache_purge_url},
    {"purge_tag", cache_purge_tag},
    {"purge_all", cache_purge_all},
    {"figures", cache_figures},
    {"begin", cache_begin},
    {"finish", cache_finish},
    {"wait", cache_wait},
    {NULL, NULL},
};

static int cache_open(lua_State *L)
{
    luaL_newmetatable(L, cache_rule_name);
    lua_pushliteral(L, "rule");
    lua_setfield(L, -2, "__metatable");
    moon_act_register_waiting(L, cache_act);
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, cache_functions);
    moon_cache_register_values(L);
    return 1;
}

void moon_script_open_cache(lua_State *L)
{
    moon_preload(L, "moongate.cache", cache_open);
}
