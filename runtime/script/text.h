/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Texts with `${ctx.…}` in them that need no Lua to be made: of literals, and of places in the exchange
/// that hold texts.

#include "script/internal.h"

struct moon_text;

/// The text program at `index`, made by moongate.text; NULL for anything else.
const struct moon_text *moon_text_read(lua_State *L, int index);

/// The text for an exchange. MOON_TEXT_NONE is Lua's nil. The bytes lie in the exchange's arena, in the
/// program, or where the exchange has them.
/// @return MOON_TEXT_OTHER when Lua has to say
enum moon_text_kind moon_text_make(const struct moon_text *text, struct moon_ctx *x,
                                   struct moon_slice *out);
