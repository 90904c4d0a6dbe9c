/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonschema/tape.h"

#include "json/json.h"
#include "jsonschema/decimal.h"

#include <stdlib.h>
#include <string.h>

#define FEW_MEMBERS 12
#define NODES_MAX ((uint32_t)1 << 26)

static inline uint64_t hash_step(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0xD6E8FEB86659FD93U;
    return h ^ h >> 32;
}

// The last bytes, fewer than nine: by loads of fixed sizes that may overlap.
static inline uint64_t hash_tail(const char *bytes, size_t len)
{
    if (len >= 4) {
        return jsc_load(bytes, 4) | jsc_load(bytes + len - 4, 4) << 32;
    }
    if (len == 0) {
        return 0;
    }
    return (uint64_t)(unsigned char)bytes[0] | (uint64_t)(unsigned char)bytes[len / 2] << 8 |
           (uint64_t)(unsigned char)bytes[len - 1] << 16;
}

uint32_t jsc_hash(const char *bytes, size_t len)
{
    uint64_t h = len * 0x9E3779B97F4A7C15U;
    while (len > 8) {
        h = hash_step(h, jsc_load(bytes, 8));
        bytes += 8;
        len -= 8;
    }
    h = hash_step(h, hash_tail(bytes, len));
    return (uint32_t)(h ^ h >> 29);
}

static struct jsc_node *add(struct jsc_tape *t, enum jsc_type type)
{
    if (t->count == t->cap) {
        uint32_t cap = t->cap == 0 ? 64 : t->cap * 2;
        if (cap > NODES_MAX) {
            return NULL;
        }
        struct jsc_node *grown = realloc(t->nodes, cap * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        t->nodes = grown;
        t->cap = cap;
    }
    struct jsc_node *n = &t->nodes[t->count++];
    n->type = type;
    n->count = 0;
    n->next = t->count;
    return n;
}

void jsc_tape_fini(struct jsc_tape *tape)
{
    free(tape->nodes);
    *tape = (struct jsc_tape){0};
}

struct name {
    uint32_t hash;
    uint32_t index;
};

static int by_hash(const void *a, const void *b)
{
    uint32_t x = ((const struct name *)a)->hash, y = ((const struct name *)b)->hash;
    return x < y ? -1 : x > y;
}

static bool few_have_twins(const struct jsc_node *nodes, uint32_t object)
{
    uint32_t seen[FEW_MEMBERS];
    uint32_t count = 0;
    for (uint32_t i = object + 1; i < nodes[object].next; i = nodes[i].next) {
        for (uint32_t j = 0; j < count; j++) {
            if (nodes[seen[j]].hash == nodes[i].hash &&
                jsc_same(nodes[seen[j]].text, nodes[i].text)) {
                return true;
            }
        }
        seen[count++] = i;
    }
    return false;
}

static const char *many_have_twins(const struct jsc_node *nodes, uint32_t object)
{
    struct name *names = malloc(nodes[object].count * sizeof *names);
    if (names == NULL) {
        return "no memory is left";
    }
    uint32_t count = 0;
    const char *error = NULL;
    for (uint32_t i = object + 1; i < nodes[object].next; i = nodes[i].next) {
        names[count++] = (struct name){nodes[i].hash, i};
    }
    qsort(names, count, sizeof *names, by_hash);
    uint32_t run = 0; // names of the same hash so far: more than a few are an attack
    for (uint32_t i = 1; i < count && error == NULL; i++) {
        run = names[i].hash == names[i - 1].hash ? run + 1 : 0;
        for (uint32_t j = i - run; j < i; j++) {
            if (jsc_same(nodes[names[j].index].text, nodes[names[i].index].text)) {
                error = "duplicate member";
            }
        }
        if (run > 64) {
            error = "members whose names collide";
        }
    }
    free(names);
    return error;
}

// A container that is open while it is read.
struct open {
    uint32_t index;
    bool is_object;
    bool may_have_twins; // two names share a bit of `names`
    uint64_t names;      // a bit for each name, by its hash
};

static const char *close_container(struct jsc_tape *t, const struct open *o)
{
    uint32_t open = o->index;
    struct jsc_node *n = &t->nodes[open];
    n->next = t->count;
    if (!o->may_have_twins) {
        return NULL;
    }
    if (n->count <= FEW_MEMBERS) {
        return few_have_twins(t->nodes, open) ? "duplicate member" : NULL;
    }
    return many_have_twins(t->nodes, open);
}

static const enum jsc_type types[] = {
    [MOON_JSON_OBJECT] = JSC_OBJECT, [MOON_JSON_ARRAY] = JSC_ARRAY,   [MOON_JSON_KEY] = JSC_KEY,
    [MOON_JSON_STRING] = JSC_STRING, [MOON_JSON_NUMBER] = JSC_NUMBER, [MOON_JSON_TRUE] = JSC_TRUE,
    [MOON_JSON_FALSE] = JSC_FALSE,   [MOON_JSON_NULL] = JSC_NULL,
};

static void add_name(struct jsc_tape *t, struct open *o, struct jsc_node *key)
{
    key->hash = jsc_hash(key->text.data, key->text.len);
    uint64_t bit = UINT64_C(1) << (key->hash & 63);
    o->may_have_twins |= (o->names & bit) != 0;
    o->names |= bit;
    t->nodes[o->index].count++;
}

const char *jsc_tape_read(struct jsc_tape *t, struct moon_slice text, char *scratch,
                          unsigned max_depth, size_t *at)
{
    struct moon_json_reader r;
    struct open stack[MOON_JSON_MAX_DEPTH + 1];
    struct open *o = stack; // the innermost; [0] stands for none
    const char *error = NULL;
    json_reader_init(&r, text, scratch, max_depth);
    t->count = 0;
    *o = (struct open){0};
    for (;;) {
        enum moon_json_token token = json_next(&r);
        uint32_t value;
        if (token == MOON_JSON_DONE) {
            return NULL;
        }
        if (token == MOON_JSON_ERROR) {
            error = r.error;
            break;
        }
        if (token == MOON_JSON_OBJECT_END || token == MOON_JSON_ARRAY_END) {
            value = o->index;
            error = close_container(t, o--);
            if (error != NULL) {
                break;
            }
        } else {
            struct jsc_node *n = add(t, types[token]);
            if (n == NULL) {
                error = "too many values";
                break;
            }
            // Apart: one load of both would wait for the two stores that made them.
            n->text.data = r.text.data;
            n->text.len = r.text.len;
            if (token == MOON_JSON_KEY) {
                add_name(t, o, n);
                continue;
            }
            value = t->count - 1;
            n->number = r.number;
            if (o > stack && !o->is_object) {
                t->nodes[o->index].count++;
            }
            if (token == MOON_JSON_OBJECT || token == MOON_JSON_ARRAY) {
                *++o = (struct open){.index = value, .is_object = token == MOON_JSON_OBJECT};
                continue;
            }
        }
        // A value has ended: the key before it ends with it.
        if (o->is_object) {
            t->nodes[value - 1].next = t->count;
        }
    }
    *at = (size_t)(r.at - r.start);
    return error;
}

uint32_t jsc_member(const struct jsc_node *nodes, uint32_t object, struct moon_slice name)
{
    if (nodes[object].type != JSC_OBJECT) {
        return 0;
    }
    uint32_t hash = jsc_hash(name.data, name.len);
    for (uint32_t i = object + 1; i < nodes[object].next; i = nodes[i].next) {
        if (nodes[i].hash == hash && jsc_same(nodes[i].text, name)) {
            return i + 1;
        }
    }
    return 0;
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xFF51AFD7ED558CCDU;
    return h ^ h >> 33;
}

// Depth is bounded by the reader's.
uint64_t jsc_value_hash(const struct jsc_node *nodes, uint32_t index)
{
    const struct jsc_node *n = &nodes[index];
    uint64_t h = mix((uint64_t)n->type + 1);
    switch (n->type) {
    case JSC_NUMBER: {
        double value = n->number == 0 ? 0 : n->number; // -0 equals 0
        memcpy(&h, &value, sizeof h);
        return mix(h);
    }
    case JSC_STRING:
        return mix(h ^ jsc_hash(n->text.data, n->text.len));
    case JSC_ARRAY:
        for (uint32_t i = index + 1; i < n->next; i = nodes[i].next) {
            h = mix(h * 31 + jsc_value_hash(nodes, i));
        }
        return h;
    case JSC_OBJECT:
        for (uint32_t i = index + 1; i < n->next; i = nodes[i].next) {
            h += mix(nodes[i].hash ^ jsc_value_hash(nodes, i + 1));
        }
        return h;
    case JSC_NULL:
    case JSC_FALSE:
    case JSC_TRUE:
    case JSC_KEY:
        break;
    }
    return h;
}

static bool equal_items(const struct jsc_node *a_nodes, uint32_t a, const struct jsc_node *b_nodes,
                        uint32_t b, uint64_t *steps)
{
    uint32_t j = b + 1;
    for (uint32_t i = a + 1; i < a_nodes[a].next; i = a_nodes[i].next, j = b_nodes[j].next) {
        if (!jsc_equal(a_nodes, i, b_nodes, j, steps)) {
            return false;
        }
    }
    return true;
}

static bool equal_members(const struct jsc_node *a_nodes, uint32_t a,
                          const struct jsc_node *b_nodes, uint32_t b, uint64_t *steps)
{
    for (uint32_t i = a + 1; i < a_nodes[a].next; i = a_nodes[i].next) {
        uint32_t j = jsc_member(b_nodes, b, a_nodes[i].text);
        uint64_t cost = b_nodes[b].count / 8;
        *steps = *steps > cost ? *steps - cost : 0;
        if (j == 0 || !jsc_equal(a_nodes, i + 1, b_nodes, j, steps)) {
            return false;
        }
    }
    return true;
}

bool jsc_equal(const struct jsc_node *a_nodes, uint32_t a, const struct jsc_node *b_nodes,
               uint32_t b, uint64_t *steps)
{
    const struct jsc_node *x = &a_nodes[a], *y = &b_nodes[b];
    if (x->type != y->type || *steps == 0) {
        return false;
    }
    --*steps;
    switch (x->type) {
    case JSC_NUMBER:
        return jsc_decimal_compare(x, y) == 0;
    case JSC_STRING:
        return jsc_same(x->text, y->text);
    case JSC_ARRAY:
        return x->count == y->count && equal_items(a_nodes, a, b_nodes, b, steps);
    case JSC_OBJECT:
        return x->count == y->count && equal_members(a_nodes, a, b_nodes, b, steps);
    case JSC_NULL:
    case JSC_FALSE:
    case JSC_TRUE:
    case JSC_KEY:
        break;
    }
    return true;
}
