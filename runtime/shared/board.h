/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What workers and supervisor tell one another: a slot per worker with its heartbeat, what it runs
/// now, and its gauges; and the process-wide facts (generation, start time).

#include "base/slice.h"
#include "shared/region.h"

#include <stdatomic.h>

enum { MOON_BOARD_WORKERS = 256, MOON_BOARD_TEXT = 120 };

/// One worker. Written by that worker only (restarts: by the supervisor), read by all. On cache
/// lines of its own: a heartbeat costs the other workers nothing.
struct moon_board_slot {
    _Alignas(64) _Atomic int pid; // 0: no worker here
    _Atomic int64_t beat_us;      // real monotonic time at which this turn began; 0: it waits
    _Atomic int64_t turns;
    _Atomic uint32_t generation; // that new requests are served from
    _Atomic uint32_t is_draining;
    _Atomic int64_t section_started_us; // a policy section runs since; 0: none
    char section[MOON_BOARD_TEXT];      // "orders.get inbound"; torn reads are harmless
    char policy[MOON_BOARD_TEXT];       // "rate_limit (gateway.lua:7)", when it was asked for
    _Atomic int64_t connections;        // gauges
    _Atomic int64_t exchanges;
    _Atomic int64_t lua_bytes;
    _Atomic int64_t requests;   // that have ended
    _Atomic int64_t busy_us;    // sum of all turns, without the waits between them
    _Atomic int64_t lag_us;     // how far the loop is behind, averaged
    _Atomic int64_t longest_us; // turn of the last ten to twenty seconds
    _Atomic uint64_t restarts;  // of this slot, counted by the supervisor
};

struct moon_board {
    _Atomic uint32_t generation; // newest that all workers serve
    _Atomic uint64_t reloads_ok, reloads_failed;
    int64_t started_wall_ms;
    int64_t started_ms; // for how long it has been up, whatever is done to the clock
    int worker_count;
    char last_reload_error[2048];
    struct moon_board_slot slots[MOON_BOARD_WORKERS];
};

/// Adds to a number of the worker's own slot, which nobody else writes.
static inline void moon_board_add(_Atomic int64_t *cell, int64_t amount)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

/// Carves it out of the region. @return NULL when there is no room
struct moon_board *moon_board_new(struct moon_region *region, int worker_count);
