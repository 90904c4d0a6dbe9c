/* SPDX-License-Identifier: Apache-2.0 */

/// Acts (moongate/act.h): userdata whose metatable says what to call; and, where they do not stand at the
/// front of a chain, runs of them, which a chain has done by one call (lua/moongate/chain.lua).

#include "script/internal.h"

static const char act_field[] = "__act";
static const char act_waits_field[] = "__act_waits";
static const char act_run_name[] = "moongate.chain.run";

#define ACT_RUN_MARK UINT64_C(0x6d6f6f6e61637473)

void moon_act_register(lua_State *L, moon_act_fn *run)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)run);
    lua_setfield(L, -2, act_field);
}

void moon_act_register_waiting(lua_State *L, moon_act_fn *run)
{
    moon_act_register(L, run);
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, act_waits_field);
}

void moon_act_new_class(lua_State *L, const char *name, moon_act_fn *run)
{
    luaL_newmetatable(L, name);
    lua_pushliteral(L, "act");
    lua_setfield(L, -2, "__metatable");
    moon_act_register(L, run);
    lua_pop(L, 1);
}

void moon_keep_with(lua_State *L, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 1; i <= count; i++) {
        lua_pushvalue(L, i);
        lua_rawseti(L, -2, i);
    }
    lua_setfenv(L, -2);
}

bool moon_act_read(lua_State *L, int index, struct moon_act *act)
{
    const void *object = lua_touserdata(L, index);
    if (object == NULL || luaL_getmetafield(L, index, act_field) == 0)
        return false;
    uintptr_t run = (uintptr_t)lua_touserdata(L, -1);
    lua_pop(L, 1);
    act->run = (moon_act_fn *)run;
    act->object = object;
    return true;
}

void moon_act_read_entry(lua_State *L, struct moon_act *act)
{
    luaL_checktype(L, -1, LUA_TTABLE);
    lua_getfield(L, -1, "object");
    lua_getfield(L, -2, "product");
    if (!moon_act_read(L, -2, act))
        luaL_error(L, "chain.core.acts: this is no act");
    act->product = lua_isnil(L, -1) ? moon_slice(NULL, 0) : moon_check_slice(L, -1);
    lua_pop(L, 2);
}

bool moon_act_is_meant(const struct moon_act *act, struct moon_ctx *x)
{
    if (act->product.len == 0)
        return true;
    moon_ctx_find_subscription(x);
    return x->subscription != NULL && moon_slice_is(x->subscription->product, act->product);
}

// ---- runs --------------------------------------------------------------------------------------

/// Acts that follow each other. Their objects and the products' names are kept by the environment.
struct act_run {
    uint64_t mark; // ACT_RUN_MARK
    size_t count;
    struct moon_act list[];
};

/// acts({ { object = act, product = name | nil }, ... }) -> run
static int act_run_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    size_t count = lua_objlen(L, 1);
    lua_settop(L, 1);
    struct act_run *run = lua_newuserdata(L, sizeof(*run) + count * sizeof(run->list[0]));
    run->mark = ACT_RUN_MARK;
    run->count = count;
    memset(run->list, 0, count * sizeof(run->list[0]));
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 1, (int)i + 1);
        moon_act_read_entry(L, &run->list[i]);
        lua_pop(L, 1);
    }
    moon_keep_with(L, 1);
    luaL_getmetatable(L, act_run_name);
    lua_setmetatable(L, -2);
    return 1;
}

/// act(run, from, ctx) -> the number of the first act that declines, counted from 1; nothing where all,
/// from that number on, have done what they do
static int act_run_go(lua_State *L)
{
    const struct act_run *run = moon_check_object(L, 1, sizeof(*run), ACT_RUN_MARK, act_run_name);
    struct moon_ctx *x = moon_handle_check(L, 3, MOON_HANDLE_CTX);
    lua_Integer from = luaL_checkinteger(L, 2);
    x->script->acting = L;
    size_t i = from < 1 ? 0 : (size_t)from - 1;
    while (i < run->count && (!moon_act_is_meant(&run->list[i], x) ||
                              run->list[i].run(x, run->list[i].object) == MOON_ACT_GO_ON))
        i++;
    x->script->acting = NULL;
    if (i >= run->count)
        return 0;
    lua_pushinteger(L, (lua_Integer)i + 1);
    return 1;
}

/// is_act(value, may_wait) -> whether it is an act; without `may_wait`: one that never waits nor ends a
/// section
static int act_is(lua_State *L)
{
    struct moon_act act;
    bool is_act = moon_act_read(L, 1, &act);
    if (is_act && !lua_toboolean(L, 2) && luaL_getmetafield(L, 1, act_waits_field) != 0)
        is_act = false;
    lua_pushboolean(L, is_act);
    return 1;
}

void moon_acts_register(lua_State *L)
{
    luaL_newmetatable(L, act_run_name);
    lua_pushliteral(L, "acts");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_pushcfunction(L, act_is);
    lua_setfield(L, -2, "is_act");
    lua_pushcfunction(L, act_run_new);
    lua_setfield(L, -2, "acts");
    lua_pushcfunction(L, act_run_go);
    lua_setfield(L, -2, "act");
}
