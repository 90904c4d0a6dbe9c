/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Header and trailer fields of one message: an array in arrival order, each with the id of its
/// name where the name is a known one, so that the runtime compares numbers and not strings.

#include "base/arena.h"
#include "base/result.h"
#include "base/slice.h"

enum moon_field_id {
    MOON_FIELD_OTHER,
#define FIELD(id, name, flags) MOON_FIELD_##id,
#include "http/fields.def"
#undef FIELD
    MOON_FIELD_COUNT
};

enum moon_field_flags {
    MOON_FIELD_HOP = 1,        // hop-by-hop (RFC 9110 §7.6.1): never forwarded
    MOON_FIELD_SINGLE = 2,     // several lines may not be joined by a comma
    MOON_FIELD_NO_TRAILER = 4, // not allowed in trailers (RFC 9110 §6.5.1)
    MOON_FIELD_SECRET = 8,     // redacted in logs and traces
};

struct moon_fields {
    struct moon_arena *arena; // names, values and the arrays live there
    struct moon_field *items;
    uint8_t *ids; // enum moon_field_id of items[i]
    size_t count;
    size_t cap;
};

void moon_fields_init(struct moon_fields *fields, struct moon_arena *arena);

/// @return the id of a name, MOON_FIELD_OTHER when it is not in fields.def
enum moon_field_id moon_field_id(struct moon_slice name);
struct moon_slice moon_field_name(enum moon_field_id id);
unsigned moon_field_flags(enum moon_field_id id);

/// Adds at the end; the slices are borrowed for as long as the arena lives.
MUST_CHECK enum moon_rc moon_fields_add(struct moon_fields *fields, struct moon_slice name,
                                        struct moon_slice value);

/// Makes room for more fields. @return false when the arena is full
MUST_CHECK bool moon_fields_grow(struct moon_fields *fields);

/// Like moon_fields_add, with the id known already (MOON_FIELD_OTHER where it is none).
static inline MUST_CHECK enum moon_rc moon_fields_add_known(struct moon_fields *fields,
                                                            enum moon_field_id id,
                                                            struct moon_slice name,
                                                            struct moon_slice value)
{
    if (MOON_UNLIKELY(fields->count == fields->cap) && !moon_fields_grow(fields)) {
        return MOON_ERR_MEMORY;
    }
    fields->items[fields->count].name = name;
    fields->items[fields->count].value = value;
    fields->ids[fields->count] = (uint8_t)id;
    fields->count++;
    return MOON_OK;
}

MUST_CHECK enum moon_rc moon_fields_add_id(struct moon_fields *fields, enum moon_field_id id,
                                           struct moon_slice value);

/// Replaces all lines of that name by one (at the first one's place), or adds it.
MUST_CHECK enum moon_rc moon_fields_set(struct moon_fields *fields, struct moon_slice name,
                                        struct moon_slice value);
MUST_CHECK enum moon_rc moon_fields_set_known(struct moon_fields *fields, enum moon_field_id id,
                                              struct moon_slice name, struct moon_slice value);

/// @return how many lines were taken out
size_t moon_fields_remove(struct moon_fields *fields, struct moon_slice name);
size_t moon_fields_remove_known(struct moon_fields *fields, enum moon_field_id id,
                                struct moon_slice name);
size_t moon_fields_remove_id(struct moon_fields *fields, enum moon_field_id id);

/// First line of that name; NULL when there is none.
const struct moon_field *moon_fields_find(const struct moon_fields *fields, struct moon_slice name);
const struct moon_field *moon_fields_find_id(const struct moon_fields *fields,
                                             enum moon_field_id id);

/// Next line of that name at or after *at; *at is moved past it. NULL at the end.
const struct moon_field *moon_fields_next(const struct moon_fields *fields, struct moon_slice name,
                                          size_t *at);

/// All lines of that name joined by ", " (RFC 9110 §5.3); the one value itself where there is one.
/// Arena. An empty slice with NULL data when there is none.
struct moon_slice moon_fields_joined(const struct moon_fields *fields, struct moon_slice name);

/// True for a token (RFC 9110 §5.6.2).
bool moon_field_name_is_valid(struct moon_slice name);

/// No CR, LF, NUL or other control but HTAB; no white space at the ends.
bool moon_field_value_is_valid(struct moon_slice value);
