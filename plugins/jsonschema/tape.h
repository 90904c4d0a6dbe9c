/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A JSON value as a flat array of nodes, in the order of the text: an array's items follow it, an
/// object's members too, each a key and then its value. A child's sibling stands `span` nodes behind
/// it. Schemas and the texts that they judge are read alike.

#include "moongate/types.h"

enum jsc_type {
    JSC_NULL,
    JSC_FALSE,
    JSC_TRUE,
    JSC_NUMBER,
    JSC_STRING,
    JSC_ARRAY,
    JSC_OBJECT,
    JSC_KEY,
};

struct jsc_node {
    struct moon_slice text; // string: its value; key: its name; number: as it was written
    double number;
    uint32_t span;  // nodes of the value, itself among them (of a key: of the member)
    uint32_t count; // items or members; 0 of anything else
    union {
        uint32_t hash; // of a key
        bool is_whole; // of a number: written without fraction and exponent
    };
    enum jsc_type type;
};

struct jsc_tape {
    struct jsc_node *nodes; // malloc
    uint32_t count;         // <= cap
    uint32_t cap;
};

/// Reads a text. Names that occur twice in an object are refused: readers differ in which they take.
///
/// @param text     borrowed while the tape is used
/// @param scratch  text.len bytes where the text holds a backslash, else may be NULL; as borrowed
/// @param at       offset of the mistake
/// @return NULL, or what is wrong (static text)
const char *jsc_tape_read(struct jsc_tape *tape, struct moon_slice text, char *scratch,
                          unsigned max_depth, size_t *at);

/// Frees the nodes.
void jsc_tape_fini(struct jsc_tape *tape);

/// A hash that equal values share.
uint64_t jsc_value_hash(const struct jsc_node *value);

/// Equality of JSON Schema: 1 and 1.0 are equal, members' order does not count. Each comparison of
/// two nodes takes one of *steps; from 0 down the answer is false.
bool jsc_equal(const struct jsc_node *a, const struct jsc_node *b, int64_t *steps);

/// A member's value, NULL when there is none.
const struct jsc_node *jsc_find(const struct jsc_node *object, struct moon_slice name);

/// The same by index, 0 when there is none (0 is the root, never a member).
static inline uint32_t jsc_member(const struct jsc_node *nodes, uint32_t object,
                                  struct moon_slice name)
{
    const struct jsc_node *value = jsc_find(&nodes[object], name);
    return value == NULL ? 0 : (uint32_t)(value - nodes);
}

static inline uint64_t jsc_load(const char *at, size_t n)
{
    uint64_t word = 0;
    __builtin_memcpy(&word, at, n);
    return word;
}

static inline uint64_t jsc_hash_step(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0xD6E8FEB86659FD93U;
    return h ^ h >> 32;
}

static inline uint32_t jsc_hash(struct moon_slice name)
{
    uint64_t h = name.len * 0x9E3779B97F4A7C15U;
    const char *at = name.data;
    size_t len = name.len;
    for (; len > 8; at += 8, len -= 8) {
        h = jsc_hash_step(h, jsc_load(at, 8));
    }
    if (len >= 4) { // by loads of fixed sizes that may overlap
        h = jsc_hash_step(h, jsc_load(at, 4) | jsc_load(at + len - 4, 4) << 32);
    } else if (len > 0) {
        h = jsc_hash_step(h, (uint64_t)(unsigned char)at[0] |
                                 (uint64_t)(unsigned char)at[len / 2] << 8 |
                                 (uint64_t)(unsigned char)at[len - 1] << 16);
    }
    return (uint32_t)(h ^ h >> 29);
}

/// Names are short: two loads that overlap compare up to sixteen bytes without a call.
static inline bool jsc_same(struct moon_slice a, struct moon_slice b)
{
    size_t n = a.len;
    if (n != b.len) {
        return false;
    }
    if (n - 8 <= 8) { // 8 to 16
        return jsc_load(a.data, 8) == jsc_load(b.data, 8) &&
               jsc_load(a.data + n - 8, 8) == jsc_load(b.data + n - 8, 8);
    }
    if (n - 4 < 4) { // 4 to 7
        return jsc_load(a.data, 4) == jsc_load(b.data, 4) &&
               jsc_load(a.data + n - 4, 4) == jsc_load(b.data + n - 4, 4);
    }
    return n == 0 || __builtin_memcmp(a.data, b.data, n) == 0;
}
