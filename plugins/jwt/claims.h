/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "moongate/act.h"

#include <lua.h>

/// What is remembered of a token that passed: a Lua value, and the claims that are texts.
struct jwt_claims {
    struct moon_claims shared; // first
    int value_ref;
    size_t count;
    struct jwt_claim {
        struct moon_slice name, text; // text.data NULL: it is no text
    } list[];
};

/// @param value, claims  indexes: the table that is remembered, whose function `unfold` makes of it the
///     claims that policies get; and the table of claims
/// @return held once; NULL when memory is out
struct jwt_claims *jwt_claims_new(lua_State *L, int value, int claims);

void jwt_claims_push_value(lua_State *L, const struct jwt_claims *claims);
