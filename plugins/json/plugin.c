/* SPDX-License-Identifier: Apache-2.0 */
#include "moongate/plugin.h"

#include "json/value.h"

#include <string.h>

#define DEPTH_DEFAULT 128

static const struct moon_host *host;

static unsigned option_depth(lua_State *L, int index, const char *function)
{
    if (lua_isnoneornil(L, index)) {
        return DEPTH_DEFAULT;
    }
    lua_getfield(L, index, "depth");
    lua_Number depth = lua_isnil(L, -1) ? DEPTH_DEFAULT : lua_tonumber(L, -1);
    lua_pop(L, 1);
    if (!(depth >= 1 && depth <= MOON_JSON_MAX_DEPTH)) {
        (void)luaL_error(L, "json.%s: depth must be 1 to %d", function, MOON_JSON_MAX_DEPTH);
    }
    return (unsigned)depth;
}

static bool option_refuses_duplicates(lua_State *L, int index)
{
    if (lua_isnoneornil(L, index)) {
        return false;
    }
    lua_getfield(L, index, "duplicates");
    const char *text = lua_tostring(L, -1);
    bool refuse = text != NULL && strcmp(text, "refuse") == 0;
    if (!lua_isnil(L, -1) && !refuse && (text == NULL || strcmp(text, "last") != 0)) {
        (void)luaL_error(L, "json.decode: duplicates must be \"last\" or \"refuse\"");
    }
    lua_pop(L, 1);
    return refuse;
}

static void check_options(lua_State *L, int index, const char *function)
{
    if (!lua_isnoneornil(L, index) && !lua_istable(L, index)) {
        (void)luaL_error(L, "json.%s: options must be a table, got %s", function,
                         luaL_typename(L, index));
    }
}

/// json.decode(text, {depth = 128, duplicates = "last" | "refuse"}?) -> value | nil, error
/// `json.null` stands for null. Numbers are doubles.
/// @lua-raises "json.decode: text must be a string, got table"
static int json_decode(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING) {
        return luaL_error(L, "json.decode: text must be a string, got %s", luaL_typename(L, 1));
    }
    check_options(L, 2, "decode");
    lua_settop(L, 2);
    struct moon_slice text;
    text.data = lua_tolstring(L, 1, &text.len);
    unsigned depth = option_depth(L, 2, "decode");
    bool refuse = option_refuses_duplicates(L, 2);
    host->charge(L, (uint32_t)(text.len / 4) + 10);
    char *scratch = NULL;
    if (memchr(text.data, '\\', text.len) != NULL) {
        scratch = lua_newuserdata(L, text.len);
    }
    struct moon_json_reader reader;
    json_reader_init(&reader, text, scratch, depth);
    const char *error = json_push(L, &reader, refuse, host->pace);
    if (error == NULL) {
        return 1;
    }
    lua_pushnil(L);
    lua_pushfstring(L, "%s at byte %d", error, (int)(reader.at - reader.start) + 1);
    return 2;
}

/// json.encode(value, {depth = 128}?) -> text | nil, error
/// A table is a list when its keys are 1..n or it was made by json.array; an empty one is `{}`.
static int json_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    check_options(L, 2, "encode");
    const char *error = json_write(L, 1, option_depth(L, 2, "encode"));
    if (error == NULL) {
        host->charge(L, (uint32_t)(lua_objlen(L, -1) / 4) + 10);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, error);
    return 2;
}

/// json.array(list?) -> list, marked so that it is written as a list even when empty
static int json_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    } else if (!lua_istable(L, 1)) {
        return luaL_error(L, "json.array: list must be a table, got %s", luaL_typename(L, 1));
    }
    lua_settop(L, 1);
    (void)luaL_newmetatable(L, MOON_JSON_ARRAY_MT);
    lua_setmetatable(L, 1);
    return 1;
}

static void json_attach(lua_State *L)
{
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    (void)luaL_newmetatable(L, MOON_JSON_ARRAY_MT);
    lua_pushliteral(L, "json.array");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

static int json_open(const struct moon_host *given)
{
    host = given;
    return 0;
}

static void json_close(void)
{
}

static const luaL_Reg json_functions[] = {
    {"decode", json_decode}, {"encode", json_encode}, {"array", json_array}, {NULL, NULL}};

extern const struct moon_plugin moon_plugin_entry;
MOON_EXPORT const struct moon_plugin moon_plugin_entry = {.abi = MOON_PLUGIN_ABI,
                                                          .name = "json",
                                                          .functions = json_functions,
                                                          .open = json_open,
                                                          .close = json_close,
                                                          .attach = json_attach};
