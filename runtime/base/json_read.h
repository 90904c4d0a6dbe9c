/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Reads JSON (RFC 8259), strictly: UTF-8 without a byte order mark, no lone surrogates, no trailing
/// commas, no comments, nothing behind the text. A pull parser over bytes in memory: it keeps
/// nothing but its place, copies nothing, and decodes a string only when asked to.
///
///     struct moon_json_reader reader;
///     moon_json_read_init(&reader, text, 64);
///     while ((event = moon_json_read_next(&reader, &raw)) != MOON_JSON_READ_END) ...

#include "base/arena.h"

enum moon_json_event {
    MOON_JSON_READ_ERROR, // see `error` and `at`; comes again from then on
    MOON_JSON_READ_END,   // the text is whole; comes again from then on
    MOON_JSON_READ_OBJECT,
    MOON_JSON_READ_OBJECT_END,
    MOON_JSON_READ_ARRAY,
    MOON_JSON_READ_ARRAY_END,
    MOON_JSON_READ_KEY,    // raw: between the quotes, escapes as they are
    MOON_JSON_READ_STRING, // the same
    MOON_JSON_READ_NUMBER, // raw: the number's text
    MOON_JSON_READ_TRUE,
    MOON_JSON_READ_FALSE,
    MOON_JSON_READ_NULL,
};

enum { MOON_JSON_READ_DEPTH = 512 }; // of nesting, at most

struct moon_json_reader {
    struct moon_slice text; // borrowed for as long as the reader is used
    size_t at;              // bytes read; of an error: where it is
    size_t depth;           // open objects and arrays; depth <= max_depth
    size_t max_depth;
    int expect;                                  // what may come next
    uint8_t is_object[MOON_JSON_READ_DEPTH / 8]; // one bit for each open level
    const char *error;                           // NULL, or what was wrong; static
};

/// @param max_depth  1 to MOON_JSON_READ_DEPTH; deeper nesting is an error
void moon_json_read_init(struct moon_json_reader *reader, struct moon_slice text, size_t max_depth);

/// @param raw  written for keys, strings and numbers. Lent: as long as the text.
enum moon_json_event moon_json_read_next(struct moon_json_reader *reader, struct moon_slice *raw);

/// Decodes the raw text of a key or string. Arena, or `raw` itself where there is no escape.
/// @return false when the arena is full
MUST_CHECK bool moon_json_read_text(struct moon_arena *arena, struct moon_slice raw,
                                    struct moon_slice *text);

/// The value of a number that is written as an integer and fits (up to INT64_MAX either way).
/// @return false otherwise
MUST_CHECK bool moon_json_read_integer(struct moon_slice raw, int64_t *value);

/// True when the whole text is JSON. @param error_at  offset of the error; may be NULL
bool moon_json_read_is_valid(struct moon_slice text, size_t max_depth, size_t *error_at);
