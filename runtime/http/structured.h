/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Dictionaries of structured fields (RFC 9651 §3.2), member by member. Nothing is copied or
/// unescaped: a member's value is its text.

#include "base/result.h"
#include "base/slice.h"

enum moon_structured_type {
    MOON_STRUCTURED_TRUE, // a key without a value, and ?1
    MOON_STRUCTURED_FALSE,
    MOON_STRUCTURED_INTEGER,
    MOON_STRUCTURED_DECIMAL,
    MOON_STRUCTURED_STRING, // value: without its quotes, escapes left in it
    MOON_STRUCTURED_TOKEN,
    MOON_STRUCTURED_OTHER, // bytes, dates, display strings, inner lists
};

struct moon_structured_member {
    struct moon_slice key; // lower case by its grammar
    enum moon_structured_type type;
    struct moon_slice value;
    int64_t integer; // of an INTEGER
};

/// Takes the next member; its parameters are checked and passed over.
///
/// @return MOON_OK, MOON_EOF (the end), MOON_ERR_BAD_FIELD: the field is no dictionary, and what was
///         taken from it before does not hold either
MUST_CHECK enum moon_rc moon_structured_next(struct moon_slice *rest,
                                             struct moon_structured_member *member);
