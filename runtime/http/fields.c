/* SPDX-License-Identifier: Apache-2.0 */
#include "http/fields.h"

#include "http/chars.h"

enum {
    FIELDS_FIRST_CAP = 32, // a browser's head and what the gateway adds to it
    FIELD_SLOTS = 256,     // of the table of known names; about a quarter is taken
};

struct field_row {
    struct moon_slice name;
    const char *lower;
    unsigned flags;
};

static const struct field_row field_rows[MOON_FIELD_COUNT] = {
#define FIELD(id, text, bits) [MOON_FIELD_##id] = {MOON_S(text), NULL, bits},
#include "http/fields.def"
#undef FIELD
};

// The same names in lower case, end to end, each in a slot of its own.
static char field_lower[MOON_FIELD_COUNT][32];
static uint8_t field_slots[FIELD_SLOTS]; // open addressing by field_hash; 0 is empty

// Factors found by search: two of the known names share a slot with another, and of the names that
// browsers send and we do not know, one in twenty meets a taken slot.
static unsigned field_hash(const char *name, size_t len)
{
    unsigned first = (unsigned char)name[0] | 0x20U;
    unsigned middle = (unsigned char)name[len / 2] | 0x20U;
    unsigned last = (unsigned char)name[len - 1] | 0x20U;
    return (first * 45 + middle * 125 + last * 91 + (unsigned)len * 69) % FIELD_SLOTS;
}

__attribute__((constructor)) static void field_build_slots(void)
{
    for (unsigned id = 1; id < MOON_FIELD_COUNT; id++) {
        struct moon_slice name = field_rows[id].name;
        MOON_ASSERT(name.len < sizeof(field_lower[id]));
        for (size_t i = 0; i < name.len; i++) {
            field_lower[id][i] = moon_lower(name.data[i]);
        }
        unsigned slot = field_hash(name.data, name.len);
        while (field_slots[slot] != MOON_FIELD_OTHER) {
            slot = (slot + 1) % FIELD_SLOTS;
        }
        field_slots[slot] = (uint8_t)id;
    }
}

static uint64_t field_load8(const char *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

static uint32_t field_load4(const char *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

// A difference in case is bit 0x20 of a byte whose known form is a letter (bit 0x40): exact for
// the letters, digits and hyphens that known names are made of.
static bool field_same8(const char *a, const char *lower)
{
    uint64_t known = field_load8(lower);
    uint64_t may_differ = (known & UINT64_C(0x4040404040404040)) >> 1;
    return ((field_load8(a) ^ known) & ~may_differ) == 0;
}

static bool field_same4(const char *a, const char *lower)
{
    uint32_t known = field_load4(lower);
    uint32_t may_differ = (known & UINT32_C(0x40404040)) >> 1;
    return ((field_load4(a) ^ known) & ~may_differ) == 0;
}

// Both are `len` bytes long. Loads overlap instead of reading past the end.
static bool field_same(const char *a, const char *lower, size_t len)
{
    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            if (!field_same8(a + i, lower + i)) {
                return false;
            }
        }
        return field_same8(a + len - 8, lower + len - 8);
    }
    if (len >= 4) {
        return field_same4(a, lower) && field_same4(a + len - 4, lower + len - 4);
    }
    for (size_t i = 0; i < len; i++) {
        if (moon_lower(a[i]) != lower[i]) {
            return false;
        }
    }
    return true;
}

enum moon_field_id moon_field_id(struct moon_slice name)
{
    if (name.len == 0 || name.len >= sizeof(field_lower[0])) {
        return MOON_FIELD_OTHER;
    }
    unsigned slot = field_hash(name.data, name.len);
    while (field_slots[slot] != MOON_FIELD_OTHER) {
        unsigned id = field_slots[slot];
        if (field_rows[id].name.len == name.len &&
            field_same(name.data, field_lower[id], name.len)) {
            return (enum moon_field_id)id;
        }
        slot = (slot + 1) % FIELD_SLOTS;
    }
    return MOON_FIELD_OTHER;
}

struct moon_slice moon_field_name(enum moon_field_id id)
{
    return field_rows[id].name;
}

unsigned moon_field_flags(enum moon_field_id id)
{
    return field_rows[id].flags;
}

void moon_fields_init(struct moon_fields *fields, struct moon_arena *arena)
{
    *fields = (struct moon_fields){.arena = arena};
}

// Items and ids share one allocation. What was there before stays in the arena until its end.
bool moon_fields_grow(struct moon_fields *fields)
{
    size_t cap = fields->cap == 0 ? FIELDS_FIRST_CAP : fields->cap * 2;
    struct moon_field *items = moon_arena_alloc(fields->arena, cap * (sizeof(*items) + 1));
    if (items == NULL) {
        return false;
    }
    uint8_t *ids = (uint8_t *)(items + cap);
    if (fields->count > 0) {
        memcpy(items, fields->items, fields->count * sizeof(*items));
        memcpy(ids, fields->ids, fields->count);
    }
    fields->items = items;
    fields->ids = ids;
    fields->cap = cap;
    return true;
}

enum moon_rc moon_fields_add(struct moon_fields *fields, struct moon_slice name,
                             struct moon_slice value)
{
    return moon_fields_add_known(fields, moon_field_id(name), name, value);
}

enum moon_rc moon_fields_add_id(struct moon_fields *fields, enum moon_field_id id,
                                struct moon_slice value)
{
    MOON_ASSERT(id != MOON_FIELD_OTHER);
    return moon_fields_add_known(fields, id, field_rows[id].name, value);
}

// A name with its id looked up once, to be compared with many lines.
struct field_key {
    enum moon_field_id id;
    struct moon_slice name;
};

static bool field_matches(const struct moon_fields *fields, size_t i, const struct field_key *key)
{
    if (key->id != MOON_FIELD_OTHER) {
        return fields->ids[i] == key->id;
    }
    return fields->ids[i] == MOON_FIELD_OTHER &&
           moon_slice_is_nocase(fields->items[i].name, key->name);
}

// Takes out the matching lines at or after `from`.
static size_t fields_remove_from(struct moon_fields *fields, size_t from,
                                 const struct field_key *key)
{
    size_t kept = from;
    for (size_t i = from; i < fields->count; i++) {
        if (field_matches(fields, i, key)) {
            continue;
        }
        if (kept != i) {
            fields->items[kept] = fields->items[i];
            fields->ids[kept] = fields->ids[i];
        }
        kept++;
    }
    size_t removed = fields->count - kept;
    fields->count = kept;
    return removed;
}

enum moon_rc moon_fields_set(struct moon_fields *fields, struct moon_slice name,
                             struct moon_slice value)
{
    return moon_fields_set_known(fields, moon_field_id(name), name, value);
}

enum moon_rc moon_fields_set_known(struct moon_fields *fields, enum moon_field_id id,
                                   struct moon_slice name, struct moon_slice value)
{
    struct field_key key = {id, name};
    for (size_t i = 0; i < fields->count; i++) {
        if (!field_matches(fields, i, &key)) {
            continue;
        }
        fields->items[i].name = name;
        fields->items[i].value = value;
        fields_remove_from(fields, i + 1, &key);
        return MOON_OK;
    }
    return moon_fields_add_known(fields, key.id, name, value);
}

size_t moon_fields_remove(struct moon_fields *fields, struct moon_slice name)
{
    return moon_fields_remove_known(fields, moon_field_id(name), name);
}

size_t moon_fields_remove_known(struct moon_fields *fields, enum moon_field_id id,
                                struct moon_slice name)
{
    struct field_key key = {id, name};
    return fields_remove_from(fields, 0, &key);
}

size_t moon_fields_remove_id(struct moon_fields *fields, enum moon_field_id id)
{
    MOON_ASSERT(id != MOON_FIELD_OTHER);
    struct field_key key = {id, field_rows[id].name};
    return fields_remove_from(fields, 0, &key);
}

const struct moon_field *moon_fields_find(const struct moon_fields *fields, struct moon_slice name)
{
    size_t at = 0;
    return moon_fields_next(fields, name, &at);
}

const struct moon_field *moon_fields_find_id(const struct moon_fields *fields,
                                             enum moon_field_id id)
{
    const uint8_t *found = fields->count == 0 ? NULL : memchr(fields->ids, (int)id, fields->count);
    return found == NULL ? NULL : &fields->items[found - fields->ids];
}

static const struct moon_field *fields_next(const struct moon_fields *fields,
                                            const struct field_key *key, size_t *at)
{
    for (size_t i = *at; i < fields->count; i++) {
        if (field_matches(fields, i, key)) {
            *at = i + 1;
            return &fields->items[i];
        }
    }
    *at = fields->count;
    return NULL;
}

const struct moon_field *moon_fields_next(const struct moon_fields *fields, struct moon_slice name,
                                          size_t *at)
{
    struct field_key key = {moon_field_id(name), name};
    return fields_next(fields, &key, at);
}

static char *fields_join_into(const struct moon_fields *fields, const struct field_key *key,
                              char *into)
{
    size_t at = 0;
    const struct moon_field *field;
    bool is_first = true;
    while ((field = fields_next(fields, key, &at)) != NULL) {
        if (!is_first) {
            *into++ = ',';
            *into++ = ' ';
        }
        if (field->value.len > 0) {
            memcpy(into, field->value.data, field->value.len);
        }
        into += field->value.len;
        is_first = false;
    }
    return into;
}

struct moon_slice moon_fields_joined(const struct moon_fields *fields, struct moon_slice name)
{
    struct field_key key = {moon_field_id(name), name};
    size_t at = 0, lines = 0, total = 0;
    const struct moon_field *field, *last = NULL;
    while ((field = fields_next(fields, &key, &at)) != NULL) {
        last = field;
        total += field->value.len + 2;
        lines++;
    }
    if (lines == 0) {
        return moon_slice(NULL, 0);
    }
    if (lines == 1) {
        return last->value.data == NULL ? MOON_S("") : last->value;
    }
    char *joined = moon_arena_alloc(fields->arena, total);
    if (joined == NULL) {
        return moon_slice(NULL, 0);
    }
    return moon_slice(joined, (size_t)(fields_join_into(fields, &key, joined) - joined));
}

bool moon_field_name_is_valid(struct moon_slice name)
{
    return name.len > 0 &&
           moon_find_no_token(name.data, name.data + name.len) == name.data + name.len;
}

bool moon_field_value_is_valid(struct moon_slice value)
{
    if (value.len == 0) {
        return true;
    }
    char first = value.data[0], last = value.data[value.len - 1];
    if (first == ' ' || first == '\t' || last == ' ' || last == '\t') {
        return false;
    }
    return moon_find_control(value.data, value.data + value.len) == value.data + value.len;
}
