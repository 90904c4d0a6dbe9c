/* SPDX-License-Identifier: Apache-2.0 */
#include "moongate/plugin.h"

#include "yaml/yaml.h"

#include <stdlib.h>

static const struct moon_host *host;

/// yaml.to_json(text) -> json text | nil, error
/// @lua-raises "yaml.to_json: text must be a string, got table"
static int yaml_json(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING) {
        return luaL_error(L, "yaml.to_json: text must be a string, got %s", luaL_typename(L, 1));
    }
    struct moon_slice text;
    char error[YAML_ERROR_BYTES];
    char *out;
    size_t len;
    text.data = lua_tolstring(L, 1, &text.len);
    host->charge(L, (uint32_t)text.len + 100);
    if (!yaml_to_json(text, host->pace, &out, &len, error)) {
        lua_pushnil(L);
        lua_pushstring(L, error);
        return 2;
    }
    lua_pushlstring(L, out, len); // raises only for want of memory
    free(out);
    return 1;
}

static int yaml_open(const struct moon_host *given)
{
    host = given;
    return 0;
}

static void yaml_close(void)
{
}

static const luaL_Reg yaml_functions[] = {{"to_json", yaml_json}, {NULL, NULL}};

extern const struct moon_plugin moon_plugin_entry;
MOON_EXPORT const struct moon_plugin moon_plugin_entry = {.abi = MOON_PLUGIN_ABI,
                                                          .name = "yaml",
                                                          .functions = yaml_functions,
                                                          .open = yaml_open,
                                                          .close = yaml_close};
