/* SPDX-License-Identifier: Apache-2.0 */

/// What is said of names that `ctx` and its parts do not have. Only the misses come here.

#include "script/ctx_internal.h"

const char *moon_ctx_push_unknown(lua_State *L, const char *what, int name, int known)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, moon_script_of(L)->unknown_ref); // nil without one
    lua_pushstring(L, what);
    lua_pushvalue(L, name < 0 ? name - 2 : name);
    lua_pushvalue(L, known > LUA_REGISTRYINDEX && known < 0 ? known - 3 : known);
    if (lua_pcall(L, 3, 1, 0) != 0 || !lua_isstring(L, -1))
        lua_pushfstring(L, "%s has no such field", what);
    return lua_tostring(L, -1);
}

static int unknown_raise(lua_State *L, const char *what, int known, const char *advice)
{
    return luaL_error(L, "%s%s", moon_ctx_push_unknown(L, what, 2, known), advice);
}

int moon_ctx_method(lua_State *L, enum moon_handle_kind kind)
{
    return lua_isnil(L, -1) ? unknown_raise(L, moon_handle_name(kind), lua_upvalueindex(1), "") : 1;
}

int moon_ctx_raise_unset(lua_State *L, enum moon_handle_kind kind)
{
    const char *advice = kind == MOON_HANDLE_CTX ? "; keep values for later in ctx.vars" : "";
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (lua_isnil(L, -1))
        return unknown_raise(L, moon_handle_name(kind), lua_upvalueindex(1), advice);
    return luaL_error(L, "%s.%s cannot be set%s", moon_handle_name(kind), lua_tostring(L, 2),
                      advice);
}

/// Behind a table of facts: its upvalues are the table's name and a table with the names that may be
/// there.
static int facts_index(lua_State *L)
{
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(2));
    if (lua_isnil(L, -1))
        return unknown_raise(L, lua_tostring(L, lua_upvalueindex(1)), lua_upvalueindex(2), "");
    return 0;
}

void moon_ctx_push_facts_class(lua_State *L, const char *what, const char *const names[], size_t n)
{
    if (luaL_newmetatable(L, what) == 0)
        return; // made before
    lua_pushstring(L, what);
    lua_createtable(L, 0, (int)n);
    for (size_t i = 0; i < n; i++) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, names[i]);
    }
    lua_pushcclosure(L, facts_index, 2);
    lua_setfield(L, -2, "__index");
}
