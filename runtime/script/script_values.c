/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.cache: values that policies keep (lua/moongate/values.lua makes ctx.cache of it), in this
/// node's store, and in the second tier where the configuration says so. There a value of the node's
/// own store is used for a second without asking; past that the tier says whether it still holds.

#include "base/clock.h"
#include "base/hash.h"
#include "script/internal.h"

enum { VALUE_SEED = 0x7661, VALUE_BYTES = 16 << 20, VALUE_UNASKED_MS = 1000 };

/// What moon_store_info.facts holds of a value.
struct value_facts {
    int64_t refresh_ms; // wall time from which it should be made anew
    int64_t ask_ms;     // wall time from which the second tier is asked
};

/// Stands before a value in the second tier.
struct value_header {
    int64_t refresh_ms; // from when it was put there
    int64_t keep_ms;
    char kind; // 'j': JSON, 's': text
};

struct moon_store_key moon_cache_value_key(lua_State *L, int index)
{
    uint64_t hash[2];
    moon_hash128(VALUE_SEED, moon_check_slice(L, index), hash);
    return (struct moon_store_key){hash[0], hash[1]};
}

// @return NULL when values are kept on this node only
static struct moon_cache_tier *value_tier(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    return script->plan->has_shared_values ? script->env.tier : NULL;
}

static bool value_name(lua_State *L, int index, uint8_t name[MOON_CACHE_TIER_NAME_BYTES])
{
    struct moon_arena arena;
    struct moon_slice parts[2] = {MOON_S("value"), moon_check_slice(L, index)};
    moon_arena_init(&arena, VALUE_BYTES);
    bool is_good = moon_cache_digest(&arena, parts, 2, name);
    moon_arena_reset(&arena);
    return is_good;
}

// Called protected: where the policy's memory is spent, the object is still to be released.
static int value_push(lua_State *L)
{
    const struct moon_store_object *object = lua_touserdata(L, 1);
    struct moon_store_cursor cursor;
    struct moon_slice run;
    luaL_Buffer text;
    if (object->first.len == object->body_bytes) {
        moon_push_slice(L, object->first);
        return 1;
    }
    luaL_buffinit(L, &text);
    moon_store_rewind(object, &cursor);
    while ((run = moon_store_next(object, &cursor, UINT64_MAX)).len > 0)
        luaL_addlstring(&text, run.data, run.len);
    luaL_pushresult(&text);
    return 1;
}

static bool value_store(struct moon_store_seat *seat, struct moon_store_key key,
                        struct moon_slice text, int64_t keep_ms, const struct value_facts *facts,
                        char kind)
{
    struct moon_store_writer writer;
    int64_t now = moon_clock_wall_ms();
    struct moon_store_info info = {.stamp_ms = now, .keep_until_ms = now + keep_ms};
    memcpy(info.facts, facts, sizeof(*facts));
    info.tags[info.tag_count++] = moon_store_tag(moon_store_of(seat), 0);
    return moon_store_begin(seat, key, moon_slice(&kind, 1), (int64_t)text.len, &writer) &&
           moon_store_write(&writer, text) && moon_store_commit(&writer, &info);
}

/// cache.get(key) -> text, is_json, is_due (should be made anew), is_unasked (the second tier should
///   say whether it holds) | nil
static int value_get(lua_State *L)
{
    struct moon_store_object object;
    struct value_facts facts;
    struct moon_store_key key = moon_cache_value_key(L, 1);
    int64_t now = moon_clock_wall_ms();
    char room[MOON_STORE_ROOM_BYTES];
    lua_pushcfunction(L, value_push);
    lua_pushlightuserdata(L, &object);
    if (moon_store_find(moon_cache_need_seat(L), key, now, NULL, NULL, room, &object) !=
        MOON_STORE_OBJECT)
        return 0;
    memcpy(&facts, object.facts, sizeof(facts));
    bool is_json = object.head.len > 0 && object.head.data[0] == 'j';
    int status = lua_pcall(L, 1, 1, 0);
    moon_store_release(&object);
    if (status != 0)
        return lua_error(L);
    lua_pushboolean(L, is_json);
    lua_pushboolean(L, now >= facts.refresh_ms);
    lua_pushboolean(L, now >= facts.ask_ms && value_tier(L) != NULL);
    return 4;
}

/// cache.set(key, text, ttl_s, refresh_after_s, is_json) -> whether there was room
static int value_set(lua_State *L)
{
    struct moon_store_seat *seat = moon_cache_need_seat(L);
    struct moon_store_key key = moon_cache_value_key(L, 1);
    struct moon_slice text = moon_check_slice(L, 2);
    double ttl = luaL_checknumber(L, 3), refresh = luaL_optnumber(L, 4, ttl);
    struct moon_cache_tier *tier = value_tier(L);
    uint8_t name[MOON_CACHE_TIER_NAME_BYTES];
    int64_t now = moon_clock_wall_ms();
    if (!(ttl >= 0 && ttl <= 1e9) || !(refresh >= 0 && refresh <= 1e9))
        return luaL_error(L, "cache.set: ttl and refresh_after must be 0 to 1e9 seconds");
    if (text.len > VALUE_BYTES)
        return 0;
    struct value_header header = {.refresh_ms = (int64_t)(refresh * 1000.0),
                                  .keep_ms = (int64_t)(ttl * 1000.0),
                                  .kind = lua_toboolean(L, 5) != 0 ? 'j' : 's'};
    struct value_facts facts = {now + header.refresh_ms, INT64_MAX};
    struct moon_slice parts[2] = {moon_slice((const char *)&header, sizeof(header)), text};
    // What the tier does not take is this node's alone, and is not asked for.
    if (tier != NULL && value_name(L, 1, name) &&
        moon_cache_tier_put(tier, name, parts, 2, NULL, 0, moon_cache_tier_position(tier),
                            header.keep_ms))
        facts.ask_ms = now + VALUE_UNASKED_MS;
    lua_pushboolean(L, value_store(seat, key, text, header.keep_ms, &facts, header.kind));
    return 1;
}

/// cache.delete(key)
static int value_delete(lua_State *L)
{
    struct moon_cache_tier *tier = value_tier(L);
    uint8_t name[MOON_CACHE_TIER_NAME_BYTES];
    moon_store_remove(moon_cache_need_seat(L), moon_cache_value_key(L, 1));
    if (tier != NULL && value_name(L, 1, name))
        moon_cache_tier_remove(tier, name);
    return 0;
}

// ---- asking the second tier --------------------------------------------------------------------

struct value_question {
    struct moon_ctx *x;
    struct moon_cache_tier_query *query;
    struct moon_store_key key;
    bool is_found;
};

static int value_push_answer(struct moon_ctx *x, lua_State *co, void *op)
{
    (void)x;
    lua_pushboolean(co, ((struct value_question *)op)->is_found);
    return 1;
}

static bool value_take(const struct value_question *q, const struct moon_cache_tier_object *object)
{
    struct value_header header;
    int64_t now = moon_clock_wall_ms();
    if (object->bytes.len < sizeof(header))
        return false;
    memcpy(&header, object->bytes.data, sizeof(header));
    int64_t left = header.keep_ms - object->since_put_ms;
    if ((header.kind != 'j' && header.kind != 's') || left <= 0 ||
        header.keep_ms > INT64_C(1000000000000) || header.refresh_ms < 0 ||
        header.refresh_ms > INT64_C(1000000000000))
        return false;
    struct value_facts facts = {now + header.refresh_ms - object->since_put_ms,
                                now + VALUE_UNASKED_MS};
    return value_store(q->x->script->env.flights->seat, q->key,
                       moon_slice_from(object->bytes, sizeof(header)), left, &facts, header.kind);
}

static void value_answered(void *owner, enum moon_rc rc,
                           const struct moon_cache_tier_object *object)
{
    struct value_question *q = owner;
    q->query = NULL;
    q->is_found = rc == MOON_OK && object != NULL && value_take(q, object);
    // Deleted by another node; where the tier cannot say, what is here goes on to hold.
    if (rc == MOON_OK && object == NULL)
        moon_store_remove(q->x->script->env.flights->seat, q->key);
    moon_async_done(q->x, value_push_answer, q);
}

static void value_cancel(void *op)
{
    struct value_question *q = op;
    moon_cache_tier_cancel(q->query);
    q->query = NULL;
}

/// cache.ask(key): the second tier's word on a value; then cache.get has it, or nothing. Waits.
static int value_ask(lua_State *L)
{
    struct moon_cache_tier *tier = value_tier(L);
    uint8_t name[MOON_CACHE_TIER_NAME_BYTES];
    if (tier == NULL || !moon_cache_tier_is_current(tier))
        return 0;
    struct moon_ctx *x = moon_async_ctx(L);
    struct value_question *q = moon_arena_zalloc(x->arena, sizeof(*q));
    if (q == NULL)
        return moon_raise_full(L);
    q->x = x;
    q->key = moon_cache_value_key(L, 1);
    (void)moon_cache_need_seat(L);
    if (!value_name(L, 1, name) ||
        moon_cache_tier_find(tier, name, value_answered, q, &q->query) != MOON_AGAIN)
        return 0;
    return moon_async_wait(L, x, value_cancel, q);
}

void moon_cache_register_values(lua_State *L)
{
    static const luaL_Reg functions[] = {{"get", value_get},
                                         {"set", value_set},
                                         {"delete", value_delete},
                                         {"ask", value_ask},
                                         {NULL, NULL}};
    luaL_register(L, NULL, functions);
}
