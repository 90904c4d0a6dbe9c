/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the files of the Lua module share.

#include "moongate/plugin.h"

#include "regex/pattern.h"

#define REGEX_TYPE "moongate.regex"

const struct moon_host *regex_host(void);

/// A string argument; raises "regex.<what> must be a string, got <type>".
struct moon_slice regex_check_string(lua_State *L, int index, const char *what);

/// The userdata at `index`, whose metatable is the one that the running method belongs to; raises
/// otherwise. For methods of regex_new_class.
void *regex_check_object(lua_State *L, int index, const char *what);

/// Adds the classes of the patterns, and of the sets.
void regex_attach_sets(lua_State *L);
void regex_new_class(lua_State *L, const char *type, const luaL_Reg *methods, lua_CFunction gc);

/// regex.set{patterns, flags?} and regex.literals{texts}
int regex_set(lua_State *L);
int regex_literals(lua_State *L);
