/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Numbers as they were written: exact where a double is not.

#include "jsonschema/tape.h"

/// @return < 0, 0, > 0
int jsc_decimal_compare(const struct jsc_node *a, const struct jsc_node *b);

/// Whether the value has no fraction. `is_lexical`: nor has its text (draft 4).
bool jsc_decimal_is_integer(const struct jsc_node *n, bool is_lexical);

/// Whether `n` is a whole multiple of `of`, which is above 0.
bool jsc_decimal_is_multiple(const struct jsc_node *n, const struct jsc_node *of);
