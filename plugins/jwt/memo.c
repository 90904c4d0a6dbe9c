/* SPDX-License-Identifier: Apache-2.0 */
#include "jwt/memo.h"

#include "moongate/plugin.h"

#include "jwt/claims.h"
#include "jwt/keyset.h"

#include <stdlib.h>
#include <string.h>

#define MEMO_TYPE "moongate.jwt.memo"
#define MEMO_MAGIC UINT64_C(0x6d6f6f6e6d656d6f)

enum {
    MEMO_WAYS = 4,
    MEMO_MOST = 1 << 20, // entries
};

struct memo_entry {
    char *key; // NULL: free
    size_t len;
    uint64_t hash;
    double from_ms, till_ms;
    uint32_t round; // of the memo, when it was put there
    struct jwt_claims *claims;
};

struct memo {
    uint64_t magic;
    size_t set_count; // a power of two
    struct memo_entry
        *entries; // set_count * MEMO_WAYS, in each set the last used first; NULL: none yet
    size_t bytes, most_bytes;

    // As an act.
    struct moon_slice field; // that carries the token; kept by the environment; empty: it is none
    bool strips;
    uint32_t round;       // goes on with the keys: what other ones vouched for counts no longer
    double trusted_until; // ms: until then the keys need not be asked for
    const void *keys;
};

// Of the last bytes, where tokens differ: their signatures. It needs no secret: what peers send is only
// looked up, in one set.
static uint64_t memo_hash(struct moon_slice key)
{
    uint64_t end[2] = {key.len, 0};
    size_t n = key.len < sizeof(end) ? key.len : sizeof(end);
    if (n > 0) {
        memcpy(end, key.data + key.len - n, n);
    }
    uint64_t h = (end[0] ^ key.len) * UINT64_C(0xff51afd7ed558ccd);
    h = (h ^ (h >> 32) ^ end[1]) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ (h >> 29);
}

static struct memo *memo_check(lua_State *L)
{
    struct memo *memo = lua_objlen(L, 1) == sizeof(*memo) ? lua_touserdata(L, 1) : NULL;
    if (memo != NULL && memo->magic == MEMO_MAGIC) {
        return memo;
    }
    return luaL_checkudata(L, 1, MEMO_TYPE); // raises
}

static struct memo_entry *memo_set(const struct memo *memo, uint64_t hash)
{
    return &memo->entries[(hash & (memo->set_count - 1)) * MEMO_WAYS];
}

// Puts a set's entry at its front.
static void memo_use(struct memo_entry *set, size_t at)
{
    struct memo_entry used = set[at];
    memmove(&set[1], &set[0], at * sizeof(*set));
    set[0] = used;
}

static const struct memo_entry *memo_find(const struct memo *memo, struct moon_slice key)
{
    if (memo->entries == NULL) {
        return NULL;
    }
    uint64_t hash = memo_hash(key);
    struct memo_entry *set = memo_set(memo, hash);
    for (size_t i = 0; i < MEMO_WAYS; i++) {
        if (set[i].key != NULL && set[i].hash == hash && set[i].len == key.len &&
            memcmp(set[i].key, key.data, key.len) == 0) {
            if (i > 0) {
                memo_use(set, i);
            }
            return &set[0];
        }
    }
    return NULL;
}

static bool memo_is_good(const struct memo_entry *entry, double now_ms)
{
    return now_ms >= entry->from_ms && now_ms < entry->till_ms;
}

static int memo_push(lua_State *L, const struct memo *memo, struct moon_slice key)
{
    const struct memo_entry *entry = memo_find(memo, key);
    if (entry == NULL || !memo_is_good(entry, (double)jwt_host()->wall_ms())) {
        return 0;
    }
    jwt_claims_push_value(L, entry->claims);
    return 1;
}

/// memo:get(key) -> value | nil
static int memo_get(lua_State *L)
{
    struct moon_slice key;
    const struct memo *memo = memo_check(L);
    key.data = luaL_checklstring(L, 2, &key.len);
    return memo_push(L, memo, key);
}

/// memo:field(ctx, name) -> value | nil
static int memo_field(lua_State *L)
{
    struct moon_slice name, key;
    const struct memo *memo = memo_check(L);
    name.data = luaL_checklstring(L, 3, &name.len);
    if (!jwt_host()->request_field(L, 2, name, &key)) {
        return 0;
    }
    return memo_push(L, memo, key);
}

static void memo_drop(lua_State *L, struct memo *memo, struct memo_entry *entry)
{
    memo->bytes -= entry->len;
    free(entry->key);
    moon_claims_release(L, &entry->claims->shared);
    entry->key = NULL;
    entry->claims = NULL;
}

static void memo_clear(lua_State *L, struct memo *memo)
{
    for (size_t i = 0; i < memo->set_count * MEMO_WAYS; i++) {
        if (memo->entries[i].key != NULL) {
            memo_drop(L, memo, &memo->entries[i]);
        }
    }
}

// The front of the key's set, made free.
static struct memo_entry *memo_make_room(lua_State *L, struct memo *memo, struct moon_slice key)
{
    if (memo->entries == NULL) {
        memo->entries = calloc(memo->set_count * MEMO_WAYS, sizeof(*memo->entries));
        if (memo->entries == NULL) {
            return NULL;
        }
    }
    if (memo->bytes + key.len > memo->most_bytes) {
        memo_clear(L, memo);
    }
    const struct memo_entry *known = memo_find(memo, key); // it is in front now
    struct memo_entry *set = memo_set(memo, memo_hash(key));
    if (known == NULL) {
        memo_use(set, MEMO_WAYS - 1);
    }
    if (set[0].key != NULL) {
        memo_drop(L, memo, &set[0]);
    }
    return &set[0];
}

/// memo:put(key, value, claims, from_s, till_s)
///
/// `claims` is what acts read of the token.
static int memo_put(lua_State *L)
{
    struct moon_slice key;
    struct memo *memo = memo_check(L);
    key.data = luaL_checklstring(L, 2, &key.len);
    luaL_checktype(L, 4, LUA_TTABLE);
    double from_s = luaL_checknumber(L, 5), till_s = luaL_checknumber(L, 6);
    if (memo->set_count == 0 || key.len == 0 || key.len > memo->most_bytes) {
        return 0;
    }
    struct jwt_claims *claims = jwt_claims_new(L, 3, 4);
    struct memo_entry *entry = claims == NULL ? NULL : memo_make_room(L, memo, key);
    char *copy = entry == NULL ? NULL : malloc(key.len);
    if (copy == NULL) {
        moon_claims_release(L, claims == NULL ? NULL : &claims->shared);
        return 0; // not remembered
    }
    memcpy(copy, key.data, key.len);
    *entry = (struct memo_entry){.key = copy,
                                 .len = key.len,
                                 .hash = memo_hash(key),
                                 .from_ms = from_s * 1000,
                                 .till_ms = till_s * 1000,
                                 .round = memo->round,
                                 .claims = claims};
    memo->bytes += key.len;
    return 0;
}

/// memo:act(field, strips) -> memo
///
/// From now on it can be an act: lets a request with a token that is remembered in the field go on, with
/// its claims as ctx.jwt; `strips`: without the field. `trust` must have said that the keys are known.
static int memo_act_on(lua_State *L)
{
    struct memo *memo = memo_check(L);
    memo->field.data = luaL_checklstring(L, 2, &memo->field.len);
    memo->strips = lua_toboolean(L, 3);
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "field");
    lua_settop(L, 1);
    return 1;
}

/// memo:trust(keyset, until_s)
///
/// Which keys count, and until when nobody has to ask for other ones.
static int memo_trust(lua_State *L)
{
    struct memo *memo = memo_check(L);
    const void *keys = lua_topointer(L, 2);
    if (keys != memo->keys) {
        memo->round++;
    }
    memo->keys = keys;
    memo->trusted_until = luaL_checknumber(L, 3) * 1000;
    lua_getfenv(L, 1); // as long as they count, no other keys have their address
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "keys");
    return 0;
}

static enum moon_act_answer memo_act(struct moon_ctx *x, const void *object)
{
    const struct memo *memo = object;
    const struct moon_host *host = jwt_host();
    double now_ms = (double)host->wall_ms();
    struct moon_slice key;
    if (memo->field.len == 0 || now_ms >= memo->trusted_until ||
        !host->act_field(x, memo->field, &key)) {
        return MOON_ACT_DECLINES;
    }
    const struct memo_entry *entry = memo_find(memo, key);
    if (entry == NULL || entry->round != memo->round || !memo_is_good(entry, now_ms) ||
        !host->act_jwt(x, &entry->claims->shared)) {
        return MOON_ACT_DECLINES;
    }
    if (memo->strips) {
        host->act_remove_field(x, memo->field);
    }
    return MOON_ACT_GO_ON;
}

/// memo:pass(ctx) -> true | nil: what the act does, called from Lua; nil where it declines
static int memo_pass(lua_State *L)
{
    const struct memo *memo = memo_check(L);
    const struct moon_host *host = jwt_host();
    struct moon_ctx *x = host->act_ctx == NULL ? NULL : host->act_ctx(L, 2);
    if (x == NULL || memo_act(x, memo) != MOON_ACT_GO_ON) {
        return 0;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/// memo:count() -> entries held
static int memo_count(lua_State *L)
{
    const struct memo *memo = memo_check(L);
    lua_Integer count = 0;
    for (size_t i = 0; memo->entries != NULL && i < memo->set_count * MEMO_WAYS; i++) {
        count += memo->entries[i].key != NULL;
    }
    lua_pushinteger(L, count);
    return 1;
}

static int memo_gc(lua_State *L)
{
    struct memo *memo = memo_check(L);
    if (memo->entries != NULL) {
        memo_clear(L, memo);
    }
    free(memo->entries);
    memo->entries = NULL;
    return 0;
}

int jwt_memo_new(lua_State *L)
{
    lua_Integer entries = luaL_checkinteger(L, 1), bytes = luaL_checkinteger(L, 2);
    luaL_argcheck(L, entries >= 0 && entries <= MEMO_MOST, 1, "0 to 1048576 entries");
    luaL_argcheck(L, bytes > 0, 2, "bytes must be positive");
    struct memo *memo = lua_newuserdata(L, sizeof(*memo));
    *memo = (struct memo){.magic = MEMO_MAGIC, .most_bytes = (size_t)bytes};
    if (entries > 0) {
        memo->set_count = 1;
        while (memo->set_count * MEMO_WAYS < (size_t)entries) {
            memo->set_count *= 2;
        }
    }
    lua_newtable(L);
    lua_setfenv(L, -2);
    luaL_getmetatable(L, MEMO_TYPE);
    lua_setmetatable(L, -2);
    return 1;
}

void jwt_memo_open(lua_State *L)
{
    static const luaL_Reg METHODS[] = {
        {"get", memo_get},     {"field", memo_field}, {"put", memo_put},     {"act", memo_act_on},
        {"trust", memo_trust}, {"pass", memo_pass},   {"count", memo_count}, {NULL, NULL}};
    if (luaL_newmetatable(L, MEMO_TYPE) != 0) {
        lua_newtable(L);
        for (const luaL_Reg *m = METHODS; m->name != NULL; m++) {
            lua_pushcfunction(L, m->func);
            lua_setfield(L, -2, m->name);
        }
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, memo_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "jwt.memo");
        lua_setfield(L, -2, "__metatable");
        jwt_host()->act_register(L, memo_act);
    }
    lua_pop(L, 1);
}
