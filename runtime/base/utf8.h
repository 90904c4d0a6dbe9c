/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// UTF-8 (RFC 3629): no surrogates, no overlong forms, nothing past U+10FFFF.

#include "base/slice.h"

/// @return length of the sequence at `at` (1 to 4), or 0 when it is not valid or cut short
size_t moon_utf8_length(const char *at, size_t left);

bool moon_utf8_is_valid(struct moon_slice s);

/// Writes a code point. @return bytes written (1 to 4), 0 for a surrogate or one past U+10FFFF
size_t moon_utf8_encode(uint32_t code, char into[4]);
