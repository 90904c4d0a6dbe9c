/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The least that native plugins need of a host, for fuzz targets: one Lua state, a clock that
/// stands, no files.

#include "moongate/plugin.h"

#include <lualib.h>

static inline void fuzz_log(enum moon_log_level level, const char *fmt, ...)
{
    (void)level;
    (void)fmt;
}

static inline void fuzz_charge(lua_State *L, uint32_t units)
{
    (void)L;
    (void)units;
}

static inline int64_t fuzz_wall_ms(void)
{
    return INT64_C(1800000000000);
}

static inline bool fuzz_read_file(lua_State *L, const char *path, struct moon_slice *out)
{
    (void)L;
    (void)path;
    (void)out;
    return false;
}

static inline void fuzz_act_register(lua_State *L, moon_act_fn *run)
{
    (void)L;
    (void)run;
}

static const struct moon_host fuzz_host = {.abi = MOON_PLUGIN_ABI,
                                           .log = fuzz_log,
                                           .charge = fuzz_charge,
                                           .wall_ms = fuzz_wall_ms,
                                           .read_file = fuzz_read_file,
                                           .act_register = fuzz_act_register};

/// LuaJIT tags its pointers, so the leak checker cannot see what a state that is not closed holds;
/// leaks are looked for where states are closed.
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

/// A Lua state with the standard library. It is never closed.
static inline lua_State *fuzz_new_state(void)
{
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        __builtin_trap();
    }
    luaL_openlibs(L);
    return L;
}

/// Leaves what `chunk` returns at the bottom of the stack: a function for fuzz_call.
static inline void fuzz_prepare(lua_State *L, const char *chunk)
{
    if (luaL_loadstring(L, chunk) != 0 || lua_pcall(L, 0, 1, 0) != 0) {
        __builtin_trap();
    }
}

/// Opens the plugin and leaves its module as the global of its name. Call once for each.
static inline void fuzz_open_plugin(lua_State *L, const struct moon_plugin *plugin)
{
    if (plugin->open(&fuzz_host) != 0) {
        __builtin_trap();
    }
    lua_newtable(L);
    for (const luaL_Reg *f = plugin->functions; f->name != NULL; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    if (plugin->attach != NULL) {
        plugin->attach(L);
    }
    lua_setglobal(L, plugin->name);
}

/// Runs a chunk that was compiled by `prepare`: a Lua function at stack index 1, given the input.
static inline void fuzz_call(lua_State *L, const uint8_t *data, size_t size)
{
    lua_pushvalue(L, 1);
    lua_pushlstring(L, (const char *)data, size);
    if (lua_pcall(L, 1, 0, 0) != 0) {
        __builtin_trap(); // the chunk itself catches what it expects
    }
    lua_settop(L, 1);
}
