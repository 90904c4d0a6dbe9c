/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.clock: the one clock of C and Lua, which specs can move.

#include "base/clock.h"
#include "script/internal.h"

/// clock.now() -> seconds since the epoch, with fractions
static int clock_now(lua_State *L)
{
    lua_pushnumber(L, (double)moon_clock_wall_ms() / 1000.0);
    return 1;
}

/// clock.monotonic() -> seconds that never go back
static int clock_monotonic(lua_State *L)
{
    lua_pushnumber(L, (double)moon_clock_us() / 1e6);
    return 1;
}

/// clock.http_date(seconds?) -> "Sun, 06 Nov 1994 08:49:37 GMT"
/// @lua-raises "clock.http_date: seconds must be 0 to 253402300799, got -1": years have four digits
static int clock_http_date(lua_State *L)
{
    double seconds = luaL_optnumber(L, 1, (double)moon_clock_wall_ms() / 1000.0);
    if (!(seconds >= 0 && seconds <= 253402300799.0))
        return luaL_error(L, "clock.http_date: seconds must be 0 to 253402300799, got %f", seconds);
    int64_t ms = (int64_t)(seconds * 1000.0);
    moon_push_slice(L, moon_clock_http_date(ms));
    return 1;
}

/// clock.parse_http_date(text) -> seconds | nil
static int clock_parse_http_date(lua_State *L)
{
    int64_t ms;
    if (!moon_clock_parse_http_date(moon_check_slice(L, 1), &ms))
        return 0;
    lua_pushnumber(L, (double)ms / 1000.0);
    return 1;
}

static const luaL_Reg clock_functions[] = {
    {"now", clock_now},
    {"monotonic", clock_monotonic},
    {"http_date", clock_http_date},
    {"parse_http_date", clock_parse_http_date},
    {NULL, NULL},
};

static int clock_open(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, clock_functions);
    return 1;
}

void moon_script_open_clock(lua_State *L)
{
    moon_preload(L, "moongate.clock", clock_open);
}
