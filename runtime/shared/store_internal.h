/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The inside of the store, for shared/store*.c only. Everything of a shard but `epoch` is guarded
/// by its lock.

#include "shared/lock.h"
#include "shared/store.h"

#include <stdatomic.h>

enum {
    STORE_UNIT = 512,
    STORE_ORDERS = 8, // 512 bytes to 64 KiB
    STORE_TOP_UNITS = 1 << (STORE_ORDERS - 1),
    STORE_SHARD_BYTES = 4 << 20,
    STORE_SHARDS = 64,
    STORE_ENTRY_EVERY = 1024, // bytes of memory for which there is an entry
    STORE_FLIGHTS = 64,       // of a shard
    STORE_GHOSTS = 256,
    STORE_PINS = 4096, // of a worker
    STORE_TAG_CELLS = 65536,
    STORE_QUARANTINE_US = 60 * 1000 * 1000,
    STORE_NO_BLOCK = 0,
};

enum store_state { STORE_FREE, STORE_FILLING, STORE_LIVE, STORE_DEAD };

/// Stands before the bytes of each block of an object.
struct store_extent {
    uint32_t next; // number of a unit + 1; 0: the last
    uint32_t used; // bytes behind this header
    uint32_t cap;
    uint32_t pad;
};

struct store_entry {
    struct moon_store_key key;
    struct moon_store_info info;
    uint32_t state;
    uint32_t chain;      // next in the bucket, or in the list of free ones; index + 1
    uint32_t prev, next; // in the queue; index + 1
    uint32_t extent;     // unit + 1; 0: none
    uint32_t last_extent;
    uint32_t head_bytes;
    uint32_t pins;
    bool is_visited;
    uint64_t body_bytes;
};

struct store_flight {
    struct moon_store_key key;
    int32_t pid; // 0: free
    int32_t worker;
    uint64_t waiters[MOON_STORE_WORKERS / 64];
};

struct store_shard {
    struct moon_lock lock;
    _Atomic uint32_t epoch;
    int64_t quarantine_until_us; // 0: in use
    char *memory;
    uint8_t *orders; // of the block that begins at a unit
    uint32_t units;
    uint32_t free_blocks[STORE_ORDERS]; // unit + 1
    struct store_entry *entries;
    uint32_t entry_count, free_entries;
    uint32_t used_entries; // those behind were never touched: their pages are not there yet
    uint32_t used_tops;    // the same for blocks of the largest order
    uint32_t *buckets;     // index + 1
    uint32_t bucket_mask;
    uint32_t head, tail, hand; // of the queue; index + 1
    uint64_t used_bytes, objects;
    struct store_flight flights[STORE_FLIGHTS];
    uint64_t ghosts[STORE_GHOSTS];
};

struct store_pin {
    uint32_t entry; // index + 1; 0: free
    uint16_t shard;
    uint16_t epoch; // low bits: a pin of a dropped shard is void
};

struct moon_store {
    size_t bytes;
    int workers;
    uint32_t shard_count;
    struct store_shard *shards;
    struct store_pin *pins; // STORE_PINS for each worker
    int events[MOON_STORE_WORKERS];
    _Atomic uint64_t evictions, dropped, refused;
    _Atomic uint32_t tags[STORE_TAG_CELLS];
    struct moon_store_log log;
    _Atomic uint64_t purged_at[STORE_TAG_CELLS]; // position in the log; 0: never
};

struct moon_store_seat {
    struct moon_store *store;
    int worker;
    int pid;
    uint32_t *free_pins; // a stack
    uint32_t free_pin_count;
};

/// Buddy allocator (store_memory.c). @return unit + 1, or STORE_NO_BLOCK
void store_memory_reset(struct store_shard *shard);
uint32_t store_memory_take(struct store_shard *shard, unsigned order);
void store_memory_give(struct store_shard *shard, uint32_t block);

/// Smallest order whose block holds so many bytes; STORE_ORDERS when none does.
unsigned store_memory_order(size_t bytes);

static inline struct store_extent *store_extent_at(const struct store_shard *shard, uint32_t block)
{
    return (struct store_extent *)(void *)(shard->memory + (size_t)(block - 1) * STORE_UNIT);
}

static inline char *store_extent_bytes(struct store_extent *extent)
{
    return (char *)(extent + 1);
}
