/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Pairs of a Cookie field (RFC 6265 §4.2), read as servers do: liberally.

#include "base/slice.h"

/// Takes the next name=value; what has no '=' or no name is passed over. White space around both is
/// cut, one pair of double quotes around the value is kept.
///
/// @param rest  what is left of the field's value; moved on
/// @return false when there is none left
bool moon_cookies_next(struct moon_slice *rest, struct moon_slice *name, struct moon_slice *value);

/// The value of the first cookie of that name; data is NULL when there is none.
struct moon_slice moon_cookies_find(struct moon_slice field, struct moon_slice name);
