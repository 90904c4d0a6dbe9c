/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Memory that lives as long as a set of schemas: blocks, freed together.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jsc_block;

struct jsc_memory {
    struct jsc_block *blocks;
    char *at;
    size_t left;
    size_t used_bytes; // of all blocks; for the collector
};

/// Zeroed, aligned for any type; NULL: no memory is left.
void *jsc_alloc(struct jsc_memory *m, size_t size);

/// A copy with a NUL behind it; NULL: no memory is left.
char *jsc_copy(struct jsc_memory *m, const char *bytes, size_t len);

/// Frees everything.
void jsc_memory_free(struct jsc_memory *m);
