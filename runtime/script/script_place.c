/* SPDX-License-Identifier: Apache-2.0 */

/// Which policy runs now, for the report of a stuck worker. A chain notes a policy's number in a
/// table before it calls it (lua/moongate/chain.lua): one store, and nothing that a call could
/// hide. The table is looked at from a signal handler, whatever was interrupted: through a Lua
/// thread of its own, whose stack nothing else touches, and without allocating.

#include "script/internal.h"

#include <signal.h>

static struct moon_script *volatile place_running; // whose section runs; NULL: none's

/// name(text) -> number
static int place_name(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    const char *text = luaL_checkstring(L, 1);
    if ((script->place_count & (script->place_count + 1)) == 0) { // full: 0, 1, 3, 7 ...
        size_t cap = 2 * script->place_count + 1;
        char **places = realloc(script->places, cap * sizeof(*places));
        if (places == NULL)
            return luaL_error(L, "out of memory");
        script->places = places;
    }
    char *copy = strdup(text);
    if (copy == NULL)
        return luaL_error(L, "out of memory");
    script->places[script->place_count++] = copy;
    lua_pushinteger(L, (lua_Integer)script->place_count);
    return 1;
}

static int place_open(lua_State *L)
{
    const struct moon_script *script = moon_script_of(L);
    lua_createtable(L, 0, 5);
    lua_pushvalue(script->place_L, 1);
    lua_xmove(script->place_L, L, 1);
    lua_setfield(L, -2, "at");
    lua_pushcfunction(L, place_name);
    lua_setfield(L, -2, "name");
    moon_acts_register(L);
    return 1;
}

void moon_script_open_place(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    script->place_L = lua_newthread(L);
    (void)luaL_ref(L, LUA_REGISTRYINDEX); // as long as the state
    lua_createtable(script->place_L, 1, 0);
    lua_pushinteger(script->place_L, 0);
    lua_rawseti(script->place_L, 1, 1);
    moon_preload(L, "moongate.chain.core", place_open);
}

void moon_script_close_place(struct moon_script *script)
{
    for (size_t i = 0; i < script->place_count; i++)
        free(script->places[i]);
    free(script->places);
}

static size_t place_read(const struct moon_script *script)
{
    lua_rawgeti(script->place_L, 1, 1);
    size_t place = (size_t)lua_tointeger(script->place_L, -1);
    lua_pop(script->place_L, 1);
    return place;
}

struct moon_script *moon_place_begin(struct moon_script *script, const struct moon_ctx *x)
{
    struct moon_script *outer = place_running;
    if (x->place != 0) { // it waited
        lua_pushinteger(script->place_L, (lua_Integer)x->place);
        lua_rawseti(script->place_L, 1, 1);
    }
    place_running = script;
    return outer;
}

void moon_place_end(struct moon_script *script, struct moon_ctx *x, struct moon_script *outer,
                    bool is_waiting)
{
    x->place = is_waiting ? place_read(script) : 0;
    place_running = outer;
}

void moon_script_say_place(void)
{
    const struct moon_script *script = place_running;
    if (script == NULL || script->env.slot == NULL)
        return;
    size_t place = place_read(script);
    if (place == 0 || place > script->place_count)
        return;
    const char *name = script->places[place - 1];
    size_t n = moon_min_size(strlen(name), MOON_BOARD_TEXT - 1);
    memcpy(script->env.slot->policy, name, n);
    script->env.slot->policy[n] = '\0';
}
