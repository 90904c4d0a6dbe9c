/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Limits in shared memory, for all workers of this node.
///
/// A cell is found by the 128-bit hash of its key in an open table of fixed size; the least recently
/// used of a probe run is recycled when the run is full, which is counted. `local` limits keep a
/// GCRA arrival time in one 64-bit word; windows keep the counts of this window and the one before,
/// each with its window's number, so that nothing needs to rotate. Counting is lock-free: one
/// compare-and-swap on a word that carries the cell's recycling number, so an operation that was
/// overtaken by a recycling starts again. Making a cell takes a robust lock.
///
/// A window that nodes share has a second part, kept apart from the words above: what of this node's
/// count the store knows, and what the other nodes have counted (moon_counters_shared_*).
///
/// Time is given by the caller: monotonic microseconds for GCRA, wall milliseconds for windows.

#include "base/slice.h"
#include "shared/region.h"

struct moon_counters;

/// @return NULL when there is no room (is logged)
struct moon_counters *moon_counters_new(struct moon_region *region, size_t cells);

struct moon_counter_key {
    uint64_t hi, lo;
};

/// Hash of a limit's identity and the caller's key.
struct moon_counter_key moon_counter_key(struct moon_slice limit, struct moon_slice key);

/// The same with moon_hash(limit) computed before.
struct moon_counter_key moon_counter_key_seeded(uint64_t limit_hash, struct moon_slice key);

/// Where a call was counted: for giving it back.
struct moon_limit_mark {
    int64_t at;       // the window's number; of a token bucket the arrival time that it left
    int64_t taken_us; // when; of a token bucket
};

struct moon_limit_decision {
    bool is_allowed;
    int64_t remaining;           // calls left now; 0 <= remaining <= calls
    int64_t retry_after_ms;      // until one more call would be allowed; 0 when allowed
    int64_t reset_ms;            // until the whole limit is free again
    struct moon_limit_mark mark; // of what was counted
};

/// How an amount is counted.
enum moon_limit_how {
    MOON_LIMIT_TAKE,   // when it fits; a refused amount is not counted
    MOON_LIMIT_CHARGE, // in any case: the call was let through before its cost was known
};

/// GCRA: `calls` per `period_ms` with a burst of `burst` (burst == calls: like a full bucket).
/// Refused calls are not counted. `amount` may be 0 (asks whether one more would be allowed).
///
/// @param calls, period_ms, burst  at least 1
struct moon_limit_decision moon_counters_gcra(struct moon_counters *counters,
                                              struct moon_counter_key key, int64_t calls,
                                              int64_t period_ms, int64_t burst, int64_t amount,
                                              enum moon_limit_how how, int64_t now_us);

/// Sliding window: this window's count plus the weighted count of the one before. Windows begin at
/// multiples of `period_ms` of the wall clock.
struct moon_limit_decision moon_counters_window(struct moon_counters *counters,
                                                struct moon_counter_key key, int64_t calls,
                                                int64_t period_ms, int64_t amount,
                                                enum moon_limit_how how, int64_t now_wall_ms);

/// Fixed window: nothing of the window before counts.
struct moon_limit_decision moon_counters_fixed(struct moon_counters *counters,
                                               struct moon_counter_key key, int64_t calls,
                                               int64_t period_ms, int64_t amount,
                                               enum moon_limit_how how, int64_t now_wall_ms);

/// Gives back what a call was counted as, that was refused after all: by another limit. What a token
/// bucket has leaked of it since then is gone, so at no moment more is let in than had the call never
/// been counted.
///
/// @param mark  of the decision that counted it
void moon_counters_gcra_give_back(struct moon_counters *counters, struct moon_counter_key key,
                                  int64_t calls, int64_t period_ms, int64_t amount,
                                  struct moon_limit_mark mark, int64_t now_us);

/// The same for moon_counters_window and moon_counters_fixed.
void moon_counters_window_give_back(struct moon_counters *counters, struct moon_counter_key key,
                                    int64_t amount, struct moon_limit_mark mark);

/// The same for moon_counters_shared; the store is told at the next flush.
void moon_counters_shared_give_back(struct moon_counters *counters, struct moon_counter_key key,
                                    int64_t amount, struct moon_limit_mark mark);

/// A plain counter that forgets after `window_ms`. @return the total in this window
int64_t moon_counters_add(struct moon_counters *counters, struct moon_counter_key key,
                          int64_t amount, int64_t window_ms, int64_t now_wall_ms);

/// Remembers until when a key is refused (over-limit answers of the store). 0 forgets.
///
/// @param trusted_us  when the store is asked again: something may have been given back
void moon_counters_block(struct moon_counters *counters, struct moon_counter_key key,
                         int64_t until_us, int64_t trusted_us, int64_t now_us);

/// @return how long the key stays refused, in milliseconds, rounded up; 0: it is not, or the store has
/// to be asked
int64_t moon_counters_blocked_ms(struct moon_counters *counters, struct moon_counter_key key,
                                 int64_t now_us);

/// Cells recycled while they still counted.
uint64_t moon_counters_evictions(const struct moon_counters *counters);

// ---- windows shared by nodes -------------------------------------------------------------------

enum { MOON_COUNTER_NAME_BYTES = 120 };

/// What a shared window is counted against.
struct moon_shared_limit {
    struct moon_slice name; // the same on every node; at most MOON_COUNTER_NAME_BYTES; copied once
    int64_t calls;
    int64_t period_ms;
    int64_t nodes;      // that share the limit; at least 1
    bool is_fixed;      // a fixed window; else a sliding one
    bool is_store_down; // count on what was last known, and on this node's share of the rest
};

struct moon_shared_decision {
    struct moon_limit_decision limit;
    bool is_urgent; // the store should be told now, not at the next flush
};

/// Counts on this node and marks the cell for the next flush.
///
/// The estimate is this node's own count plus what the store last told of the others. Past 80 % of
/// the limit this node takes no more than its share of what was left at the last exchange with the
/// store (all nodes' shares add up to the rest), and at least one call while anything is left.
struct moon_shared_decision moon_counters_shared(struct moon_counters *counters,
                                                 struct moon_counter_key key,
                                                 const struct moon_shared_limit *limit,
                                                 int64_t amount, enum moon_limit_how how,
                                                 int64_t now_wall_ms);

/// A count on its way to the store.
struct moon_counter_delta {
    size_t cell;
    struct moon_counter_key key;
    char name[MOON_COUNTER_NAME_BYTES + 1];
    size_t name_len;
    int64_t period_ms;
    int64_t window;      // number of the window: wall time / period
    int64_t amount;      // not yet in the store; below 0: given back
    bool wants_previous; // also ask for the window before
};

/// Takes the next cell that has something to tell; what it returns is marked as sent. Any process
/// may call it, also two at once: an amount is handed out once.
///
/// @param at  where to go on; starts at 0
/// @return false when the table has been walked
bool moon_counters_shared_next(struct moon_counters *counters, size_t *at, int64_t now_wall_ms,
                               struct moon_counter_delta *delta);

/// The store has counted it: `total` of all nodes in the delta's window.
void moon_counters_shared_told(struct moon_counters *counters,
                               const struct moon_counter_delta *delta, int64_t total);

/// What the store has for the window before the delta's.
void moon_counters_shared_previous(struct moon_counters *counters,
                                   const struct moon_counter_delta *delta, int64_t total);

/// It was certainly not sent: goes back and is offered again.
void moon_counters_shared_unsent(struct moon_counters *counters,
                                 const struct moon_counter_delta *delta);

/// Nobody knows whether the store has counted it: it is not sent again (counting twice would be
/// worse), and this node goes on counting it for itself.
void moon_counters_shared_lost(struct moon_counters *counters,
                               const struct moon_counter_delta *delta);

uint64_t moon_counters_lost(const struct moon_counters *counters);
