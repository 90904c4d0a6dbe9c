/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Writes JSON (RFC 8259) into memory that the caller gives: log lines, status pages. What does not
/// fit is left out, the text stays well-formed, and `is_cut` tells. Bytes that are no UTF-8 become
/// U+FFFD.

#include "base/slice.h"

enum { MOON_JSON_DEPTH = 16 };

struct moon_json {
    char *data;
    size_t len;
    size_t cap;
    size_t depth;
    char closers[MOON_JSON_DEPTH]; // '}' or ']' for each open level
    bool needs_comma;
    bool is_cut;
};

void moon_json_init(struct moon_json *json, char *into, size_t cap);

/// Opens an object, as a value inside an array or at the top.
void moon_json_object(struct moon_json *json);

/// Opens one as a member. `name` needs no escaping.
void moon_json_object_at(struct moon_json *json, const char *name);
void moon_json_array_at(struct moon_json *json, const char *name);
void moon_json_end(struct moon_json *json);

/// Members; `name` NULL writes an element of an array.
void moon_json_text(struct moon_json *json, const char *name, struct moon_slice value);
void moon_json_number(struct moon_json *json, const char *name, int64_t value);
void moon_json_real(struct moon_json *json, const char *name, double value);
void moon_json_bool(struct moon_json *json, const char *name, bool value);
void moon_json_null(struct moon_json *json, const char *name);

/// A member whose value is JSON already.
void moon_json_raw(struct moon_json *json, const char *name, struct moon_slice value);

static inline size_t moon_json_len(const struct moon_json *json)
{
    return json->len;
}
