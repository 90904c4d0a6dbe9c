/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The inside of upstream/limits*.c.

#include "upstream/limits.h"

#include <stdatomic.h>

enum { LIMITS_NODE_BYTES = 32, LIMITS_PREFIX_BYTES = 64, LIMITS_NAME_BYTES = 320 };

struct moon_limits_board {
    int wake_fd;                      // eventfd, the same number in every worker
    char node[LIMITS_NODE_BYTES + 1]; // random name of this node
    // The flusher's lease. A worker that stops answering loses it by time; should it come back, both
    // may flush for a moment, which is harmless: a count is handed out once (shared/counters.h).
    _Alignas(64) _Atomic uint64_t lease_owner; // 0: nobody
    _Atomic int64_t lease_until_us;
    _Alignas(64) _Atomic int64_t nodes;
    _Atomic int64_t skew_ms; // the store's clock less ours
    _Atomic bool is_store_up;
    _Alignas(64) _Atomic bool is_wake_pending;
    _Atomic uint64_t flushes, deltas, exact, exact_failed, cached;
};

struct moon_limits {
    struct moon_loop *loop;
    struct moon_redis *redis;
    struct moon_counters *counters;
    struct moon_limits_board *board;
    struct moon_limits_options conf;
    char prefix[LIMITS_PREFIX_BYTES + 1];
    size_t prefix_len;
    uint64_t token; // in lease_owner when we hold it
    bool is_flusher;
    bool is_flush_due; // again, when what is under way has been answered
    size_t in_flight;  // commands of flushes
    int64_t beat_ms;   // when the last heartbeat went out
    int64_t beat_wall_ms;
    bool is_beating;
    struct moon_redis_command *beat; // while is_beating
    struct moon_timer tick;
    struct moon_task flush;
    struct moon_io wake;
    struct moon_limits_query *queries; // exact decisions under way
    struct limits_item *items;         // deltas under way
};

/// Starts the flusher's timers. (limits_flush.c)
void limits_flush_init(struct moon_limits *limits);
void limits_flush_fini(struct moon_limits *limits);

/// Something is urgent: the flusher of the node should not wait for its next tick.
void limits_flush_soon(struct moon_limits *limits);

/// The window clock of all nodes: the store's.
int64_t limits_wall_ms(const struct moon_limits *limits);

/// "prefix{id:key}"; long keys by their digest. @return its length
size_t limits_name(const struct moon_limit_spec *spec, struct moon_slice key, size_t most,
                   char into[LIMITS_NAME_BYTES]);

/// Decides exactly. (limits_exact.c) @return MOON_AGAIN, or MOON_ERR_STORE: not asked
MUST_CHECK enum moon_rc limits_exact(struct moon_limits *limits, const struct moon_limit_spec *spec,
                                     struct moon_slice key, struct moon_counter_key cell,
                                     int64_t amount, enum moon_limit_how how,
                                     moon_limits_fn *callback, void *owner,
                                     struct moon_limits_query **query);
/// Tells the store; nobody waits.
void limits_exact_give_back(struct moon_limits *limits, const struct moon_limit_spec *spec,
                            struct moon_slice key, int64_t amount, struct moon_limit_mark mark);
void limits_exact_fini(struct moon_limits *limits);

/// What `store_down` says, where the store could not be asked.
struct moon_limit_result limits_without_store(struct moon_limits *limits,
                                              const struct moon_limit_spec *spec,
                                              struct moon_counter_key cell, int64_t amount,
                                              enum moon_limit_how how);
