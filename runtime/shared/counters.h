/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Limits in shared memory, for all workers of this node.
///
/// A cell is found by the 128-bit hash of its key in an open table of fixed size; the least recently
/// used of a probe run is recycled when the table is full, which is counted. `local` limits keep a
/// GCRA arrival time in one 64-bit word (lock-free); `shared` limits keep a sliding window: the
/// counts of this window and the one before, plus what has not been sent to Redis yet.

#include "base/slice.h"
#include "shared/region.h"

struct moon_counters;

struct moon_counters *moon_counters_new(struct moon_region *region, size_t cells);

struct moon_counter_key {
    uint64_t hi, lo;
};

/// Hash of a limit's identity and the caller's key.
struct moon_counter_key moon_counter_key(struct moon_slice limit, struct moon_slice key);

struct moon_limit_decision {
    bool is_allowed;
    int64_t remaining;    // calls left now; 0 <= remaining <= calls
    int64_t retry_after_ms; // until one more call would be allowed; 0 when allowed
    int64_t reset_ms;     // until the whole limit is free again
};

/// GCRA: `calls` per `period_ms` with a burst of `burst` (burst == calls: like a full bucket).
/// Refused calls are not counted. `amount` may be 0 (asks only).
struct moon_limit_decision moon_counters_gcra(struct moon_counters *counters,
                                              struct moon_counter_key key, int64_t calls,
                                              int64_t period_ms, int64_t burst, int64_t amount,
                                              int64_t now_us);

/// Sliding window: this window's count plus the weighted count of the one before.
/// @param share  how many more calls this node may admit before asking the store; INT64_MAX: any
struct moon_limit_decision moon_counters_window(struct moon_counters *counters,
                                                struct moon_counter_key key, int64_t calls,
                                                int64_t period_ms, int64_t amount,
                                                int64_t now_wall_ms);

/// A plain counter that forgets after `window_ms`. @return the total in this window
int64_t moon_counters_add(struct moon_counters *counters, struct moon_counter_key key,
                          int64_t amount, int64_t window_ms, int64_t now_wall_ms);

/// Cells recycled while they still counted.
uint64_t moon_counters_evictions(const struct moon_counters *counters);
