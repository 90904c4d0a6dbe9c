/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonschema/set.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHECKS_MAX 64

// KEYWORD(id, text)
#define KEYWORDS                                                                                   \
    KEYWORD(REF, "$ref")                                                                           \
    KEYWORD(DYNAMIC_REF, "$dynamicRef")                                                            \
    KEYWORD(RECURSIVE_REF, "$recursiveRef")                                                        \
    KEYWORD(TYPE, "type")                                                                          \
    KEYWORD(NULLABLE, "nullable")                                                                  \
    KEYWORD(CONST, "const")                                                                        \
    KEYWORD(ENUM, "enum")                                                                          \
    KEYWORD(MULTIPLE_OF, "multipleOf")                                                             \
    KEYWORD(MAXIMUM, "maximum")                                                                    \
    KEYWORD(EXCLUSIVE_MAXIMUM, "exclusiveMaximum")                                                 \
    KEYWORD(MINIMUM, "minimum")                                                                    \
    KEYWORD(EXCLUSIVE_MINIMUM, "exclusiveMinimum")                                                 \
    KEYWORD(MAX_LENGTH, "maxLength")                                                               \
    KEYWORD(MIN_LENGTH, "minLength")                                                               \
    KEYWORD(PATTERN, "pattern")                                                                    \
    KEYWORD(FORMAT, "format")                                                                      \
    KEYWORD(MAX_PROPERTIES, "maxProperties")                                                       \
    KEYWORD(MIN_PROPERTIES, "minProperties")                                                       \
    KEYWORD(REQUIRED, "required")                                                                  \
    KEYWORD(PROPERTIES, "properties")                                                              \
    KEYWORD(PATTERN_PROPERTIES, "patternProperties")                                               \
    KEYWORD(ADDITIONAL_PROPERTIES, "additionalProperties")                                         \
    KEYWORD(PROPERTY_NAMES, "propertyNames")                                                       \
    KEYWORD(DEPENDENCIES, "dependencies")                                                          \
    KEYWORD(DEPENDENT_REQUIRED, "dependentRequired")                                               \
    KEYWORD(DEPENDENT_SCHEMAS, "dependentSchemas")                                                 \
    KEYWORD(MAX_ITEMS, "maxItems")                                                                 \
    KEYWORD(MIN_ITEMS, "minItems")                                                                 \
    KEYWORD(UNIQUE_ITEMS, "uniqueItems")                                                           \
    KEYWORD(PREFIX_ITEMS, "prefixItems")                                                           \
    KEYWORD(ITEMS, "items")                                                                        \
    KEYWORD(ADDITIONAL_ITEMS, "additionalItems")                                                   \
    KEYWORD(CONTAINS, "contains")                                                                  \
    KEYWORD(MAX_CONTAINS, "maxContains")                                                           \
    KEYWORD(MIN_CONTAINS, "minContains")                                                           \
    KEYWORD(ALL_OF, "allOf")                                                                       \
    KEYWORD(ANY_OF, "anyOf")                                                                       \
    KEYWORD(ONE_OF, "oneOf")                                                                       \
    KEYWORD(NOT, "not")                                                                            \
    KEYWORD(IF, "if")                                                                              \
    KEYWORD(THEN, "then")                                                                          \
    KEYWORD(ELSE, "else")                                                                          \
    KEYWORD(UNEVALUATED_ITEMS, "unevaluatedItems")                                                 \
    KEYWORD(UNEVALUATED_PROPERTIES, "unevaluatedProperties")

enum keyword {
#define KEYWORD(id, text) K_##id,
    KEYWORDS
#undef KEYWORD
        K_COUNT
};

static const struct moon_slice NAMES[K_COUNT] = {
#define KEYWORD(id, text) {text, sizeof(text) - 1},
    KEYWORDS
#undef KEYWORD
};

struct compiler {
    struct jsc_set *set;
    struct jsc_schema *schema;
    const struct jsc_node *nodes;
    struct jsc_dialect dialect;
    uint32_t at[K_COUNT]; // index of the value; 0: absent
    struct jsc_check checks[CHECKS_MAX];
    uint32_t count;
    uint32_t dependency_count;
    bool has_failed;
};

static void find_keywords(struct compiler *c, uint32_t node)
{
    for (uint32_t i = node + 1; i < node + c->nodes[node].span; i += c->nodes[i].span) {
        for (unsigned k = 0; k < K_COUNT; k++) {
            if (jsc_same(NAMES[k], c->nodes[i].text)) {
                c->at[k] = i + 1;
                break;
            }
        }
    }
}

static void wrong(struct compiler *c, uint32_t node, const char *message)
{
    if (!c->has_failed) {
        (void)jsc_set_fail(c->set, c->schema->document, node, message);
    }
    c->has_failed = true;
}

static void *room(struct compiler *c, size_t count, size_t size)
{
    void *p = jsc_alloc(&c->set->memory, (count + 1) * size);
    if (p == NULL) {
        wrong(c, c->schema->node, "no memory is left");
    }
    return p;
}

static struct jsc_check *add(struct compiler *c, enum jsc_op op, enum keyword keyword)
{
    static struct jsc_check spare;
    if (c->count == CHECKS_MAX) {
        wrong(c, c->schema->node, "too many keywords");
        return &spare;
    }
    struct jsc_check *check = &c->checks[c->count++];
    *check = (struct jsc_check){.op = op, .keyword = NAMES[keyword].data};
    return check;
}

static const struct jsc_schema *sub(struct compiler *c, uint32_t node)
{
    enum jsc_type type = c->nodes[node].type;
    bool is_schema = type == JSC_OBJECT ||
                     ((type == JSC_TRUE || type == JSC_FALSE) && c->dialect.draft >= JSC_DRAFT_7);
    if (!is_schema) {
        wrong(c, node, "expected a schema");
        return NULL;
    }
    const struct jsc_schema *s = jsc_set_schema(c->set, c->schema->document, node,
                                                c->schema->resource, c->schema->direction);
    c->has_failed = c->has_failed || s == NULL;
    return s;
}

static uint32_t bit_of_type(struct compiler *c, uint32_t node)
{
    static const struct {
        const char *name;
        uint32_t bits;
    } TYPES[] = {{"null", 1U << JSC_NULL},     {"boolean", 1U << JSC_FALSE | 1U << JSC_TRUE},
                 {"number", 1U << JSC_NUMBER}, {"string", 1U << JSC_STRING},
                 {"array", 1U << JSC_ARRAY},   {"object", 1U << JSC_OBJECT},
                 {"integer", JSC_INTEGER_BIT}, {"file", 1U << JSC_STRING}};
    const struct jsc_node *n = &c->nodes[node];
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        if (n->type == JSC_STRING && strlen(TYPES[i].name) == n->text.len &&
            memcmp(TYPES[i].name, n->text.data, n->text.len) == 0) {
            return TYPES[i].bits;
        }
    }
    wrong(c, node, "expected null, boolean, number, integer, string, array or object");
    return 0;
}

static void compile_type(struct compiler *c)
{
    uint32_t at = c->at[K_TYPE], bits = 0;
    if (at == 0) {
        return;
    }
    if (c->nodes[at].type == JSC_ARRAY) {
        for (uint32_t i = at + 1; i < at + c->nodes[at].span; i += c->nodes[i].span) {
            bits |= bit_of_type(c, i);
        }
    } else {
        bits = bit_of_type(c, at);
    }
    uint32_t nullable = c->at[K_NULLABLE];
    if (nullable != 0 && c->dialect.draft == JSC_OPENAPI_30 &&
        c->nodes[nullable].type == JSC_TRUE) {
        bits |= 1U << JSC_NULL;
    }
    if ((bits & 1U << JSC_NUMBER) != 0) {
        bits &= ~JSC_INTEGER_BIT;
    }
    c->schema->types = bits;
}

static void compile_value(struct compiler *c, enum keyword k, enum jsc_op op)
{
    if (c->at[k] == 0) {
        return;
    }
    if (k == K_ENUM && c->nodes[c->at[k]].type != JSC_ARRAY) {
        wrong(c, c->at[k], "expected an array");
        return;
    }
    struct jsc_check *check = add(c, op, k);
    check->value = &c->nodes[c->at[k]];
}

static bool is_number(struct compiler *c, uint32_t at)
{
    if (c->nodes[at].type != JSC_NUMBER) {
        wrong(c, at, "expected a number");
        return false;
    }
    return true;
}

static void compile_number(struct compiler *c, enum keyword k, enum jsc_op op)
{
    if (c->at[k] != 0 && is_number(c, c->at[k])) {
        add(c, op, k)->value = &c->nodes[c->at[k]];
    }
}

static void compile_bound(struct compiler *c, enum keyword k, enum keyword strict, enum jsc_op op,
                          enum jsc_op strict_op)
{
    bool is_old = c->dialect.draft <= JSC_OPENAPI_30;
    if (c->set->is_definition && c->at[strict] != 0 && c->nodes[c->at[strict]].type <= JSC_TRUE) {
        is_old = true; // 3.0's form, common in definitions that call themselves 3.1
    }
    if (is_old && c->at[strict] != 0 && c->nodes[c->at[strict]].type == JSC_TRUE) {
        op = strict_op;
    }
    compile_number(c, k, op);
    if (!is_old) {
        compile_number(c, strict, strict_op);
    }
}

static uint64_t limit_at(struct compiler *c, uint32_t at)
{
    if (!is_number(c, at)) {
        return 0;
    }
    double value = c->nodes[at].number;
    if (!(value >= 0) || value != (double)(uint64_t)(value < 1e18 ? value : 0)) {
        if (!(value >= 1e18)) {
            wrong(c, at, "expected a whole number from 0 on");
            return 0;
        }
        return UINT64_MAX;
    }
    return (uint64_t)value;
}

static void compile_limit(struct compiler *c, enum keyword k, enum jsc_op op)
{
    if (c->at[k] != 0) {
        add(c, op, k)->limit = limit_at(c, c->at[k]);
    }
}

static const struct jsc_pattern *pattern_of(struct compiler *c, uint32_t at)
{
    char message[160], text[256];
    struct jsc_set *set = c->set;
    struct jsc_pattern *p = jsc_pattern_new(c->nodes[at].text, message, sizeof message);
    if (p == NULL) {
        size_t len = strlen(message);
        memcpy(text, "not a pattern: ", 15);
        memcpy(text + 15, message, len + 1);
        wrong(c, at, text);
        return NULL;
    }
    if (!jsc_grow((void **)&set->patterns, set->pattern_count, sizeof(struct jsc_pattern *))) {
        jsc_pattern_free(p);
        wrong(c, at, "no memory is left");
        return NULL;
    }
    set->patterns[set->pattern_count++] = p;
    return p;
}

static void compile_string(struct compiler *c)
{
    compile_limit(c, K_MAX_LENGTH, JSC_OP_MAX_LENGTH);
    compile_limit(c, K_MIN_LENGTH, JSC_OP_MIN_LENGTH);
    uint32_t at = c->at[K_PATTERN];
    if (at != 0 && c->nodes[at].type != JSC_STRING) {
        wrong(c, at, "expected a string");
    } else if (at != 0) {
        add(c, JSC_OP_PATTERN, K_PATTERN)->pattern = pattern_of(c, at);
    }
}

// A range of numbers is asserted by the checks that bounds have.
static void compile_range(struct compiler *c, const struct jsc_range *range)
{
    bool has_fractions = (c->schema->types & 1U << JSC_NUMBER) != 0;
    add(c, JSC_OP_MINIMUM, K_FORMAT)->value = &range->least;
    add(c, JSC_OP_MAXIMUM, K_FORMAT)->value = &range->most;
    if (range->step != NULL && has_fractions) {
        add(c, JSC_OP_MULTIPLE_OF, K_FORMAT)->value = range->step;
    }
}

static void compile_format(struct compiler *c)
{
    uint32_t at = c->at[K_FORMAT];
    bool is_asserted = c->set->asserts_formats || c->dialect.asserts_formats;
    if (at == 0 || !is_asserted || c->nodes[at].type != JSC_STRING) {
        return;
    }
    const char *name;
    jsc_format_fn test = jsc_format_find(c->nodes[at].text, &name);
    if (test != NULL) {
        struct jsc_check *check = add(c, JSC_OP_FORMAT, K_FORMAT);
        check->format.test = test;
        check->format.name = name;
        return;
    }
    const struct jsc_range *range = jsc_format_range(c->nodes[at].text);
    if (range != NULL) {
        compile_range(c, range);
    }
}

static struct jsc_property *slot_for(struct jsc_members *m, struct moon_slice name, uint32_t hash)
{
    uint32_t i = hash & m->mask;
    while (m->table[i].is_used && (m->table[i].hash != hash || !jsc_same(m->table[i].name, name))) {
        i = (i + 1) & m->mask;
    }
    m->table[i].name = name;
    m->table[i].hash = hash;
    m->table[i].is_used = true;
    return &m->table[i];
}

static bool expect_type(struct compiler *c, uint32_t at, enum jsc_type type, const char *message)
{
    if (at != 0 && c->nodes[at].type != type) {
        wrong(c, at, message);
        return false;
    }
    return at != 0;
}

// In a request what is readOnly may be left out, in a response what is writeOnly.
static bool is_excused(const struct compiler *c, struct moon_slice name)
{
    uint32_t properties = c->at[K_PROPERTIES];
    if (c->schema->direction == JSC_ANY || properties == 0) {
        return false;
    }
    uint32_t property = jsc_member(c->nodes, properties, name);
    struct moon_slice mark = c->schema->direction == JSC_REQUEST
                                 ? (struct moon_slice){"readOnly", 8}
                                 : (struct moon_slice){"writeOnly", 9};
    uint32_t value = property == 0 ? 0 : jsc_member(c->nodes, property, mark);
    return value != 0 && c->nodes[value].type == JSC_TRUE;
}

static void compile_patterns(struct compiler *c, struct jsc_members *m)
{
    uint32_t at = c->at[K_PATTERN_PROPERTIES], count = 0;
    m->patterns = room(c, c->nodes[at].count, sizeof *m->patterns);
    m->pattern_schemas = room(c, c->nodes[at].count, sizeof *m->pattern_schemas);
    for (uint32_t i = at + 1; i < at + c->nodes[at].span && !c->has_failed; i += c->nodes[i].span) {
        m->patterns[count] = pattern_of(c, i);
        m->pattern_schemas[count++] = sub(c, i + 1);
    }
    m->pattern_count = count;
}

static void compile_members(struct compiler *c)
{
    uint32_t properties = c->at[K_PROPERTIES], required = c->at[K_REQUIRED];
    uint32_t patterns = c->at[K_PATTERN_PROPERTIES], more = c->at[K_ADDITIONAL_PROPERTIES];
    if (required != 0 && (!c->dialect.has_validation || c->nodes[required].type == JSC_TRUE ||
                          c->nodes[required].type == JSC_FALSE)) {
        required = 0; // draft 3's form, still met in definitions, says nothing here
    }
    if (properties == 0 && required == 0 && patterns == 0 && more == 0) {
        return;
    }
    bool has_properties = expect_type(c, properties, JSC_OBJECT, "expected an object");
    bool has_required = expect_type(c, required, JSC_ARRAY, "expected an array");
    bool has_patterns = expect_type(c, patterns, JSC_OBJECT, "expected an object");
    uint32_t names = (has_properties ? c->nodes[properties].count : 0) +
                     (has_required ? c->nodes[required].count : 0);
    uint32_t size = 4;
    while (size < names * 2) {
        size *= 2;
    }
    struct jsc_members *m = room(c, 1, sizeof *m);
    struct jsc_property *table = room(c, size, sizeof *table);
    if (c->has_failed) {
        return;
    }
    m->table = table;
    m->mask = size - 1;
    struct jsc_property *last = NULL;
    for (uint32_t i = properties + 1; has_properties && i < properties + c->nodes[properties].span;
         i += c->nodes[i].span) {
        struct jsc_property *p = slot_for(m, c->nodes[i].text, c->nodes[i].hash);
        p->schema = sub(c, i + 1);
        p->is_named = true;
        m->first = m->first == NULL ? p : m->first;
        p->next = m->first;
        if (last != NULL) {
            last->next = p;
        }
        last = p;
    }
    for (uint32_t i = required + 1; has_required && i < required + c->nodes[required].span;
         i += c->nodes[i].span) {
        struct moon_slice name = c->nodes[i].text;
        if (c->nodes[i].type != JSC_STRING) {
            wrong(c, i, "expected a string");
            return;
        }
        if (is_excused(c, name)) {
            continue;
        }
        struct jsc_property *p = slot_for(m, name, jsc_hash(name));
        m->required_count += !p->is_required;
        p->is_required = true;
    }
    if (has_patterns) {
        compile_patterns(c, m);
    }
    if (more != 0) {
        if (c->nodes[more].type == JSC_TRUE || c->nodes[more].type == JSC_FALSE) {
            m->additional = jsc_set_schema(c->set, c->schema->document, more, c->schema->resource,
                                           c->schema->direction);
        } else {
            m->additional = sub(c, more);
        }
    }
    add(c, JSC_OP_MEMBERS, K_PROPERTIES)->members = m;
}

static struct moon_slice *names_at(struct compiler *c, uint32_t at)
{
    struct moon_slice *names = room(c, c->nodes[at].count, sizeof *names);
    uint32_t count = 0;
    for (uint32_t i = at + 1; names != NULL && i < at + c->nodes[at].span; i += c->nodes[i].span) {
        if (c->nodes[i].type != JSC_STRING) {
            wrong(c, i, "expected a string");
            return names;
        }
        names[count++] = c->nodes[i].text;
    }
    return names;
}

// Dependencies are many in one keyword: one check each, in a list of their own behind the others.
static void compile_dependencies(struct compiler *c, enum keyword k, struct jsc_check **list)
{
    uint32_t at = c->at[k];
    if (!expect_type(c, at, JSC_OBJECT, "expected an object") || c->nodes[at].count == 0) {
        return;
    }
    struct jsc_check *grown =
        room(c, c->dependency_count + c->nodes[at].count, sizeof(struct jsc_check));
    if (grown == NULL) {
        return;
    }
    if (c->dependency_count > 0) {
        // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): its length is 0 where it is NULL
        memcpy(grown, *list, c->dependency_count * sizeof *grown);
    }
    *list = grown;
    for (uint32_t i = at + 1; i < at + c->nodes[at].span && !c->has_failed; i += c->nodes[i].span) {
        struct jsc_check *check = &grown[c->dependency_count++];
        check->op = JSC_OP_DEPENDENCY;
        check->keyword = NAMES[k].data;
        check->dependency.name = c->nodes[i].text;
        if (c->nodes[i + 1].type == JSC_ARRAY && k != K_DEPENDENT_SCHEMAS) {
            check->dependency.required = names_at(c, i + 1);
            check->dependency.count = c->nodes[i + 1].count;
        } else {
            check->dependency.schema = sub(c, i + 1);
        }
    }
}

static const struct jsc_schema **schemas_at(struct compiler *c, uint32_t at)
{
    const struct jsc_schema **list = room(c, c->nodes[at].count, sizeof *list);
    uint32_t count = 0;
    for (uint32_t i = at + 1; list != NULL && i < at + c->nodes[at].span; i += c->nodes[i].span) {
        list[count++] = sub(c, i);
    }
    return list;
}

static void compile_array(struct compiler *c)
{
    uint32_t prefix = c->at[K_PREFIX_ITEMS], items = c->at[K_ITEMS], rest = items;
    enum jsc_draft draft = c->dialect.draft;
    if (draft < JSC_DRAFT_2020) {
        prefix = 0;
        if (items != 0 && c->nodes[items].type == JSC_ARRAY) {
            prefix = items;
            rest = c->at[K_ADDITIONAL_ITEMS];
        }
    }
    if (prefix != 0 || rest != 0) {
        struct jsc_check *check = add(c, JSC_OP_ITEMS, K_ITEMS);
        if (expect_type(c, prefix, JSC_ARRAY, "expected an array")) {
            check->items.prefix = schemas_at(c, prefix);
            check->items.prefix_count = c->nodes[prefix].count;
        }
        if (rest != 0) {
            bool is_flag = c->nodes[rest].type == JSC_TRUE || c->nodes[rest].type == JSC_FALSE;
            check->items.rest = is_flag ? jsc_set_schema(c->set, c->schema->document, rest,
                                                         c->schema->resource, c->schema->direction)
                                        : sub(c, rest);
        }
    }
    if (c->at[K_CONTAINS] != 0 && draft >= JSC_DRAFT_7) {
        struct jsc_check *check = add(c, JSC_OP_CONTAINS, K_CONTAINS);
        bool has_bounds = draft >= JSC_DRAFT_2019 && c->dialect.has_validation;
        check->contains.schema = sub(c, c->at[K_CONTAINS]);
        check->contains.min = 1;
        check->contains.max = UINT64_MAX;
        check->contains.marks = draft >= JSC_DRAFT_2020;
        if (has_bounds && c->at[K_MIN_CONTAINS] != 0) {
            check->contains.min = limit_at(c, c->at[K_MIN_CONTAINS]);
        }
        if (has_bounds && c->at[K_MAX_CONTAINS] != 0) {
            check->contains.max = limit_at(c, c->at[K_MAX_CONTAINS]);
        }
    }
}

static void compile_ref(struct compiler *c, enum keyword k)
{
    uint32_t at = c->at[k];
    if (at == 0 || !expect_type(c, at, JSC_STRING, "expected a string")) {
        return;
    }
    bool is_dynamic;
    struct moon_slice anchor;
    const struct jsc_schema *s = jsc_set_refer(c->set, c->schema->resource, c->nodes[at].text,
                                               c->schema->direction, &is_dynamic, &anchor);
    if (s == NULL) {
        char text[JSC_ERROR_BYTES];
        memcpy(text, c->set->error, sizeof text);
        wrong(c, at, text);
        return;
    }
    bool follows = is_dynamic && k != K_REF && (k == K_RECURSIVE_REF || anchor.len > 0);
    struct jsc_check *check = add(c, follows ? JSC_OP_DYNAMIC_REF : JSC_OP_REF, k);
    check->ref.schema = s;
    if (follows) {
        check->ref.anchor = jsc_set_dynamic_name(c->set, anchor);
        c->has_failed = c->has_failed || check->ref.anchor == UINT32_MAX;
    }
}

static void compile_list(struct compiler *c, enum keyword k, enum jsc_op op)
{
    if (expect_type(c, c->at[k], JSC_ARRAY, "expected an array of schemas")) {
        struct jsc_check *check = add(c, op, k);
        check->schemas.list = schemas_at(c, c->at[k]);
        check->schemas.count = c->nodes[c->at[k]].count;
    }
}

static void compile_one(struct compiler *c, enum keyword k, enum jsc_op op)
{
    if (c->at[k] != 0) {
        const struct jsc_schema *s = sub(c, c->at[k]);
        add(c, op, k)->ref.schema = s;
    }
}

static void compile_branch(struct compiler *c)
{
    if (c->at[K_IF] == 0 || c->dialect.draft < JSC_DRAFT_7) {
        return;
    }
    struct jsc_check *check = add(c, JSC_OP_IF, K_IF);
    check->branch.test = sub(c, c->at[K_IF]);
    check->branch.yes = c->at[K_THEN] != 0 ? sub(c, c->at[K_THEN]) : NULL;
    check->branch.no = c->at[K_ELSE] != 0 ? sub(c, c->at[K_ELSE]) : NULL;
}

static void compile_validation(struct compiler *c)
{
    compile_type(c);
    if (c->dialect.draft >= JSC_DRAFT_7) {
        compile_value(c, K_CONST, JSC_OP_CONST);
    }
    compile_value(c, K_ENUM, JSC_OP_ENUM);
    uint32_t multiple = c->at[K_MULTIPLE_OF];
    compile_number(c, K_MULTIPLE_OF, JSC_OP_MULTIPLE_OF);
    if (multiple != 0 && !(c->nodes[multiple].number > 0)) {
        wrong(c, multiple, "expected a number above 0"); // the first mistake is the one told
    }
    compile_bound(c, K_MAXIMUM, K_EXCLUSIVE_MAXIMUM, JSC_OP_MAXIMUM, JSC_OP_EXCLUSIVE_MAXIMUM);
    compile_bound(c, K_MINIMUM, K_EXCLUSIVE_MINIMUM, JSC_OP_MINIMUM, JSC_OP_EXCLUSIVE_MINIMUM);
    compile_string(c);
    compile_limit(c, K_MAX_PROPERTIES, JSC_OP_MAX_PROPERTIES);
    compile_limit(c, K_MIN_PROPERTIES, JSC_OP_MIN_PROPERTIES);
    compile_limit(c, K_MAX_ITEMS, JSC_OP_MAX_ITEMS);
    compile_limit(c, K_MIN_ITEMS, JSC_OP_MIN_ITEMS);
}

static struct jsc_check *compile_all(struct compiler *c)
{
    struct jsc_check *dependencies = NULL;
    bool is_modern = c->dialect.draft >= JSC_DRAFT_2019;
    if (c->dialect.has_validation) {
        compile_validation(c);
    }
    compile_format(c);
    compile_members(c);
    if (c->dialect.draft >= JSC_DRAFT_7) {
        compile_one(c, K_PROPERTY_NAMES, JSC_OP_PROPERTY_NAMES);
    }
    compile_array(c);
    uint32_t unique = c->at[K_UNIQUE_ITEMS];
    if (unique != 0 && c->dialect.has_validation && c->nodes[unique].type == JSC_TRUE) {
        (void)add(c, JSC_OP_UNIQUE_ITEMS, K_UNIQUE_ITEMS);
    }
    compile_ref(c, K_REF);
    if (c->dialect.draft == JSC_DRAFT_2020) {
        compile_ref(c, K_DYNAMIC_REF);
    } else if (c->dialect.draft == JSC_DRAFT_2019) {
        compile_ref(c, K_RECURSIVE_REF);
    }
    compile_list(c, K_ALL_OF, JSC_OP_ALL_OF);
    compile_list(c, K_ANY_OF, JSC_OP_ANY_OF);
    compile_list(c, K_ONE_OF, JSC_OP_ONE_OF);
    compile_one(c, K_NOT, JSC_OP_NOT);
    compile_branch(c);
    compile_dependencies(c, K_DEPENDENCIES, &dependencies);
    if (is_modern) {
        compile_dependencies(c, K_DEPENDENT_SCHEMAS, &dependencies);
        compile_dependencies(c, K_DEPENDENT_REQUIRED, &dependencies);
    }
    return dependencies;
}

// The types of values that a check looks at.
static uint32_t types_of(enum jsc_op op)
{
    switch (op) {
    case JSC_OP_MULTIPLE_OF:
    case JSC_OP_MAXIMUM:
    case JSC_OP_EXCLUSIVE_MAXIMUM:
    case JSC_OP_MINIMUM:
    case JSC_OP_EXCLUSIVE_MINIMUM:
        return 1U << JSC_NUMBER;
    case JSC_OP_MAX_LENGTH:
    case JSC_OP_MIN_LENGTH:
    case JSC_OP_PATTERN:
    case JSC_OP_FORMAT:
        return 1U << JSC_STRING;
    case JSC_OP_MAX_PROPERTIES:
    case JSC_OP_MIN_PROPERTIES:
    case JSC_OP_MEMBERS:
    case JSC_OP_PROPERTY_NAMES:
    case JSC_OP_DEPENDENCY:
    case JSC_OP_UNEVALUATED_PROPERTIES:
        return 1U << JSC_OBJECT;
    case JSC_OP_MAX_ITEMS:
    case JSC_OP_MIN_ITEMS:
    case JSC_OP_UNIQUE_ITEMS:
    case JSC_OP_ITEMS:
    case JSC_OP_CONTAINS:
    case JSC_OP_UNEVALUATED_ITEMS:
        return 1U << JSC_ARRAY;
    case JSC_OP_CONST:
    case JSC_OP_ENUM:
    case JSC_OP_REF:
    case JSC_OP_DYNAMIC_REF:
    case JSC_OP_ALL_OF:
    case JSC_OP_ANY_OF:
    case JSC_OP_ONE_OF:
    case JSC_OP_NOT:
    case JSC_OP_IF:
        break;
    }
    return JSC_ANY_TYPE;
}

// What can be said of many values without a look at the checks.
static void summarise(struct jsc_schema *s)
{
    s->at_once = s->types & JSC_ANY_TYPE;
    s->above = -INFINITY;
    s->below = INFINITY;
    for (uint32_t i = 0; i < s->check_count; i++) {
        const struct jsc_check *c = &s->checks[i];
        uint32_t types = types_of(c->op);
        s->at_once &= ~types;
        if (c->op == JSC_OP_MINIMUM || c->op == JSC_OP_EXCLUSIVE_MINIMUM) {
            s->above = fmax(s->above, c->value->number);
        } else if (c->op == JSC_OP_MAXIMUM || c->op == JSC_OP_EXCLUSIVE_MAXIMUM) {
            s->below = fmin(s->below, c->value->number);
        } else if ((types & 1U << JSC_NUMBER) != 0) {
            s->above = INFINITY; // each number is looked at
        }
    }
}

static void finish(struct compiler *c, const struct jsc_check *dependencies)
{
    bool is_modern = c->dialect.draft >= JSC_DRAFT_2019;
    struct jsc_check *all =
        room(c, (size_t)c->count + c->dependency_count + 2, sizeof(struct jsc_check));
    if (all == NULL || c->has_failed) {
        return;
    }
    uint32_t count = c->count;
    memcpy(all, c->checks, count * sizeof *all);
    if (c->dependency_count > 0) {
        memcpy(all + count, dependencies, c->dependency_count * sizeof *all);
        count += c->dependency_count;
    }
    if (is_modern && c->at[K_UNEVALUATED_ITEMS] != 0) {
        all[count].op = JSC_OP_UNEVALUATED_ITEMS;
        all[count].keyword = NAMES[K_UNEVALUATED_ITEMS].data;
        all[count++].ref.schema = sub(c, c->at[K_UNEVALUATED_ITEMS]);
        c->schema->tracks = true;
    }
    if (is_modern && c->at[K_UNEVALUATED_PROPERTIES] != 0) {
        all[count].op = JSC_OP_UNEVALUATED_PROPERTIES;
        all[count].keyword = NAMES[K_UNEVALUATED_PROPERTIES].data;
        all[count++].ref.schema = sub(c, c->at[K_UNEVALUATED_PROPERTIES]);
        c->schema->tracks = true;
    }
    c->schema->checks = all;
    c->schema->check_count = count;
    summarise(c->schema);
}

bool jsc_keywords_compile(struct jsc_set *set, struct jsc_schema *schema)
{
    struct compiler c;
    c.set = set;
    c.schema = schema;
    c.nodes = set->documents[schema->document].tape.nodes;
    c.dialect = set->resources[schema->resource].dialect;
    c.count = c.dependency_count = 0;
    c.has_failed = false;
    memset(c.at, 0, sizeof c.at);
    schema->is_integer_lexical = c.dialect.draft == JSC_DRAFT_4;
    switch (c.nodes[schema->node].type) {
    case JSC_TRUE:
        schema->types = JSC_ANY_TYPE;
        summarise(schema);
        return true;
    case JSC_FALSE:
        schema->is_false = true;
        return true;
    case JSC_OBJECT:
        break;
    case JSC_NULL:
    case JSC_NUMBER:
    case JSC_STRING:
    case JSC_ARRAY:
    case JSC_KEY:
        return jsc_set_fail(set, schema->document, schema->node, "expected a schema");
    }
    schema->types = JSC_ANY_TYPE;
    find_keywords(&c, schema->node);
    if (c.at[K_REF] != 0 && c.dialect.draft <= JSC_DRAFT_7) {
        uint32_t ref = c.at[K_REF];
        memset(c.at, 0, sizeof c.at);
        c.at[K_REF] = ref;
    }
    const struct jsc_check *dependencies = compile_all(&c);
    if (!c.has_failed) {
        finish(&c, dependencies);
    }
    return !c.has_failed;
}
