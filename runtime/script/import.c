/* SPDX-License-Identifier: Apache-2.0 */
#include "script/internal.h"

#include <string.h>

static char *import_copy(lua_State *L, int index)
{
    const char *text = lua_tostring(L, index);
    return strdup(text != NULL ? text : "");
}

// Calls moongate.import.run; its three results stay on the stack. False: one error on the stack.
static bool import_call(lua_State *L, const char *kind, const char *file, const char *out,
                        bool is_forced)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moongate.import");
    if (lua_pcall(L, 1, 1, 0) != 0)
        return false;
    lua_getfield(L, -1, "run");
    lua_pushstring(L, kind);
    lua_pushstring(L, file);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, out); // NULL: nil
    lua_setfield(L, -2, "out");
    lua_pushboolean(L, is_forced);
    lua_setfield(L, -2, "force");
    return lua_pcall(L, 3, 3, 0) == 0;
}

static char *import_notes(lua_State *L, int index)
{
    if (!lua_istable(L, index))
        return strdup("");
    lua_getglobal(L, "table");
    lua_getfield(L, -1, "concat");
    lua_pushvalue(L, index);
    lua_pushliteral(L, "\n");
    return lua_pcall(L, 2, 1, 0) == 0 ? import_copy(L, -1) : strdup("");
}

char *moon_script_import(struct moon_script *script, const char *kind, const char *file,
                         const char *out, bool is_forced, char **notes, bool *is_done)
{
    lua_State *L = script->L;
    int top = lua_gettop(L);
    bool is_run = import_call(L, kind, file, out, is_forced);
    *is_done = is_run && lua_isstring(L, -3);
    *notes = *is_done ? import_notes(L, lua_gettop(L)) : strdup("");
    char *text = import_copy(L, *is_done ? top + 2 : is_run ? top + 3 : -1);
    lua_settop(L, top);
    return text;
}
