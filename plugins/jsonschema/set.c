/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonschema/set.h"

#include "jsonschema/uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOCUMENTS_MAX 1024
#define DEPTH_MAX 256

#define LITERAL(text) ((struct moon_slice){text, sizeof(text) - 1})

static const struct {
    const char *uri;
    const char *text;
} METASCHEMAS[] = {
#define METASCHEMA(uri, text) {uri, text},
#include "jsonschema/metaschemas.def"
#undef METASCHEMA
};

bool jsc_grow(void **list, uint32_t count, size_t size)
{
    if (count != 0 && (count & (count - 1)) != 0) {
        return true; // room up to the next power of two
    }
    void *grown = realloc(*list, (count == 0 ? 1 : (size_t)count * 2) * size);
    if (grown != NULL) {
        *list = grown;
    }
    return grown != NULL;
}

static bool fail(struct jsc_set *set, const char *what, struct moon_slice name)
{
    int len = name.len < 200 ? (int)name.len : 200;
    (void)snprintf(set->error, sizeof set->error, "%s \"%.*s\"", what, len,
                   name.data != NULL ? name.data : "");
    return false;
}

static bool fail_memory(struct jsc_set *set)
{
    (void)snprintf(set->error, sizeof set->error, "no memory is left");
    return false;
}

// The way from the root to a node, as a JSON pointer.
static void describe(const struct jsc_node *nodes, uint32_t node, char *out, size_t room)
{
    uint32_t at = 0;
    size_t used = 0;
    out[0] = '\0';
    while (at != node && used < room) {
        uint32_t number = 0, child = at + 1;
        while (child < at + nodes[at].span && child + nodes[child].span <= node) {
            child += nodes[child].span;
            number++;
        }
        if (child >= at + nodes[at].span) {
            return;
        }
        int n;
        if (nodes[child].type == JSC_KEY) {
            n = snprintf(out + used, room - used, "/%.*s", (int)nodes[child].text.len,
                         nodes[child].text.data);
            if (child == node) {
                return;
            }
            child++;
        } else {
            n = snprintf(out + used, room - used, "/%u", number);
        }
        used += n > 0 ? (size_t)n : 0;
        at = child;
    }
}

bool jsc_set_fail(struct jsc_set *set, uint32_t document, uint32_t node, const char *message)
{
    char path[200];
    describe(set->documents[document].tape.nodes, node, path, sizeof path);
    const struct moon_slice *uri = &set->resources[set->documents[document].resource].uri;
    (void)snprintf(set->error, sizeof set->error, "%.*s#%s: %s",
                   uri->len < 100 ? (int)uri->len : 100, uri->data, path, message);
    return false;
}

static struct moon_slice member_text(const struct jsc_node *nodes, uint32_t object,
                                     struct moon_slice name)
{
    uint32_t value = jsc_member(nodes, object, name);
    if (value == 0 || nodes[value].type != JSC_STRING) {
        return (struct moon_slice){NULL, 0};
    }
    return nodes[value].text;
}

static int resource_at(const struct jsc_set *set, uint32_t document, uint32_t node)
{
    for (uint32_t i = 0; i < set->resource_count; i++) {
        if (set->resources[i].node == node && set->resources[i].document == document) {
            return (int)i;
        }
    }
    return -1;
}

// One place may have two URIs, where it was found and what it calls itself: the first entry counts.
static int find_resource(const struct jsc_set *set, struct moon_slice uri)
{
    for (uint32_t i = 0; i < set->resource_count; i++) {
        if (jsc_same(set->resources[i].uri, uri)) {
            return resource_at(set, set->resources[i].document, set->resources[i].node);
        }
    }
    return -1;
}

static int load(struct jsc_set *set, struct moon_slice uri);

// The dialect that `$schema` names; one of somebody's own is looked at for its vocabularies.
static struct jsc_dialect dialect_of(struct jsc_set *set, struct moon_slice uri,
                                     struct jsc_dialect outer)
{
    static const struct {
        const char *mark;
        enum jsc_draft draft;
    } KNOWN[] = {
        {"json-schema.org/draft-04/schema", JSC_DRAFT_4},
        {"json-schema.org/draft-06/schema", JSC_DRAFT_7},
        {"json-schema.org/draft-07/schema", JSC_DRAFT_7},
        {"json-schema.org/draft/2019-09/schema", JSC_DRAFT_2019},
        {"json-schema.org/draft/2020-12/schema", JSC_DRAFT_2020},
        {"spec.openapis.org/oas/3.1/dialect/base", JSC_DRAFT_2020},
    };
    struct jsc_dialect dialect = {outer.draft, true, set->asserts_formats};
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++) {
        if (uri.len > 0 && memmem(uri.data, uri.len, KNOWN[i].mark, strlen(KNOWN[i].mark))) {
            dialect.draft = KNOWN[i].draft;
            return dialect;
        }
    }
    struct moon_slice fragment, whole;
    whole = jsc_uri_resolve(&set->memory, (struct moon_slice){"", 0}, uri, &fragment);
    int resource = whole.data == NULL ? -1 : find_resource(set, whole);
    if (resource < 0) {
        resource = load(set, whole);
    }
    if (resource < 0) {
        return outer;
    }
    const struct jsc_resource *r = &set->resources[resource];
    const struct jsc_node *nodes = set->documents[r->document].tape.nodes;
    uint32_t vocabulary = jsc_member(nodes, r->node, LITERAL("$vocabulary"));
    dialect.draft = r->dialect.draft;
    if (vocabulary != 0 && nodes[vocabulary].type == JSC_OBJECT) {
        dialect.has_validation = false;
        for (uint32_t i = vocabulary + 1; i < vocabulary + nodes[vocabulary].span;
             i += nodes[i].span) {
            struct moon_slice name = nodes[i].text;
            if (memmem(name.data, name.len, "/vocab/validation", 17)) {
                dialect.has_validation = true;
            } else if (memmem(name.data, name.len, "/vocab/format-assertion", 23)) {
                dialect.asserts_formats = true;
            }
        }
    }
    return dialect;
}

static int add_resource(struct jsc_set *set, struct moon_slice uri, uint32_t document,
                        uint32_t node, struct jsc_dialect dialect)
{
    if (!jsc_grow((void **)&set->resources, set->resource_count, sizeof *set->resources)) {
        (void)fail_memory(set);
        return -1;
    }
    set->resources[set->resource_count] = (struct jsc_resource){uri, document, node, dialect};
    return (int)set->resource_count++;
}

static bool add_anchor(struct jsc_set *set, struct jsc_anchor anchor)
{
    if (!jsc_grow((void **)&set->anchors, set->anchor_count, sizeof *set->anchors)) {
        return fail_memory(set);
    }
    set->anchors[set->anchor_count++] = anchor;
    return true;
}

static bool add_anchors(struct jsc_set *set, uint32_t document, uint32_t node, uint32_t resource,
                        enum jsc_draft draft)
{
    const struct jsc_node *nodes = set->documents[document].tape.nodes;
    struct jsc_anchor a = {.resource = resource, .document = document, .node = node};
    if (draft == JSC_DRAFT_2019) {
        uint32_t mark = jsc_member(nodes, node, LITERAL("$recursiveAnchor"));
        if (mark != 0 && nodes[mark].type == JSC_TRUE) {
            a.name = LITERAL("");
            a.is_dynamic = true;
            if (!add_anchor(set, a)) {
                return false;
            }
        }
    }
    if (draft >= JSC_DRAFT_2019) {
        a.is_dynamic = false;
        a.name = member_text(nodes, node, LITERAL("$anchor"));
        if (a.name.data != NULL && !add_anchor(set, a)) {
            return false;
        }
    }
    if (draft == JSC_DRAFT_2020) {
        a.is_dynamic = true;
        a.name = member_text(nodes, node, LITERAL("$dynamicAnchor"));
        if (a.name.data != NULL && !add_anchor(set, a)) {
            return false;
        }
    }
    return true;
}

static struct moon_slice id_of(const struct jsc_node *nodes, uint32_t node, enum jsc_draft draft)
{
    if (draft == JSC_OPENAPI_30 ||
        (draft <= JSC_DRAFT_7 && jsc_member(nodes, node, LITERAL("$ref")) != 0)) {
        return (struct moon_slice){NULL, 0};
    }
    return member_text(nodes, node, draft == JSC_DRAFT_4 ? LITERAL("id") : LITERAL("$id"));
}

// Notes what a schema says of itself: its id, which begins a resource, and its anchors.
// @return the resource that it belongs to, -1: failed
static int enter(struct jsc_set *set, uint32_t document, uint32_t node, uint32_t resource)
{
    int known = resource_at(set, document, node);
    if (known >= 0 && (uint32_t)known != resource) {
        return known;
    }
    const struct jsc_node *nodes = set->documents[document].tape.nodes;
    struct jsc_dialect dialect = set->resources[resource].dialect;
    struct moon_slice schema = member_text(nodes, node, LITERAL("$schema"));
    bool is_root = known >= 0;
    if (schema.data != NULL && (is_root || jsc_member(nodes, node, LITERAL("$id")) != 0 ||
                                jsc_member(nodes, node, LITERAL("id")) != 0)) {
        dialect = dialect_of(set, schema, dialect);
    }
    if (is_root) {
        set->resources[resource].dialect = dialect;
    }
    struct moon_slice id = id_of(nodes, node, dialect.draft), fragment = {"", 0};
    if (id.data != NULL) {
        struct moon_slice uri =
            jsc_uri_resolve(&set->memory, set->resources[resource].uri, id, &fragment);
        if (uri.data == NULL) {
            (void)fail_memory(set);
            return -1;
        }
        if (id.len > 0 && id.data[0] != '#') {
            struct moon_slice found_at = set->resources[resource].uri;
            int own = add_resource(set, is_root ? found_at : uri, document, node, dialect);
            if (own < 0) {
                return -1;
            }
            if (is_root) {
                set->resources[resource].uri = uri;
            } else {
                resource = (uint32_t)own;
            }
        }
        if (fragment.len > 0 && dialect.draft <= JSC_DRAFT_7) {
            struct jsc_anchor a = {fragment, resource, document, node, false};
            if (!add_anchor(set, a)) {
                return -1;
            }
        }
    }
    return add_anchors(set, document, node, resource, dialect.draft) ? (int)resource : -1;
}

// Where schemas stand within a schema.
static int kind_of(struct moon_slice name)
{
    static const char *const ONE[] = {"additionalItems",
                                      "additionalProperties",
                                      "contains",
                                      "contentSchema",
                                      "else",
                                      "if",
                                      "items",
                                      "not",
                                      "propertyNames",
                                      "then",
                                      "unevaluatedItems",
                                      "unevaluatedProperties",
                                      "allOf",
                                      "anyOf",
                                      "oneOf",
                                      "prefixItems"};
    static const char *const MAP[] = {"$defs",      "definitions",      "dependencies",
                                      "properties", "dependentSchemas", "patternProperties"};
    for (size_t i = 0; i < sizeof ONE / sizeof *ONE; i++) {
        if (strlen(ONE[i]) == name.len && memcmp(ONE[i], name.data, name.len) == 0) {
            return 1;
        }
    }
    for (size_t i = 0; i < sizeof MAP / sizeof *MAP; i++) {
        if (strlen(MAP[i]) == name.len && memcmp(MAP[i], name.data, name.len) == 0) {
            return 2;
        }
    }
    return 0;
}

static bool scan(struct jsc_set *set, uint32_t document, uint32_t node, uint32_t resource);

static bool scan_children(struct jsc_set *set, uint32_t document, uint32_t node, uint32_t resource)
{
    const struct jsc_node *nodes = set->documents[document].tape.nodes;
    for (uint32_t i = node + 1; i < node + nodes[node].span; i += nodes[i].span) {
        if (!scan(set, document, nodes[i].type == JSC_KEY ? i + 1 : i, resource)) {
            return false;
        }
        nodes = set->documents[document].tape.nodes;
    }
    return true;
}

// Finds the ids and anchors of a document, whose depth the reader has bounded.
static bool scan(struct jsc_set *set, uint32_t document, uint32_t node, uint32_t resource)
{
    const struct jsc_node *nodes = set->documents[document].tape.nodes;
    if (nodes[node].type == JSC_ARRAY) {
        return scan_children(set, document, node, resource);
    }
    if (nodes[node].type != JSC_OBJECT) {
        return true;
    }
    int entered = enter(set, document, node, resource);
    if (entered < 0) {
        return false;
    }
    for (uint32_t i = node + 1; i < node + nodes[node].span; i += nodes[i].span) {
        int kind = kind_of(nodes[i].text);
        if (kind == 1 && !scan(set, document, i + 1, (uint32_t)entered)) {
            return false;
        }
        if (kind == 2 && nodes[i + 1].type == JSC_OBJECT &&
            !scan_children(set, document, i + 1, (uint32_t)entered)) {
            return false;
        }
        nodes = set->documents[document].tape.nodes;
    }
    return true;
}

int jsc_set_add(struct jsc_set *set, struct moon_slice uri, struct moon_slice text)
{
    struct moon_slice fragment, base = {"", 0};
    if (set->document_count >= DOCUMENTS_MAX) {
        (void)fail(set, "more documents than a set may have:", uri);
        return -1;
    }
    uri = jsc_uri_resolve(&set->memory, base, uri, &fragment);
    char *copy = jsc_copy(&set->memory, text.data, text.len);
    char *scratch =
        memchr(text.data, '\\', text.len) != NULL ? jsc_alloc(&set->memory, text.len + 1) : copy;
    if (uri.data == NULL || copy == NULL || scratch == NULL ||
        !jsc_grow((void **)&set->documents, set->document_count, sizeof *set->documents)) {
        (void)fail_memory(set);
        return -1;
    }
    struct jsc_document *d = &set->documents[set->document_count];
    *d = (struct jsc_document){0};
    size_t at = 0;
    const char *error =
        jsc_tape_read(&d->tape, (struct moon_slice){copy, text.len}, scratch, DEPTH_MAX, &at);
    if (error != NULL) {
        (void)snprintf(set->error, sizeof set->error, "%.*s: %s at byte %zu",
                       uri.len < 200 ? (int)uri.len : 200, uri.data, error, at + 1);
        jsc_tape_fini(&d->tape);
        return -1;
    }
    uint32_t document = set->document_count++;
    int resource = add_resource(set, uri, document, 0, set->dialect);
    if (resource < 0) {
        return -1;
    }
    set->documents[document].resource = (uint32_t)resource;
    if (!set->is_definition || document != 0) {
        if (!scan(set, document, 0, (uint32_t)resource)) {
            return -1;
        }
    }
    return (int)document;
}

// Brings in a document by its URI. @return its resource, -1: there is none
static int load(struct jsc_set *set, struct moon_slice uri)
{
    struct moon_slice text = {NULL, 0};
    for (size_t i = 0; i < sizeof METASCHEMAS / sizeof *METASCHEMAS; i++) {
        if (jsc_same(uri, (struct moon_slice){METASCHEMAS[i].uri, strlen(METASCHEMAS[i].uri)})) {
            text = (struct moon_slice){METASCHEMAS[i].text, strlen(METASCHEMAS[i].text)};
        }
    }
    if (text.data == NULL && set->fetch != NULL) {
        text = set->fetch(set->fetch_context, uri);
    }
    if (text.data == NULL) {
        return -1;
    }
    int document = jsc_set_add(set, uri, text);
    return document < 0 ? -1 : (int)set->documents[document].resource;
}

static uint32_t slot_of(const struct jsc_set *set, uint32_t document, uint32_t node,
                        enum jsc_direction direction)
{
    uint64_t key = ((uint64_t)document << 34 | (uint64_t)node << 2 | direction);
    key *= 0x9E3779B97F4A7C15U;
    uint32_t slot = (uint32_t)(key >> 32) & set->table_mask;
    for (;; slot = (slot + 1) & set->table_mask) {
        const struct jsc_schema *s = set->table[slot];
        if (s == NULL ||
            (s->document == document && s->node == node && s->direction == direction)) {
            return slot;
        }
    }
}

static bool grow_table(struct jsc_set *set)
{
    uint32_t old_size = set->table == NULL ? 0 : set->table_mask + 1;
    struct jsc_schema **old = set->table;
    if (set->schema_count * 2 < old_size) {
        return true;
    }
    uint32_t size = old_size == 0 ? 64 : old_size * 2;
    struct jsc_schema **table = calloc(size, sizeof(struct jsc_schema *));
    if (table == NULL) {
        return fail_memory(set);
    }
    set->table = table;
    set->table_mask = size - 1;
    for (uint32_t i = 0; i < old_size; i++) {
        if (old[i] != NULL) {
            set->table[slot_of(set, old[i]->document, old[i]->node, old[i]->direction)] = old[i];
        }
    }
    free(old);
    return true;
}

struct jsc_schema *jsc_set_schema(struct jsc_set *set, uint32_t document, uint32_t node,
                                  uint32_t resource, enum jsc_direction direction)
{
    if (!grow_table(set)) {
        return NULL;
    }
    uint32_t slot = slot_of(set, document, node, direction);
    if (set->table[slot] != NULL) {
        return set->table[slot];
    }
    struct jsc_schema *s = jsc_alloc(&set->memory, sizeof *s);
    if (s == NULL) {
        (void)fail_memory(set);
        return NULL;
    }
    int own = resource_at(set, document, node);
    s->document = document;
    s->node = node;
    s->direction = direction;
    s->resource = own >= 0 ? (uint32_t)own : resource;
    s->queued = set->queue;
    set->queue = s;
    set->table[slot] = s;
    set->schema_count++;
    return s;
}

static size_t unescape_pointer(char *text, size_t len)
{
    size_t to = 0;
    for (size_t i = 0; i < len; i++) {
        bool is_escape =
            text[i] == '~' && i + 1 < len && (text[i + 1] == '0' || text[i + 1] == '1');
        text[to++] = is_escape ? (text[++i] == '0' ? '~' : '/') : text[i];
    }
    return to;
}

static uint32_t step(const struct jsc_node *nodes, uint32_t at, struct moon_slice token)
{
    if (nodes[at].type == JSC_OBJECT) {
        return jsc_member(nodes, at, token);
    }
    if (nodes[at].type != JSC_ARRAY || token.len == 0 || token.len > 8) {
        return 0;
    }
    uint32_t wanted = 0;
    for (size_t i = 0; i < token.len; i++) {
        if (token.data[i] < '0' || token.data[i] > '9') {
            return 0;
        }
        wanted = wanted * 10 + (uint32_t)(token.data[i] - '0');
    }
    for (uint32_t i = at + 1; i < at + nodes[at].span; i += nodes[i].span) {
        if (wanted-- == 0) {
            return i;
        }
    }
    return 0;
}

// Follows a JSON pointer from a resource's root. False: it leads nowhere.
static bool follow(struct jsc_set *set, uint32_t *resource, struct moon_slice pointer,
                   uint32_t *node)
{
    const struct jsc_resource *r = &set->resources[*resource];
    uint32_t document = r->document, at = r->node;
    const struct jsc_node *nodes = set->documents[document].tape.nodes;
    while (pointer.len > 0) {
        const char *slash = memchr(pointer.data + 1, '/', pointer.len - 1);
        size_t len = slash != NULL ? (size_t)(slash - pointer.data) : pointer.len;
        char *token = jsc_copy(&set->memory, pointer.data + 1, len - 1);
        if (token == NULL) {
            return fail_memory(set);
        }
        at = step(nodes, at, (struct moon_slice){token, unescape_pointer(token, len - 1)});
        if (at == 0) {
            return false;
        }
        int inner = resource_at(set, document, at);
        if (inner >= 0) {
            *resource = (uint32_t)inner;
        }
        pointer.data += len;
        pointer.len -= len;
    }
    *node = at;
    return true;
}

static const struct jsc_anchor *find_anchor(const struct jsc_set *set, uint32_t resource,
                                            struct moon_slice name, bool wants_dynamic)
{
    const struct jsc_resource *r = &set->resources[resource];
    for (uint32_t i = 0; i < set->anchor_count; i++) {
        const struct jsc_anchor *a = &set->anchors[i];
        const struct jsc_resource *of = &set->resources[a->resource];
        bool is_here =
            a->resource == resource || (of->document == r->document && of->node == r->node);
        if (is_here && jsc_same(a->name, name) && (!wants_dynamic || a->is_dynamic)) {
            return a;
        }
    }
    return NULL;
}

struct jsc_schema *jsc_set_refer(struct jsc_set *set, uint32_t resource,
                                 struct moon_slice reference, enum jsc_direction direction,
                                 bool *is_dynamic, struct moon_slice *anchor)
{
    struct moon_slice fragment;
    struct moon_slice uri =
        jsc_uri_resolve(&set->memory, set->resources[resource].uri, reference, &fragment);
    char *decoded = jsc_copy(&set->memory, fragment.data, fragment.len);
    if (uri.data == NULL || decoded == NULL) {
        (void)fail_memory(set);
        return NULL;
    }
    fragment = (struct moon_slice){decoded, jsc_uri_decode(decoded, fragment.len)};
    int target = find_resource(set, uri);
    if (target < 0) {
        set->error[0] = '\0';
        target = load(set, uri);
    }
    if (target < 0) {
        if (set->error[0] == '\0') {
            (void)fail(set, "nothing is known of", uri);
        }
        return NULL;
    }
    uint32_t found = (uint32_t)target;
    uint32_t node = set->resources[found].node;
    *anchor = fragment;
    *is_dynamic = false;
    if (fragment.len > 0 && fragment.data[0] == '/') {
        if (!follow(set, &found, fragment, &node)) {
            (void)fail(set, "there is nothing at", reference);
            return NULL;
        }
    } else if (fragment.len > 0) {
        const struct jsc_anchor *a = find_anchor(set, found, fragment, false);
        if (a == NULL) {
            (void)fail(set, "there is nothing at", reference);
            return NULL;
        }
        const struct jsc_anchor *dynamic = find_anchor(set, found, fragment, true);
        *is_dynamic = dynamic != NULL;
        node = a->node;
        found = a->resource;
    } else {
        *is_dynamic = find_anchor(set, found, fragment, true) != NULL; // $recursiveAnchor
    }
    return jsc_set_schema(set, set->resources[found].document, node, found, direction);
}

uint32_t jsc_set_dynamic_name(struct jsc_set *set, struct moon_slice name)
{
    for (uint32_t i = 0; i < set->dynamic_name_count; i++) {
        if (jsc_same(set->dynamic_names[i], name)) {
            return i;
        }
    }
    if (!jsc_grow((void **)&set->dynamic_names, set->dynamic_name_count,
                  sizeof *set->dynamic_names)) {
        (void)fail_memory(set);
        return UINT32_MAX;
    }
    set->dynamic_names[set->dynamic_name_count] = name;
    return set->dynamic_name_count++;
}

static bool has_dynamic(const struct jsc_set *set, const struct jsc_dynamic *wanted)
{
    for (uint32_t i = 0; i < set->dynamic_count; i++) {
        const struct jsc_dynamic *d = &set->dynamics[i];
        if (d->anchor == wanted->anchor && d->resource == wanted->resource &&
            d->direction == wanted->direction) {
            return true;
        }
    }
    return false;
}

// Compiles every anchor that a dynamic reference may come to.
static bool add_dynamics(struct jsc_set *set, enum jsc_direction direction)
{
    for (uint32_t i = 0; i < set->anchor_count; i++) {
        struct jsc_anchor a = set->anchors[i];
        for (uint32_t j = 0; a.is_dynamic && j < set->dynamic_name_count; j++) {
            struct jsc_dynamic d = {j, a.resource, direction, NULL};
            if (!jsc_same(set->dynamic_names[j], a.name) || has_dynamic(set, &d)) {
                continue;
            }
            d.schema = jsc_set_schema(set, a.document, a.node, a.resource, direction);
            if (d.schema == NULL ||
                !jsc_grow((void **)&set->dynamics, set->dynamic_count, sizeof *set->dynamics)) {
                return false;
            }
            set->dynamics[set->dynamic_count++] = d;
        }
    }
    return true;
}

static bool run_queue(struct jsc_set *set)
{
    while (set->queue != NULL) {
        struct jsc_schema *s = set->queue;
        set->queue = s->queued;
        int resource = (int)s->resource;
        if (set->documents[s->document].tape.nodes[s->node].type == JSC_OBJECT &&
            set->is_definition && s->document == 0) {
            resource = enter(set, s->document, s->node, s->resource);
        }
        if (resource < 0) {
            return false;
        }
        s->resource = (uint32_t)resource;
        if (!jsc_keywords_compile(set, s)) {
            return false;
        }
    }
    return true;
}

const struct jsc_schema *jsc_set_compile(struct jsc_set *set, struct moon_slice reference,
                                         enum jsc_direction direction)
{
    bool is_dynamic;
    struct moon_slice anchor;
    if (set->document_count == 0) {
        (void)fail(set, "the set is empty, so there is no", reference);
        return NULL;
    }
    if (set->is_broken) {
        return NULL;
    }
    uint32_t root = set->documents[0].resource;
    struct jsc_schema *schema =
        jsc_set_refer(set, root, reference, direction, &is_dynamic, &anchor);
    if (schema == NULL) {
        return NULL;
    }
    do {
        if (!run_queue(set) || !add_dynamics(set, direction)) {
            set->is_broken = true; // what is left uncompiled would accept anything
            return NULL;
        }
    } while (set->queue != NULL);
    return schema;
}

void jsc_set_fini(struct jsc_set *set)
{
    for (uint32_t i = 0; i < set->document_count; i++) {
        jsc_tape_fini(&set->documents[i].tape);
    }
    for (uint32_t i = 0; i < set->pattern_count; i++) {
        jsc_pattern_free(set->patterns[i]);
    }
    free(set->documents);
    free(set->resources);
    free(set->anchors);
    free(set->dynamic_names);
    free(set->dynamics);
    free((void *)set->patterns);
    free((void *)set->table);
    jsc_memory_free(&set->memory);
    *set = (struct jsc_set){0};
}
