/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonschema/decimal.h"
#include "jsonschema/set.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 1024 // schemas within schemas, values within values
#define STEPS_MAX 2000000
#define SMALL 32

struct at {
    const struct at *parent;
    const struct jsc_node *key; // NULL: an item
    uint32_t number;
};

struct run {
    const struct jsc_set *set;
    struct jsc_report *report;
    int64_t steps; // left; a check takes one, and one for each child or schema that it goes through
    unsigned quiet; // > 0: mistakes are not told
    unsigned depth;
    bool is_aborted; // a bound was met: nothing is valid any more
    bool is_dynamic;
    uint32_t scope_count;
    uint32_t scope[DEPTH_MAX + 1]; // resources entered, outermost first
};

// What was evaluated of one value's children: a byte each.
struct marks {
    uint8_t *seen;
    uint8_t small[SMALL];
};

static bool judge(struct run *r, const struct jsc_schema *s, const struct jsc_node *n,
                  const struct at *at, uint8_t *seen);

// Whether the value fits. `seen` gets what of its children was evaluated; NULL where nobody asks.
static inline bool run_schema(struct run *r, const struct jsc_schema *s, const struct jsc_node *n,
                              const struct at *at, uint8_t *seen)
{
    // Most values: of one type, and nothing else is asked.
    return (s->at_once >> n->type & 1) != 0 || judge(r, s, n, at, seen);
}

static void put_path(const struct at *at, char *out, size_t room)
{
    const struct at *way[64];
    unsigned count = 0;
    for (; at != NULL && at->parent != NULL && count < 64; at = at->parent) {
        way[count++] = at;
    }
    size_t used = 0;
    out[0] = '\0';
    while (count-- > 0 && used + 2 < room) {
        int n;
        if (way[count]->key != NULL) {
            struct moon_slice name = way[count]->key->text;
            n = snprintf(out + used, room - used, "/%.*s", name.len < 100 ? (int)name.len : 100,
                         name.data);
        } else {
            n = snprintf(out + used, room - used, "/%u", way[count]->number);
        }
        used += n > 0 ? (size_t)n : 0;
    }
}

static MOON_COLD MOON_PRINTF(4, 5) bool mistake(struct run *r, const struct at *at,
                                                const char *keyword, const char *fmt, ...)
{
    if (r->quiet > 0 || r->report->count >= r->report->max) {
        return false;
    }
    struct jsc_mistake *m = &r->report->mistakes[r->report->count++];
    m->keyword = keyword;
    put_path(at, m->path, sizeof m->path);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(m->message, sizeof m->message, fmt, args);
    va_end(args);
    return false;
}

static MOON_COLD bool abort_run(struct run *r, const struct at *at, const char *message)
{
    if (!r->is_aborted) {
        r->is_aborted = true;
        r->quiet = 0;
        if (r->report->count == r->report->max && r->report->max > 0) {
            r->report->count--;
        }
        (void)mistake(r, at, "limit", "%s", message);
    }
    return false;
}

static bool begin_marks(struct run *r, struct marks *m, uint32_t count, const struct at *at)
{
    m->seen = count <= SMALL ? m->small : malloc(count);
    if (m->seen == NULL) {
        return abort_run(r, at, "no memory is left");
    }
    memset(m->seen, 0, count);
    return true;
}

static void end_marks(struct marks *m, uint8_t *into, uint32_t count, bool is_valid)
{
    for (uint32_t i = 0; is_valid && into != NULL && i < count; i++) {
        into[i] |= m->seen[i];
    }
    if (m->seen != m->small) {
        free(m->seen);
    }
}

// A schema whose marks count only when it accepts.
static bool run_branch(struct run *r, const struct jsc_schema *s, const struct jsc_node *n,
                       const struct at *at, uint8_t *seen)
{
    if (seen == NULL) {
        return run_schema(r, s, n, at, NULL);
    }
    struct marks marks;
    uint32_t count = n->count;
    if (!begin_marks(r, &marks, count, at)) {
        return false;
    }
    bool is_valid = run_schema(r, s, n, at, marks.seen);
    end_marks(&marks, seen, count, is_valid);
    return is_valid;
}

static const char *type_name(enum jsc_type type)
{
    static const char *const NAMES[] = {"null",   "boolean", "boolean", "number",
                                        "string", "array",   "object",  "key"};
    return NAMES[type];
}

static MOON_COLD bool wrong_type(struct run *r, const struct jsc_schema *s,
                                 const struct jsc_node *n, const struct at *at)
{
    if (r->is_aborted) {
        return false;
    }
    if (s->is_false) {
        return mistake(r, at, "false", "is not allowed here");
    }
    char wanted[96] = "";
    static const enum jsc_type ORDER[] = {JSC_NULL,   JSC_FALSE, JSC_NUMBER,
                                          JSC_STRING, JSC_ARRAY, JSC_OBJECT};
    for (size_t i = 0; i < sizeof ORDER / sizeof *ORDER; i++) {
        if ((s->types & 1U << ORDER[i]) != 0) {
            size_t used = strlen(wanted);
            (void)snprintf(wanted + used, sizeof wanted - used, "%s%s", used > 0 ? " or " : "",
                           type_name(ORDER[i]));
        }
    }
    if ((s->types & JSC_INTEGER_BIT) != 0) {
        size_t used = strlen(wanted);
        (void)snprintf(wanted + used, sizeof wanted - used, "%sinteger", used > 0 ? " or " : "");
    }
    return mistake(r, at, "type", "expected %s, got %s", wanted, type_name(n->type));
}

static bool check_enum(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                       const struct at *at)
{
    const struct jsc_node *end = c->value + c->value->span;
    for (const struct jsc_node *i = c->value + 1; i < end; i += i->span) {
        if (jsc_equal(i, n, &r->steps)) {
            return true;
        }
    }
    return mistake(r, at, c->keyword, "is none of the values allowed");
}

static MOON_NOINLINE bool check_number(struct run *r, const struct jsc_check *c,
                                       const struct jsc_node *n, const struct at *at)
{
    const struct jsc_node *bound = c->value;
    int width = bound->text.len < 40 ? (int)bound->text.len : 40;
    if (c->op == JSC_OP_MULTIPLE_OF) {
        return jsc_decimal_is_multiple(n, bound) ||
               mistake(r, at, c->keyword, "is no multiple of %.*s", width, bound->text.data);
    }
    int order = jsc_decimal_compare(n, bound);
    switch (c->op) {
    case JSC_OP_MAXIMUM:
        return order <= 0 || mistake(r, at, c->keyword, "is above %.*s", width, bound->text.data);
    case JSC_OP_EXCLUSIVE_MAXIMUM:
        return order < 0 ||
               mistake(r, at, c->keyword, "is not below %.*s", width, bound->text.data);
    case JSC_OP_MINIMUM:
        return order >= 0 || mistake(r, at, c->keyword, "is below %.*s", width, bound->text.data);
    default:
        return order > 0 ||
               mistake(r, at, c->keyword, "is not above %.*s", width, bound->text.data);
    }
}

static uint64_t characters(struct moon_slice text)
{
    uint64_t count = 0;
    for (size_t i = 0; i < text.len; i++) {
        count += ((unsigned char)text.data[i] & 0xC0) != 0x80;
    }
    return count;
}

static bool check_limit(struct run *r, const struct jsc_check *c, uint64_t count, bool is_max,
                        const char *what, const struct at *at)
{
    if (is_max ? count <= c->limit : count >= c->limit) {
        return true;
    }
    return mistake(r, at, c->keyword, "has %s %llu %s", is_max ? "more than" : "fewer than",
                   (unsigned long long)c->limit, what);
}

static bool check_pattern(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                          const struct at *at)
{
    switch (jsc_pattern_match(c->pattern, n->text)) {
    case JSC_MATCH_YES:
        return true;
    case JSC_MATCH_LIMIT:
        return abort_run(r, at, "a pattern took too long");
    case JSC_MATCH_NO:
        break;
    }
    return mistake(r, at, c->keyword, "does not have the form wanted");
}

// Objects of a kind have their members in one order, mostly that of the schema: `expected` is looked at
// before the table. NULL: nothing is said of the name.
static inline const struct jsc_property *find_property(const struct jsc_members *m,
                                                       const struct jsc_node *key,
                                                       const struct jsc_property *expected)
{
    if (expected != NULL && expected->hash == key->hash && jsc_same(expected->name, key->text)) {
        return expected;
    }
    for (uint32_t i = key->hash & m->mask; m->table[i].is_used; i = (i + 1) & m->mask) {
        if (m->table[i].hash == key->hash && jsc_same(m->table[i].name, key->text)) {
            return &m->table[i];
        }
    }
    return NULL;
}

static MOON_COLD bool name_missing(struct run *r, const struct jsc_members *m,
                                   const struct jsc_node *n, const struct at *at)
{
    for (uint32_t i = 0; i <= m->mask; i++) {
        const struct jsc_property *p = &m->table[i];
        if (p->is_required && jsc_find(n, p->name) == NULL) {
            (void)mistake(r, at, "required", "lacks \"%.*s\"",
                          p->name.len < 100 ? (int)p->name.len : 100, p->name.data);
        }
    }
    return false;
}

// What of a member `properties` does not say.
static bool check_more(struct run *r, const struct jsc_members *m, const struct jsc_node *key,
                       const struct at *here, uint8_t *mark, bool is_named)
{
    bool is_valid = true;
    for (uint32_t i = 0; i < m->pattern_count; i++) {
        enum jsc_match match = jsc_pattern_match(m->patterns[i], key->text);
        if (match == JSC_MATCH_LIMIT) {
            return abort_run(r, here, "a pattern took too long");
        }
        if (match == JSC_MATCH_YES) {
            is_named = true;
            is_valid = run_schema(r, m->pattern_schemas[i], key + 1, here, NULL) && is_valid;
        }
    }
    if (!is_named && m->additional != NULL) {
        is_named = true;
        if (m->additional->is_false) {
            is_valid = mistake(r, here, "additionalProperties", "is not allowed here");
        } else {
            is_valid = run_schema(r, m->additional, key + 1, here, NULL) && is_valid;
        }
    }
    if (mark != NULL) {
        *mark |= is_named;
    }
    return is_valid;
}

static bool check_members(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                          const struct at *at, uint8_t *seen)
{
    const struct jsc_members *m = c->members;
    const struct jsc_property *expected = m->first;
    const struct jsc_node *end = n + n->span;
    struct at here = {at, NULL, 0};
    uint32_t found = 0, number = 0;
    bool is_valid = true, has_more = m->pattern_count > 0 || seen != NULL;
    r->steps -= n->count;
    for (const struct jsc_node *key = n + 1; key < end; key += key->span, number++) {
        const struct jsc_property *p = find_property(m, key, expected);
        bool is_named = false, fits = true;
        here.key = key;
        if (p != NULL) {
            found += p->is_required;
            is_named = p->is_named;
        }
        if (is_named) {
            expected = p->next;
            fits = run_schema(r, p->schema, key + 1, &here, NULL);
        }
        if (!is_named || has_more) {
            uint8_t *mark = seen != NULL ? &seen[number] : NULL;
            fits = check_more(r, m, key, &here, mark, is_named) && fits;
        }
        if (!fits) {
            is_valid = false;
            if (r->quiet > 0 || r->is_aborted) {
                return false;
            }
        }
    }
    return found == m->required_count ? is_valid : name_missing(r, m, n, at);
}

static bool check_names(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                        const struct at *at)
{
    bool is_valid = true;
    r->steps -= n->count;
    for (const struct jsc_node *i = n + 1; i < n + n->span; i += i->span) {
        struct at here = {at, i, 0};
        struct jsc_node name = {.text = i->text, .span = 1, .type = JSC_STRING};
        is_valid = run_schema(r, c->ref.schema, &name, &here, NULL) && is_valid;
    }
    return is_valid;
}

static bool check_dependency(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                             const struct at *at, uint8_t *seen)
{
    if (jsc_find(n, c->dependency.name) == NULL) {
        return true;
    }
    if (c->dependency.schema != NULL) {
        return run_schema(r, c->dependency.schema, n, at, seen);
    }
    for (uint32_t i = 0; i < c->dependency.count; i++) {
        struct moon_slice name = c->dependency.required[i];
        if (jsc_find(n, name) == NULL) {
            return mistake(r, at, c->keyword, "lacks \"%.*s\"",
                           name.len < 100 ? (int)name.len : 100, name.data);
        }
    }
    return true;
}

static bool check_items(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                        const struct at *at, uint8_t *seen)
{
    uint32_t number = 0;
    bool is_valid = true;
    r->steps -= n->count;
    for (const struct jsc_node *i = n + 1; i < n + n->span; i += i->span, number++) {
        struct at here = {at, NULL, number};
        const struct jsc_schema *s =
            number < c->items.prefix_count ? c->items.prefix[number] : c->items.rest;
        if (s == NULL) {
            break;
        }
        is_valid = run_schema(r, s, i, &here, NULL) && is_valid;
        if (seen != NULL) {
            seen[number] = 1;
        }
        if (!is_valid && (r->quiet > 0 || r->is_aborted)) {
            return false;
        }
    }
    return is_valid;
}

static bool check_contains(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                           const struct at *at, uint8_t *seen)
{
    uint64_t found = 0;
    uint32_t number = 0;
    r->quiet++;
    r->steps -= n->count;
    for (const struct jsc_node *i = n + 1; i < n + n->span; i += i->span, number++) {
        struct at here = {at, NULL, number};
        if (run_schema(r, c->contains.schema, i, &here, NULL)) {
            found++;
            if (seen != NULL && c->contains.marks) {
                seen[number] = 1;
            }
        }
    }
    r->quiet -= r->quiet > 0;
    if (found < c->contains.min) {
        return mistake(r, at, c->keyword, "contains too few of the items wanted");
    }
    return found <= c->contains.max ||
           mistake(r, at, c->keyword, "contains too many of the items wanted");
}

struct hashed {
    uint64_t hash;
    const struct jsc_node *value;
};

static int by_value_hash(const void *a, const void *b)
{
    uint64_t x = ((const struct hashed *)a)->hash, y = ((const struct hashed *)b)->hash;
    return x < y ? -1 : x > y;
}

static bool check_unique(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                         const struct at *at)
{
    uint32_t count = n->count, used = 0;
    if (count < 2) {
        return true;
    }
    struct hashed small[SMALL];
    struct hashed *items = count <= SMALL ? small : malloc(count * sizeof *items);
    if (items == NULL) {
        return abort_run(r, at, "no memory is left");
    }
    r->steps -= count;
    for (const struct jsc_node *i = n + 1; i < n + n->span; i += i->span) {
        items[used++] = (struct hashed){jsc_value_hash(i), i};
    }
    qsort(items, count, sizeof *items, by_value_hash);
    bool is_valid = true;
    for (uint32_t i = 1, first = 0; is_valid && i < count && r->steps > 0; i++) {
        first = items[i].hash == items[i - 1].hash ? first : i;
        for (uint32_t j = first; is_valid && j < i && r->steps > 0; j++) {
            is_valid = !jsc_equal(items[j].value, items[i].value, &r->steps);
        }
    }
    if (items != small) {
        free(items);
    }
    return is_valid || mistake(r, at, c->keyword, "has an item twice");
}

static bool check_any(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                      const struct at *at, uint8_t *seen)
{
    bool is_valid = false;
    r->steps -= c->schemas.count;
    r->quiet++;
    for (uint32_t i = 0; i < c->schemas.count && (!is_valid || seen != NULL); i++) {
        is_valid = run_branch(r, c->schemas.list[i], n, at, seen) || is_valid;
    }
    r->quiet -= r->quiet > 0;
    return is_valid ||
           mistake(r, at, c->keyword, "fits none of the %u schemas allowed", c->schemas.count);
}

static bool check_one(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                      const struct at *at, uint8_t *seen)
{
    unsigned valid = 0;
    r->steps -= c->schemas.count;
    r->quiet++;
    for (uint32_t i = 0; i < c->schemas.count && valid < 2; i++) {
        valid += run_branch(r, c->schemas.list[i], n, at, seen);
    }
    r->quiet -= r->quiet > 0;
    if (valid == 0) {
        return mistake(r, at, c->keyword, "fits none of the %u schemas allowed", c->schemas.count);
    }
    return valid == 1 || mistake(r, at, c->keyword, "fits more than one of the schemas allowed");
}

static bool check_all(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                      const struct at *at, uint8_t *seen)
{
    bool is_valid = true;
    r->steps -= c->schemas.count;
    for (uint32_t i = 0; i < c->schemas.count; i++) {
        is_valid = run_schema(r, c->schemas.list[i], n, at, seen) && is_valid;
        if (!is_valid && r->quiet > 0) {
            return false;
        }
    }
    return is_valid;
}

static bool check_branches(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                           const struct at *at, uint8_t *seen)
{
    r->quiet++;
    bool is_met = run_branch(r, c->branch.test, n, at, seen);
    r->quiet -= r->quiet > 0;
    const struct jsc_schema *s = is_met ? c->branch.yes : c->branch.no;
    return s == NULL || run_schema(r, s, n, at, seen);
}

// The outermost resource in scope that has the anchor, for this direction.
static const struct jsc_schema *find_dynamic(const struct run *r, const struct jsc_check *c)
{
    for (uint32_t i = 0; i < r->scope_count; i++) {
        for (uint32_t j = 0; j < r->set->dynamic_count; j++) {
            const struct jsc_dynamic *d = &r->set->dynamics[j];
            if (d->anchor == c->ref.anchor && d->resource == r->scope[i] &&
                d->direction == c->ref.schema->direction) {
                return d->schema;
            }
        }
    }
    return c->ref.schema;
}

static bool check_unevaluated(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                              const struct at *at, uint8_t *seen)
{
    uint32_t number = 0;
    bool is_valid = true;
    r->steps -= n->count;
    for (const struct jsc_node *i = n + 1; i < n + n->span; i += i->span, number++) {
        bool is_member = i->type == JSC_KEY;
        // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): clang 14 does not follow how it is set
        if (seen[number] != 0) {
            continue;
        }
        seen[number] = 1;
        struct at here = {at, is_member ? i : NULL, number};
        if (c->ref.schema->is_false) {
            is_valid = mistake(r, &here, c->keyword, "is not allowed here");
        } else {
            is_valid = run_schema(r, c->ref.schema, is_member ? i + 1 : i, &here, NULL) && is_valid;
        }
    }
    return is_valid;
}

static bool check_not(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                      const struct at *at)
{
    r->quiet++;
    bool is_valid = run_schema(r, c->ref.schema, n, at, NULL);
    r->quiet -= r->quiet > 0;
    return !is_valid || mistake(r, at, c->keyword, "fits a schema that it must not fit");
}

static inline bool run_check(struct run *r, const struct jsc_check *c, const struct jsc_node *n,
                             const struct at *at, uint8_t *seen)
{
    bool is_string = n->type == JSC_STRING;
    bool is_array = n->type == JSC_ARRAY;
    bool is_object = n->type == JSC_OBJECT;
    switch (c->op) {
    case JSC_OP_CONST:
        return jsc_equal(c->value, n, &r->steps) ||
               mistake(r, at, c->keyword, "is not the value wanted");
    case JSC_OP_ENUM:
        return check_enum(r, c, n, at);
    case JSC_OP_MULTIPLE_OF:
        return n->type != JSC_NUMBER || check_number(r, c, n, at);
    case JSC_OP_MAXIMUM:
    case JSC_OP_EXCLUSIVE_MAXIMUM:
        return n->type != JSC_NUMBER || n->number < c->value->number || check_number(r, c, n, at);
    case JSC_OP_MINIMUM:
    case JSC_OP_EXCLUSIVE_MINIMUM:
        return n->type != JSC_NUMBER || n->number > c->value->number || check_number(r, c, n, at);
    case JSC_OP_MAX_LENGTH:
        return !is_string || n->text.len <= c->limit ||
               check_limit(r, c, characters(n->text), true, "characters", at);
    case JSC_OP_MIN_LENGTH:
        return !is_string || n->text.len / 4 >= c->limit || // no character has more bytes
               check_limit(r, c, characters(n->text), false, "characters", at);
    case JSC_OP_PATTERN:
        return !is_string || check_pattern(r, c, n, at);
    case JSC_OP_FORMAT:
        return !is_string || c->format.test(n->text) ||
               mistake(r, at, c->keyword, "is no %s", c->format.name);
    case JSC_OP_MAX_PROPERTIES:
        return !is_object || check_limit(r, c, n->count, true, "members", at);
    case JSC_OP_MIN_PROPERTIES:
        return !is_object || check_limit(r, c, n->count, false, "members", at);
    case JSC_OP_MEMBERS:
        return !is_object || check_members(r, c, n, at, seen);
    case JSC_OP_PROPERTY_NAMES:
        return !is_object || check_names(r, c, n, at);
    case JSC_OP_DEPENDENCY:
        return !is_object || check_dependency(r, c, n, at, seen);
    case JSC_OP_MAX_ITEMS:
        return !is_array || check_limit(r, c, n->count, true, "items", at);
    case JSC_OP_MIN_ITEMS:
        return !is_array || check_limit(r, c, n->count, false, "items", at);
    case JSC_OP_UNIQUE_ITEMS:
        return !is_array || check_unique(r, c, n, at);
    case JSC_OP_ITEMS:
        return !is_array || check_items(r, c, n, at, seen);
    case JSC_OP_CONTAINS:
        return !is_array || check_contains(r, c, n, at, seen);
    case JSC_OP_REF:
        return run_schema(r, c->ref.schema, n, at, seen);
    case JSC_OP_DYNAMIC_REF:
        return run_schema(r, find_dynamic(r, c), n, at, seen);
    case JSC_OP_ALL_OF:
        return check_all(r, c, n, at, seen);
    case JSC_OP_ANY_OF:
        return check_any(r, c, n, at, seen);
    case JSC_OP_ONE_OF:
        return check_one(r, c, n, at, seen);
    case JSC_OP_NOT:
        return check_not(r, c, n, at);
    case JSC_OP_IF:
        return check_branches(r, c, n, at, seen);
    case JSC_OP_UNEVALUATED_ITEMS:
        return !is_array || check_unevaluated(r, c, n, at, seen);
    case JSC_OP_UNEVALUATED_PROPERTIES:
        return !is_object || check_unevaluated(r, c, n, at, seen);
    }
    return false;
}

static inline bool run_checks(struct run *r, const struct jsc_schema *s, const struct jsc_node *n,
                              const struct at *at, uint8_t *seen)
{
    bool is_valid = true;
    for (uint32_t i = 0; i < s->check_count; i++) {
        if (!run_check(r, &s->checks[i], n, at, seen)) {
            is_valid = false;
            if (r->quiet > 0 || r->is_aborted) {
                return false;
            }
        }
    }
    return is_valid;
}

static MOON_NOINLINE bool run_tracked(struct run *r, const struct jsc_schema *s,
                                      const struct jsc_node *n, const struct at *at, uint8_t *seen)
{
    struct marks marks;
    uint32_t count = n->count;
    if (!begin_marks(r, &marks, count, at)) {
        return false;
    }
    bool is_valid = run_checks(r, s, n, at, marks.seen);
    end_marks(&marks, seen, count, is_valid);
    return is_valid;
}

static inline bool has_type(const struct jsc_schema *s, const struct jsc_node *n)
{
    return (s->types >> n->type & 1) != 0 ||
           (n->type == JSC_NUMBER && (s->types & JSC_INTEGER_BIT) != 0 &&
            (n->is_whole || jsc_decimal_is_integer(n, s->is_integer_lexical)));
}

static MOON_NOINLINE bool judge_whole(struct run *r, const struct jsc_schema *s,
                                      const struct jsc_node *n, const struct at *at, uint8_t *seen)
{
    if (!has_type(s, n)) {
        return wrong_type(r, s, n, at);
    }
    r->steps -= (int64_t)s->check_count + 1;
    if (r->is_aborted || r->steps <= 0) {
        return abort_run(r, at, "takes too many steps to judge");
    }
    if (r->depth >= DEPTH_MAX) {
        return abort_run(r, at, "nests schemas too deeply");
    }
    r->depth++;
    uint32_t scope_count = r->scope_count;
    if (r->is_dynamic && (scope_count == 0 || r->scope[scope_count - 1] != s->resource)) {
        r->scope[r->scope_count++] = s->resource;
    }
    bool is_valid = s->tracks ? run_tracked(r, s, n, at, seen) : run_checks(r, s, n, at, seen);
    r->scope_count = scope_count;
    r->depth--;
    return is_valid && !r->is_aborted;
}

// What most numbers need, without a frame; then the rest.
static bool judge(struct run *r, const struct jsc_schema *s, const struct jsc_node *n,
                  const struct at *at, uint8_t *seen)
{
    if (n->type == JSC_NUMBER && n->number > s->above && n->number < s->below &&
        (s->types & (n->is_whole ? 1U << JSC_NUMBER | JSC_INTEGER_BIT : 1U << JSC_NUMBER)) != 0) {
        return true;
    }
    return judge_whole(r, s, n, at, seen);
}

bool jsc_validate(const struct jsc_set *set, const struct jsc_schema *schema,
                  const struct jsc_node *value, struct jsc_report *report)
{
    struct run r;
    r.set = set;
    r.report = report;
    r.steps = STEPS_MAX;
    r.quiet = 0;
    r.depth = 0;
    r.is_aborted = false;
    r.is_dynamic = set->dynamic_name_count > 0;
    r.scope_count = 0;
    report->count = 0;
    struct at root = {NULL, NULL, 0};
    bool is_valid = run_schema(&r, schema, value, &root, NULL);
    if (r.steps <= 0) {
        (void)abort_run(&r, &root, "takes too many steps to judge");
    }
    report->steps = (uint64_t)(STEPS_MAX - (r.steps > 0 ? r.steps : 0));
    return is_valid && !r.is_aborted;
}
