/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonschema/memory.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)32 << 10)
#define ALIGNMENT ((size_t)16)

struct jsc_block {
    struct jsc_block *next;
    size_t padding; // keeps what follows aligned
};

static bool grow(struct jsc_memory *m, size_t size)
{
    size_t bytes = size > BLOCK_BYTES ? size : BLOCK_BYTES;
    struct jsc_block *block = calloc(1, sizeof *block + bytes);
    if (block == NULL) {
        return false;
    }
    block->next = m->blocks;
    m->blocks = block;
    m->at = (char *)(block + 1);
    m->left = bytes;
    m->used_bytes += bytes;
    return true;
}

void *jsc_alloc(struct jsc_memory *m, size_t size)
{
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if (m->left < size && !grow(m, size)) {
        return NULL;
    }
    void *p = m->at;
    m->at += size;
    m->left -= size;
    return p;
}

char *jsc_copy(struct jsc_memory *m, const char *bytes, size_t len)
{
    char *copy = jsc_alloc(m, len + 1);
    if (copy != NULL && len > 0) {
        memcpy(copy, bytes, len);
    }
    return copy;
}

void jsc_memory_free(struct jsc_memory *m)
{
    while (m->blocks != NULL) {
        struct jsc_block *next = m->blocks->next;
        free(m->blocks);
        m->blocks = next;
    }
    *m = (struct jsc_memory){0};
}
