/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.log: lines in the gateway's error log. The request's id is added where there is one.

#include "base/log.h"
#include "script/internal.h"

static int log_write(lua_State *L, enum moon_log_level level)
{
    struct moon_script *script = moon_script_of(L);
    struct moon_slice text = moon_check_slice(L, 1);
    struct moon_slice id = script->current == NULL ? moon_slice("", 0) : script->current->id;
    moon_log(level, "policy: %.*s%s%.*s", MOON_SLICE_ARG(text), id.len > 0 ? " request=" : "",
             MOON_SLICE_ARG(id));
    return 0;
}

/// log.debug(text)
static int log_debug(lua_State *L)
{
    return log_write(L, MOON_LOG_DEBUG);
}

/// log.info(text)
static int log_info(lua_State *L)
{
    return log_write(L, MOON_LOG_INFO);
}

/// log.warning(text)
static int log_warning(lua_State *L)
{
    return log_write(L, MOON_LOG_WARN);
}

/// log.error(text)
static int log_error(lua_State *L)
{
    return log_write(L, MOON_LOG_ERROR);
}

static const luaL_Reg log_functions[] = {
    {"debug", log_debug},  {"info", log_info},   {"warning", log_warning},
    {"warn", log_warning}, {"error", log_error}, {NULL, NULL},
};

static int log_open(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, log_functions);
    return 1;
}

void moon_script_open_log(lua_State *L)
{
    moon_preload(L, "moongate.log", log_open);
}
