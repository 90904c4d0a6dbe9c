/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Schemas and what they were compiled to. A set owns its documents and every schema compiled from
/// them; a schema is compiled once per place and direction, so circles of references are circles of
/// pointers.

#include "jsonschema/memory.h"
#include "jsonschema/pattern.h"
#include "jsonschema/tape.h"

enum jsc_draft {
    JSC_DRAFT_4,
    JSC_OPENAPI_30, // draft 4's bounds, `nullable`, nothing beside `$ref`
    JSC_DRAFT_7,
    JSC_DRAFT_2019,
    JSC_DRAFT_2020,
};

/// In a request, what is `readOnly` need not be there; in a response, what is `writeOnly`.
enum jsc_direction {
    JSC_ANY,
    JSC_REQUEST,
    JSC_RESPONSE,
};

struct jsc_dialect {
    enum jsc_draft draft;
    bool has_validation;  // the vocabulary; a custom metaschema may leave it out
    bool asserts_formats; // likewise
};

enum jsc_op {
    JSC_OP_CONST,
    JSC_OP_ENUM,
    JSC_OP_MULTIPLE_OF,
    JSC_OP_MAXIMUM,
    JSC_OP_EXCLUSIVE_MAXIMUM,
    JSC_OP_MINIMUM,
    JSC_OP_EXCLUSIVE_MINIMUM,
    JSC_OP_MAX_LENGTH,
    JSC_OP_MIN_LENGTH,
    JSC_OP_PATTERN,
    JSC_OP_FORMAT,
    JSC_OP_MAX_PROPERTIES,
    JSC_OP_MIN_PROPERTIES,
    JSC_OP_MEMBERS, // properties, patternProperties, additionalProperties, required
    JSC_OP_PROPERTY_NAMES,
    JSC_OP_DEPENDENCY,
    JSC_OP_MAX_ITEMS,
    JSC_OP_MIN_ITEMS,
    JSC_OP_UNIQUE_ITEMS,
    JSC_OP_ITEMS, // prefixItems, items, additionalItems
    JSC_OP_CONTAINS,
    JSC_OP_REF,
    JSC_OP_DYNAMIC_REF,
    JSC_OP_ALL_OF,
    JSC_OP_ANY_OF,
    JSC_OP_ONE_OF,
    JSC_OP_NOT,
    JSC_OP_IF,
    JSC_OP_UNEVALUATED_ITEMS,
    JSC_OP_UNEVALUATED_PROPERTIES,
};

typedef bool (*jsc_format_fn)(struct moon_slice text);

struct jsc_property {
    struct moon_slice name;
    uint32_t hash;
    bool is_used;
    bool is_required;
    bool is_named;                   // by `properties`
    const struct jsc_schema *schema; // NULL unless it is named
    const struct jsc_property *next; // named behind it, or the first again; NULL unless it is named
};

struct jsc_members {
    struct jsc_property *table; // open addressing by hash
    uint32_t mask;
    const struct jsc_property *first; // of `properties`; NULL: it has none
    uint32_t required_count;
    uint32_t pattern_count;
    const struct jsc_pattern **patterns;
    const struct jsc_schema **pattern_schemas;
    const struct jsc_schema *additional; // NULL where there is no such keyword
};

struct jsc_check {
    enum jsc_op op;
    const char *keyword;
    union {
        const struct jsc_node *value; // const, enum, bounds
        uint64_t limit;
        const struct jsc_pattern *pattern;
        struct {
            jsc_format_fn test;
            const char *name;
        } format;
        const struct jsc_members *members;
        struct {
            const struct jsc_schema **list;
            uint32_t count;
        } schemas; // allOf, anyOf, oneOf
        struct {
            const struct jsc_schema **prefix;
            uint32_t prefix_count;
            const struct jsc_schema *rest; // NULL: anything
        } items;
        struct {
            const struct jsc_schema *schema;
            uint64_t min, max;
            bool marks; // 2020-12: what it contains counts as evaluated
        } contains;
        struct {
            struct moon_slice name;
            const struct jsc_schema *schema;   // NULL: see the names
            const struct moon_slice *required; // count of them
            uint32_t count;
        } dependency;
        struct {
            const struct jsc_schema *test, *yes, *no; // yes and no may be NULL
        } branch;
        struct {
            const struct jsc_schema *schema;
            uint32_t anchor; // of a dynamic reference: index of the name
        } ref;
    };
};

#define JSC_INTEGER_BIT (1U << 16)
#define JSC_ANY_TYPE ((1U << JSC_KEY) - 1)

struct jsc_schema {
    const struct jsc_check *checks;
    uint32_t check_count;
    uint32_t
        types; // bits of jsc_type, JSC_INTEGER_BIT; of `false`, and before it is compiled: none
    uint32_t at_once;    // bits of jsc_type: such values fit whatever they are
    double above, below; // numbers of the right type between these fit; 0 and 0: not known
    uint32_t resource;
    bool is_false;
    bool is_integer_lexical; // draft 4
    bool tracks;             // has unevaluatedItems or unevaluatedProperties
    // Where it stands, for messages and for the queue of what is not compiled yet.
    uint32_t document;
    uint32_t node;
    enum jsc_direction direction;
    struct jsc_schema *queued;
};

struct jsc_document {
    struct jsc_tape tape;
    uint32_t resource; // of its root
};

struct jsc_resource {
    struct moon_slice uri; // absolute where anything is, without fragment
    uint32_t document;
    uint32_t node;
    struct jsc_dialect dialect;
};

struct jsc_anchor {
    struct moon_slice name;
    uint32_t resource;
    uint32_t document;
    uint32_t node;
    bool is_dynamic;
};

/// A dynamic anchor's schema in one resource, for one direction.
struct jsc_dynamic {
    uint32_t anchor; // index of the name
    uint32_t resource;
    enum jsc_direction direction;
    const struct jsc_schema *schema;
};

/// Fetches a document. @return its text (lent until the next call), data NULL where there is none
typedef struct moon_slice (*jsc_fetch_fn)(void *context, struct moon_slice uri);

#define JSC_ERROR_BYTES 512

struct jsc_set {
    struct jsc_memory memory;
    struct jsc_dialect dialect; // of documents that do not say
    bool asserts_formats;
    bool is_definition; // documents are OpenAPI's: schemas stand wherever a reference says
    struct jsc_document *documents;
    uint32_t document_count;
    struct jsc_resource *resources;
    uint32_t resource_count;
    struct jsc_anchor *anchors;
    uint32_t anchor_count;
    struct moon_slice *dynamic_names;
    uint32_t dynamic_name_count;
    struct jsc_dynamic *dynamics;
    uint32_t dynamic_count;
    struct jsc_pattern **patterns;
    uint32_t pattern_count;
    struct jsc_schema **table; // open addressing by document, node and direction
    uint32_t table_mask;
    uint32_t schema_count;
    struct jsc_schema *queue;
    bool is_broken;     // a schema did not compile: nor will another
    jsc_fetch_fn fetch; // may be NULL
    void *fetch_context;
    char error[JSC_ERROR_BYTES];
};

/// Adds a document; its text is copied.
/// @return its index, -1: `set->error` says why
int jsc_set_add(struct jsc_set *set, struct moon_slice uri, struct moon_slice text);

/// Compiles the schema that a reference names, from the first document's root.
/// @return NULL: `set->error` says why. Lives as long as the set.
const struct jsc_schema *jsc_set_compile(struct jsc_set *set, struct moon_slice reference,
                                         enum jsc_direction direction);
void jsc_set_fini(struct jsc_set *set);

/// For the keywords' compiler.
bool jsc_keywords_compile(struct jsc_set *set, struct jsc_schema *schema);
struct jsc_schema *jsc_set_schema(struct jsc_set *set, uint32_t document, uint32_t node,
                                  uint32_t resource, enum jsc_direction direction);
struct jsc_schema *jsc_set_refer(struct jsc_set *set, uint32_t resource,
                                 struct moon_slice reference, enum jsc_direction direction,
                                 bool *is_dynamic, struct moon_slice *anchor);
uint32_t jsc_set_dynamic_name(struct jsc_set *set, struct moon_slice name);
bool jsc_set_fail(struct jsc_set *set, uint32_t document, uint32_t node, const char *message);
/// Room for one more element; false: no memory is left.
bool jsc_grow(void **list, uint32_t count, size_t size);

/// The test of a format of strings, NULL where it has none.
jsc_format_fn jsc_format_find(struct moon_slice name, const char **known);

/// What a format of numbers allows.
struct jsc_range {
    const char *name;
    struct jsc_node least, most;
    const struct jsc_node *step; // that they are multiples of; NULL: any number
};

/// NULL where the name is no such format.
const struct jsc_range *jsc_format_range(struct moon_slice name);

/// One mistake that a value makes.
struct jsc_mistake {
    char path[256]; // JSON pointer
    const char *keyword;
    char message[160];
};

#define JSC_MISTAKES_MAX 64

struct jsc_report {
    struct jsc_mistake *mistakes;
    uint32_t count; // <= max
    uint32_t max;
    uint64_t steps; // done
};

/// Judges a value, the root of a tape. Mistakes are added to the report up to its bound.
bool jsc_validate(const struct jsc_set *set, const struct jsc_schema *schema,
                  const struct jsc_node *value, struct jsc_report *report);
