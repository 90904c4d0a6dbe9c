/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonschema/tape.h"

#include "json/json.h"
#include "jsonschema/decimal.h"

#include <stdlib.h>
#include <string.h>

#define FEW_MEMBERS 12
#define NODES_MAX ((uint32_t)1 << 26)

static bool grow(struct jsc_tape *t)
{
    uint32_t cap = t->cap == 0 ? 64 : t->cap * 2;
    if (cap > NODES_MAX) {
        return false;
    }
    struct jsc_node *grown = realloc(t->nodes, cap * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    t->nodes = grown;
    t->cap = cap;
    return true;
}

void jsc_tape_fini(struct jsc_tape *tape)
{
    free(tape->nodes);
    *tape = (struct jsc_tape){0};
}

struct name {
    uint32_t hash;
    const struct jsc_node *key;
};

static int by_hash(const void *a, const void *b)
{
    uint32_t x = ((const struct name *)a)->hash, y = ((const struct name *)b)->hash;
    return x < y ? -1 : x > y;
}

static bool few_have_twins(const struct jsc_node *object)
{
    const struct jsc_node *end = object + object->span;
    for (const struct jsc_node *i = object + 1; i < end; i += i->span) {
        for (const struct jsc_node *j = object + 1; j < i; j += j->span) {
            if (i->hash == j->hash && jsc_same(i->text, j->text)) {
                return true;
            }
        }
    }
    return false;
}

static const char *many_have_twins(const struct jsc_node *object)
{
    struct name *names = malloc(object->count * sizeof *names);
    if (names == NULL) {
        return "no memory is left";
    }
    uint32_t count = 0;
    const char *error = NULL;
    for (const struct jsc_node *i = object + 1; i < object + object->span; i += i->span) {
        names[count++] = (struct name){i->hash, i};
    }
    qsort(names, count, sizeof *names, by_hash);
    uint32_t run = 0; // names of the same hash so far: more than a few are an attack
    for (uint32_t i = 1; i < count && error == NULL; i++) {
        run = names[i].hash == names[i - 1].hash ? run + 1 : 0;
        for (uint32_t j = i - run; j < i; j++) {
            if (jsc_same(names[j].key->text, names[i].key->text)) {
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

static const char *check_twins(const struct jsc_node *object)
{
    if (object->count > FEW_MEMBERS) {
        return many_have_twins(object);
    }
    return few_have_twins(object) ? "duplicate member" : NULL;
}

// A container that is open while it is read.
struct open {
    uint32_t index;
    uint32_t count;
    bool may_have_twins; // two names share a bit of `names`
    uint64_t names;      // a bit for each name, by its hash
};

static const char *close_container(struct jsc_node *n, const struct open *o, uint32_t span,
                                   bool is_member)
{
    n->count = o->count;
    n->span = span;
    if (is_member) {
        n[-1].span = span + 1; // the key before it
    }
    return o->may_have_twins ? check_twins(n) : NULL;
}

// Writes a member's key and notes its name.
static inline void put_key(struct jsc_node *n, struct moon_slice name, struct open *o)
{
    n->type = JSC_KEY;
    // Apart: one load of both would wait for the two stores that made them.
    n->text.data = name.data;
    n->text.len = name.len;
    n->hash = jsc_hash(name);
    n->count = 0;
    n->span = 2; // until the value is known to be a container
    uint64_t bit = UINT64_C(1) << (n->hash & 63);
    o->may_have_twins |= (o->names & bit) != 0;
    o->names |= bit;
}

static const enum jsc_type TYPES[] = {
    [MOON_JSON_OBJECT] = JSC_OBJECT, [MOON_JSON_ARRAY] = JSC_ARRAY, [MOON_JSON_STRING] = JSC_STRING,
    [MOON_JSON_NUMBER] = JSC_NUMBER, [MOON_JSON_TRUE] = JSC_TRUE,   [MOON_JSON_FALSE] = JSC_FALSE,
    [MOON_JSON_NULL] = JSC_NULL,
};

static inline void put_value(struct jsc_node *n, const struct moon_json_reader *r,
                             enum moon_json_token token)
{
    n->type = TYPES[token];
    n->text.data = r->text.data; // apart, as above
    n->text.len = r->text.len;
    n->number = r->number;
    n->is_whole = r->is_whole;
    n->count = 0;
    n->span = 1; // likewise
}

// Flat: the reader is called for each value, and saving its registers is a sixth of what it costs.
MOON_FLATTEN const char *jsc_tape_read(struct jsc_tape *t, struct moon_slice text, char *scratch,
                                       unsigned max_depth, size_t *at)
{
    struct moon_json_reader r;
    struct open stack[MOON_JSON_MAX_DEPTH + 1];
    struct open *o = stack; // the innermost; [0] stands for none
    uint32_t count = 0;
    const char *error = NULL;
    json_reader_init(&r, text, scratch, max_depth);
    *o = (struct open){0};
    while (error == NULL) {
        enum moon_json_token token = json_next(&r);
        if (token >= MOON_JSON_OBJECT) {
            if (t->cap - count < 2 && !grow(t)) {
                error = "too many values";
                break;
            }
            if (r.name.data != NULL) {
                put_key(&t->nodes[count++], r.name, o);
            }
            o->count++;
            put_value(&t->nodes[count++], &r, token);
            if (token <= MOON_JSON_ARRAY) {
                *++o = (struct open){.index = count - 1};
            }
        } else if (token == MOON_JSON_DONE) {
            break;
        } else if (token == MOON_JSON_ERROR) {
            error = r.error;
        } else {
            error = close_container(&t->nodes[o->index], o, count - o->index, r.closer == '}');
            o--;
        }
    }
    t->count = count;
    *at = (size_t)(r.at - r.start);
    return error;
}

const struct jsc_node *jsc_find(const struct jsc_node *object, struct moon_slice name)
{
    if (object->type != JSC_OBJECT) {
        return NULL;
    }
    uint32_t hash = jsc_hash(name);
    for (const struct jsc_node *i = object + 1; i < object + object->span; i += i->span) {
        if (i->hash == hash && jsc_same(i->text, name)) {
            return i + 1;
        }
    }
    return NULL;
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xFF51AFD7ED558CCDU;
    return h ^ h >> 33;
}

// Depth is bounded by the reader's.
uint64_t jsc_value_hash(const struct jsc_node *n)
{
    uint64_t h = mix((uint64_t)n->type + 1);
    switch (n->type) {
    case JSC_NUMBER: {
        double value = n->number == 0 ? 0 : n->number; // -0 equals 0
        memcpy(&h, &value, sizeof h);
        return mix(h);
    }
    case JSC_STRING:
        return mix(h ^ jsc_hash(n->text));
    case JSC_ARRAY:
        for (const struct jsc_node *i = n + 1; i < n + n->span; i += i->span) {
            h = mix(h * 31 + jsc_value_hash(i));
        }
        return h;
    case JSC_OBJECT:
        for (const struct jsc_node *i = n + 1; i < n + n->span; i += i->span) {
            h += mix(i->hash ^ jsc_value_hash(i + 1));
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

static bool equal_items(const struct jsc_node *a, const struct jsc_node *b, int64_t *steps)
{
    const struct jsc_node *j = b + 1;
    for (const struct jsc_node *i = a + 1; i < a + a->span; i += i->span, j += j->span) {
        if (!jsc_equal(i, j, steps)) {
            return false;
        }
    }
    return true;
}

static bool equal_members(const struct jsc_node *a, const struct jsc_node *b, int64_t *steps)
{
    for (const struct jsc_node *i = a + 1; i < a + a->span; i += i->span) {
        const struct jsc_node *j = jsc_find(b, i->text);
        *steps -= b->count / 8;
        if (j == NULL || !jsc_equal(i + 1, j, steps)) {
            return false;
        }
    }
    return true;
}

bool jsc_equal(const struct jsc_node *a, const struct jsc_node *b, int64_t *steps)
{
    if (a->type != b->type || *steps <= 0) {
        return false;
    }
    --*steps;
    switch (a->type) {
    case JSC_NUMBER:
        return jsc_decimal_compare(a, b) == 0;
    case JSC_STRING:
        return jsc_same(a->text, b->text);
    case JSC_ARRAY:
        return a->count == b->count && equal_items(a, b, steps);
    case JSC_OBJECT:
        return a->count == b->count && equal_members(a, b, steps);
    case JSC_NULL:
    case JSC_FALSE:
    case JSC_TRUE:
    case JSC_KEY:
        break;
    }
    return true;
}
