/* SPDX-License-Identifier: Apache-2.0 */

/// The buddy allocator of a shard: blocks of 2^order units, merged with their buddy when both are
/// free.

#include "shared/store_internal.h"

enum { MEMORY_FREE = 0x80, MEMORY_INSIDE = 0 }; // fresh memory says "inside"

struct free_block {
    uint32_t prev, next; // unit + 1
};

static struct free_block *memory_at(const struct store_shard *shard, uint32_t block)
{
    return (struct free_block *)(void *)(shard->memory + (size_t)(block - 1) * STORE_UNIT);
}

static void memory_push(struct store_shard *shard, uint32_t block, unsigned order)
{
    struct free_block *b = memory_at(shard, block);
    b->prev = 0;
    b->next = shard->free_blocks[order];
    if (b->next != 0)
        memory_at(shard, b->next)->prev = block;
    shard->free_blocks[order] = block;
    shard->orders[block - 1] = (uint8_t)(MEMORY_FREE | order);
}

static void memory_unlink(struct store_shard *shard, uint32_t block, unsigned order)
{
    struct free_block *b = memory_at(shard, block);
    if (b->prev != 0)
        memory_at(shard, b->prev)->next = b->next;
    else
        shard->free_blocks[order] = b->next;
    if (b->next != 0)
        memory_at(shard, b->next)->prev = b->prev;
}

void store_memory_reset(struct store_shard *shard)
{
    memset(shard->orders, MEMORY_INSIDE, shard->units);
    memset(shard->free_blocks, 0, sizeof(shard->free_blocks));
    shard->used_tops = 0; // the first memory is handed out first, the rest stays untouched
    shard->used_bytes = 0;
}

unsigned store_memory_order(size_t bytes)
{
    unsigned order = 0;
    while (order < STORE_ORDERS && ((size_t)STORE_UNIT << order) < bytes)
        order++;
    return order;
}

uint32_t store_memory_take(struct store_shard *shard, unsigned order)
{
    unsigned from = order;
    while (from < STORE_ORDERS && shard->free_blocks[from] == 0)
        from++;
    if (from >= STORE_ORDERS && shard->used_tops < shard->units / STORE_TOP_UNITS) {
        from = STORE_ORDERS - 1;
        memory_push(shard, shard->used_tops++ * STORE_TOP_UNITS + 1, from);
    }
    if (from >= STORE_ORDERS)
        return STORE_NO_BLOCK;
    uint32_t block = shard->free_blocks[from];
    memory_unlink(shard, block, from);
    while (from > order) {
        from--;
        memory_push(shard, block + (1U << from), from);
    }
    shard->orders[block - 1] = (uint8_t)order;
    shard->used_bytes += (uint64_t)STORE_UNIT << order;
    return block;
}

void store_memory_give(struct store_shard *shard, uint32_t block)
{
    unsigned order = shard->orders[block - 1];
    shard->used_bytes -= (uint64_t)STORE_UNIT << order;
    while (order + 1 < STORE_ORDERS) {
        uint32_t buddy = ((block - 1) ^ (1U << order)) + 1;
        if (shard->orders[buddy - 1] != (MEMORY_FREE | order))
            break;
        memory_unlink(shard, buddy, order);
        shard->orders[moon_max_size(block, buddy) - 1] = MEMORY_INSIDE;
        block = buddy < block ? buddy : block;
        order++;
    }
    memory_push(shard, block, order);
}
