/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <lua.h>

/// jwt.memo(entries, bytes) -> memo: what was found out of tokens, by what carried them.
///
///   memo:put(key, value, claims, from_s, till_s)  holds between the two times, seconds since the epoch
///   memo:get(key) -> value | nil
///   memo:field(ctx, name) -> value | nil   of the request field's value, which becomes no Lua string
///   memo:act(field, strips) -> memo       as an act (moongate/act.h), by that request field
///   memo:trust(keyset, until_s)           for the act: which keys count, and how long
///   memo:pass(ctx) -> true | nil          does what the act does; nil where that declines
///   memo:count() -> entries held
///
/// Holds about `entries` at most, in sets of four by a hash of the key's end; in a full set the one
/// that was longest not asked for makes room. `bytes` bounds the text of all keys.
int jwt_memo_new(lua_State *L);

/// Adds the type. Called once per Lua state.
void jwt_memo_open(lua_State *L);
