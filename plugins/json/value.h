/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Lua values of JSON texts, and back. `null` is the light userdata NULL; arrays carry the metatable
/// MOON_JSON_ARRAY_MT, so that an empty one is written as `[]` again.

#include "json/json.h"

#include <lua.h>

#define MOON_JSON_ARRAY_MT "moongate.json.array"

/// Reads the whole text and pushes its value; on failure pushes nothing. Raises only for want of
/// memory.
///
/// @param pace  called every few hundred values, where the text may be long (moongate/plugin.h); or NULL
/// @return NULL, or what is wrong (static text; `r->at` says where)
const char *json_push(lua_State *L, struct moon_json_reader *r, bool refuse_duplicates,
                      void (*pace)(void));

/// Writes the value at `index` as JSON and pushes the text; on failure pushes nothing.
///
/// @return NULL, or what cannot be written (static text)
const char *json_write(lua_State *L, int index, unsigned max_depth);
