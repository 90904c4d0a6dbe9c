/* SPDX-License-Identifier: Apache-2.0 */

/// Lua's own library, with `next` and `pairs` of ours. The LuaJIT of Debian 12 compiles calls of its
/// own `next` wrongly where the two results change places in registers: it exchanges only the lower
/// halves, and the trace goes on with half a pointer (lj_asm.c, ra_destpair; mended later by LuaJIT
/// 2.1). Any loop over pairs() may meet that. It knows nothing of these here, and calls them.

#include "script/internal.h"

/// next(table, key = nil) -> key, value | nil
static int libraries_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_next(L, 1) != 0)
        return 2;
    lua_pushnil(L);
    return 1;
}

/// pairs(table) -> next, table, nil
static int libraries_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

void moon_script_open_libraries(lua_State *L)
{
    luaL_openlibs(L);
    lua_pushcfunction(L, libraries_next);
    lua_pushvalue(L, -1);
    lua_setglobal(L, "next");
    lua_pushcclosure(L, libraries_pairs, 1);
    lua_setglobal(L, "pairs");
}
