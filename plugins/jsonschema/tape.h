/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A JSON value as a flat array of nodes, in the order of the text: an array's items follow it, an
/// object's members too, each a key and then its value. A child's `next` is where its sibling
/// stands. Schemas and the texts that they judge are read alike.

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
    uint32_t next;  // index behind the value (of a key: behind the member)
    uint32_t count; // items or members
    uint32_t hash;  // of a key
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

uint32_t jsc_hash(const char *bytes, size_t len);

/// A hash that equal values share.
uint64_t jsc_value_hash(const struct jsc_node *nodes, uint32_t index);

/// Equality of JSON Schema: 1 and 1.0 are equal, members' order does not count. Each comparison of
/// two nodes takes one of *steps; at 0 the answer is false.
bool jsc_equal(const struct jsc_node *a_nodes, uint32_t a, const struct jsc_node *b_nodes,
               uint32_t b, uint64_t *steps);

/// The index of a member's value, 0 when there is none (0 is the root, never a member).
uint32_t jsc_member(const struct jsc_node *nodes, uint32_t object, struct moon_slice name);

static inline uint64_t jsc_load(const char *at, size_t n)
{
    uint64_t word = 0;
    __builtin_memcpy(&word, at, n);
    return word;
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
