/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A strict JSON reader (RFC 8259) as a pull parser: one value a call, no memory of its own, no
/// recursion. UTF-8 is checked, lone surrogates, leading zeros and bytes after the text are refused.
/// The plugins that read JSON share it; `value.h` makes Lua values of it.

#include "moongate/types.h"

#define MOON_JSON_MAX_DEPTH 512

enum moon_json_token {
    MOON_JSON_ERROR, // `error` and `at` say what and where
    MOON_JSON_DONE,  // the whole text was read, and nothing follows it
    MOON_JSON_OBJECT_END,
    MOON_JSON_ARRAY_END,
    // From here on a value begins: `name`.
    MOON_JSON_OBJECT,
    MOON_JSON_ARRAY,
    MOON_JSON_STRING, // `text`
    MOON_JSON_NUMBER, // `number`, `is_whole`, and `text` as it was written
    MOON_JSON_TRUE,
    MOON_JSON_FALSE,
    MOON_JSON_NULL,
};

enum moon_json_expect {
    MOON_JSON_EXPECT_ROOT,
    MOON_JSON_EXPECT_FIRST, // what an open container begins with, or its end
    MOON_JSON_EXPECT_MORE,  // a comma and what follows it, or the end of what is open
    MOON_JSON_EXPECT_END,
    MOON_JSON_FAILED,
};

struct moon_json_reader {
    const char *start;
    const char *at;
    const char *end;
    char *scratch;     // where unescaped strings are written, at the place they had in the text
    const char *error; // static text; NULL unless the last token was MOON_JSON_ERROR
    enum moon_json_expect expect;
    char closer;            // of the innermost open container: '}' or ']'; 0: none is open
    bool is_whole;          // the number was written without fraction and exponent
    unsigned depth;         // containers open now
    unsigned max_depth;     // <= MOON_JSON_MAX_DEPTH
    struct moon_slice name; // of the value, where it is an object's member; else data is NULL
    struct moon_slice text;
    double number;
    uint8_t is_object[MOON_JSON_MAX_DEPTH / 8]; // one bit for each open container
};

/// Begins to read.
///
/// @param text     borrowed until the last token
/// @param scratch  borrowed; text.len bytes where the text holds a backslash, else may be NULL.
///                 May be the text itself, which is then overwritten.
void json_reader_init(struct moon_json_reader *r, struct moon_slice text, char *scratch,
                      unsigned max_depth);

/// Reads the next token. After MOON_JSON_ERROR or MOON_JSON_DONE it says the same again. `r->name` and
/// `r->text` lie in the text or the scratch, and stay.
enum moon_json_token json_next(struct moon_json_reader *r);

/// Checks one UTF-8 sequence at `at`, whose first byte is >= 0x80.
///
/// @return its length, or 0 when it is wrong
size_t json_utf8(const char *at, const char *end);
