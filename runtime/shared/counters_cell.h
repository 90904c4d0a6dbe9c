/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The inside of the counters' table, for shared/counters*.c only.
///
/// How a cell is read and changed without a lock: load a word (acquire), then compare the cell's
/// key, then compare-and-swap the word. Recycling takes the key away first and raises the recycling
/// number in every word before the new key is published, so a swap that began under the old key
/// fails and starts again.

#include "shared/counters.h"
#include "shared/lock.h"

#include <stdatomic.h>

enum {
    COUNTER_RUN = 16,   // cells that a key may lie in
    COUNTER_LOCKS = 64, // for making cells
    COUNTER_TAG_BITS = 20,
    COUNTER_COUNT_BITS = 40,
};

/// Which clock a cell is kept in.
enum counter_clock { COUNTER_MONOTONIC, COUNTER_WALL };

/// One cache line: all that a limit on one node needs.
struct counter_cell {
    _Alignas(64) _Atomic uint64_t lo; // 0: never used; even: being made under lock (lo / 2 - 1)
    _Atomic uint64_t hi;
    _Atomic int64_t used;       // microseconds * 2 + enum counter_clock
    _Atomic int64_t expires_ms; // worthless from then on, in the cell's clock
    _Atomic uint64_t words[2]; // GCRA: [0]; windows: counted here, by parity of the window's number
    _Atomic uint64_t others[2]; // shared windows: counted by the other nodes; GCRA: [0], given back
};

/// What only shared windows need, in a table of its own: untouched pages cost nothing.
struct counter_wing {
    _Atomic uint64_t sent[2];  // of words[]: handed out for the store
    _Atomic uint64_t acked[2]; // of words[]: known to be in the store
    _Atomic uint64_t asked;    // how often the window before was asked for in this window
    int64_t period_ms;
    bool is_fixed;
    uint8_t name_len;
    char name[MOON_COUNTER_NAME_BYTES];
};

struct moon_counters {
    struct moon_lock locks[COUNTER_LOCKS];
    size_t cells; // homes; COUNTER_RUN more follow, so that runs need not wrap
    _Alignas(64) _Atomic uint64_t evictions;
    _Atomic uint64_t lost;
    _Atomic uint64_t *dirty; // one bit a cell: something to tell the store
    struct counter_cell *table;
    struct counter_wing *wings;
};

/// What a cell is made for.
struct counter_use {
    enum counter_clock clock;
    int64_t now_ms;
    int64_t now_us; // the same moment, as finely as it is known: tells which cell idles longest
    const struct moon_shared_limit *shared; // NULL: on this node only
};

static inline bool counter_is(const struct counter_cell *cell, struct moon_counter_key key)
{
    return atomic_load_explicit(&cell->lo, memory_order_acquire) == key.lo &&
           atomic_load_explicit(&cell->hi, memory_order_relaxed) == key.hi;
}

static inline size_t counter_home(const struct moon_counters *counters, struct moon_counter_key key)
{
    return (size_t)(((key.hi >> 32) * (uint64_t)counters->cells) >> 32);
}

/// @return NULL when the key has no cell
static inline struct counter_cell *counter_find(const struct moon_counters *counters,
                                                struct moon_counter_key key)
{
    struct counter_cell *cell = &counters->table[counter_home(counters, key)];
    for (int i = 0; i < COUNTER_RUN; i++, cell++) {
        uint64_t lo = atomic_load_explicit(&cell->lo, memory_order_acquire);
        if (lo == key.lo && atomic_load_explicit(&cell->hi, memory_order_relaxed) == key.hi)
            return cell;
        if (lo == 0)
            return NULL;
    }
    return NULL;
}

/// Makes the key's cell, or finds the one that another worker has just made.
struct counter_cell *counter_make(struct moon_counters *counters, struct moon_counter_key key,
                                  const struct counter_use *use);

/// The key's cell. One that lay idle for an hour past its end is made anew, so that the numbers of
/// windows, which wrap, are never mistaken for current ones.
static inline struct counter_cell *counter_get(struct moon_counters *counters,
                                               struct moon_counter_key key,
                                               const struct counter_use *use)
{
    struct counter_cell *cell = counter_find(counters, key);
    if (MOON_LIKELY(cell != NULL) &&
        MOON_LIKELY(atomic_load_explicit(&cell->expires_ms, memory_order_relaxed) + 3600000 >
                    use->now_ms))
        return cell;
    return counter_make(counters, key, use);
}

/// The cell was used, though nothing was counted: a caller that is refused keeps its cell.
static inline void counter_stamp(struct counter_cell *cell, const struct counter_use *use)
{
    atomic_store_explicit(&cell->used, use->now_us * 2 + (int64_t)use->clock, memory_order_relaxed);
}

static inline void counter_touch(struct counter_cell *cell, const struct counter_use *use,
                                 int64_t expires_ms)
{
    counter_stamp(cell, use);
    atomic_store_explicit(&cell->expires_ms, expires_ms, memory_order_relaxed);
}

// ---- words -------------------------------------------------------------------------------------

#define COUNTER_GENERATION_MASK (UINT64_C(0xf) << 60)
#define COUNTER_TAG_MASK ((UINT64_C(1) << COUNTER_TAG_BITS) - 1)
#define COUNTER_COUNT_MAX ((INT64_C(1) << COUNTER_COUNT_BITS) - 1)

/// Window words: recycling number (4 bits), number of the window (20, wraps), count (40).
static inline uint64_t counter_word(uint64_t like, int64_t window, int64_t count)
{
    if (count > COUNTER_COUNT_MAX)
        count = COUNTER_COUNT_MAX;
    if (count < 0)
        count = 0;
    return (like & COUNTER_GENERATION_MASK) |
           (((uint64_t)window & COUNTER_TAG_MASK) << COUNTER_COUNT_BITS) | (uint64_t)count;
}

static inline bool counter_is_of(uint64_t word, int64_t window)
{
    return ((word >> COUNTER_COUNT_BITS) & COUNTER_TAG_MASK) ==
           ((uint64_t)window & COUNTER_TAG_MASK);
}

/// The word's count, 0 when it belongs to another window.
static inline int64_t counter_count(uint64_t word, int64_t window)
{
    return counter_is_of(word, window) ? (int64_t)(word & (uint64_t)COUNTER_COUNT_MAX) : 0;
}

/// Where a moment lies in its window.
struct counter_moment {
    int64_t window;     // number
    int64_t elapsed_ms; // 0 <= elapsed_ms < period
};

/// The moment to count at: `now_ms`, or the start of the next window when another worker, whose
/// clock is a little ahead, has opened that one already. Time never runs backwards inside a cell.
struct counter_moment counter_moment(const struct counter_cell *cell, int64_t now_ms,
                                     int64_t period_ms);

/// Takes an amount out of a window's count. @return the key's cell; NULL: it has none, or the window
/// is no longer kept
struct counter_cell *counter_take_back(struct moon_counters *counters, struct moon_counter_key key,
                                       int64_t amount, int64_t window);

/// What a window limit says.
///
/// @param here, before  counted in this window and in the one before (0 for fixed windows)
struct moon_limit_decision counter_judge(int64_t calls, int64_t period_ms, int64_t here,
                                         int64_t before, int64_t elapsed_ms, int64_t amount,
                                         bool is_fixed);
