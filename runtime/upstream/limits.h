/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Rate limits in three modes:
///   local   counted in this node's shared memory;
///   shared  counted there too, and told to Redis in batches by one worker of the node;
///   exact   one script call to Redis a decision.
/// The bounds that `shared` keeps are derived and measured in docs/limits.md.
///
/// Thread: the worker that owns it. The board is shared by the workers of a node.

#include "shared/counters.h"
#include "upstream/redis.h"

enum moon_limit_mode { MOON_MODE_LOCAL, MOON_MODE_SHARED, MOON_MODE_EXACT };

enum moon_limit_algorithm {
    MOON_ALGORITHM_TOKEN_BUCKET,   // GCRA; not with `shared`, whose counts must add up
    MOON_ALGORITHM_SLIDING_WINDOW, // this window's count and the weighted count of the one before
    MOON_ALGORITHM_FIXED_WINDOW,
};

/// What a limit does while the store does not answer.
enum moon_store_down {
    MOON_STORE_DOWN_LOCAL, // counts on this node, against its part of the limit
    MOON_STORE_DOWN_ALLOW,
    MOON_STORE_DOWN_DENY,
};

/// Where a decision came from: for logs, metrics, headers.
enum moon_limit_source {
    MOON_SOURCE_LOCAL,
    MOON_SOURCE_SHARED,
    MOON_SOURCE_EXACT,
    MOON_SOURCE_CACHED,     // an exact refusal that still holds
    MOON_SOURCE_STORE_DOWN, // what `store_down` says
};

/// @return "local", "shared", "exact", "cached", "store_down"; static
const char *moon_limit_source_name(enum moon_limit_source source);

enum { MOON_LIMIT_ID_BYTES = 48 };

#define MOON_LIMIT_FOREVER_MS (INT64_C(1) << 45)

/// One limit of a configuration. Made by moon_limit_spec_init; then the fields are read only.
struct moon_limit_spec {
    char id[MOON_LIMIT_ID_BYTES + 1]; // the same on every node
    size_t id_len;
    int64_t calls, period_ms, burst; // a period of MOON_LIMIT_FOREVER_MS never renews
    enum moon_limit_mode mode;
    enum moon_limit_algorithm algorithm;
    enum moon_store_down store_down;
    uint64_t hash, fallback_hash; // of the cells; see moon_counter_key_seeded
};

/// @param id     longer ones are replaced by a digest; copied
/// @param period_ms  0: it never renews; a fixed window only
/// @param burst  of the token bucket; 0: `calls`
/// @return MOON_ERR_CONFIG when a number is out of range, or mode and algorithm do not go together
MUST_CHECK enum moon_rc moon_limit_spec_init(struct moon_limit_spec *spec, struct moon_slice id,
                                             int64_t calls, int64_t period_ms, int64_t burst,
                                             enum moon_limit_mode mode,
                                             enum moon_limit_algorithm algorithm,
                                             enum moon_store_down store_down);

struct moon_limit_result {
    struct moon_limit_decision decision;
    enum moon_limit_source source;
    bool is_store_refusal; // refused because the store is down, not because of the limit
};

/// What the workers of a node agree on about the store. Lies in shared memory.
struct moon_limits_board;

/// Carves it out of the region and makes the descriptor that wakes the flusher. Before the fork.
/// @return NULL when there is no room or no descriptor (is logged)
struct moon_limits_board *moon_limits_board_new(struct moon_region *region);

struct moon_limits_options {
    struct moon_slice prefix; // of every key in Redis; "moongate:"
    int64_t flush_ms;         // how often counts go to the store: 50
    int64_t deadline_ms;      // of an exact decision: 25
    int64_t node_ttl_ms;      // a node that is silent for so long is no longer counted: 3000
    bool is_time_given;       // exact decisions use the caller's clock instead of the store's
};

void moon_limits_options_init(struct moon_limits_options *conf);

struct moon_limits;
struct moon_limits_query;

/// @param redis  borrowed while the moon_limits lives; NULL: every limit counts on this node only
/// @param conf   copied
/// @return NULL when out of memory
struct moon_limits *moon_limits_new(struct moon_loop *loop, struct moon_redis *redis,
                                    struct moon_counters *counters, struct moon_limits_board *board,
                                    const struct moon_limits_options *conf);

/// Gives the flusher's lease back, so that another worker takes over at once. Accepts NULL.
void moon_limits_free(struct moon_limits *limits);

/// Whether it may be the one that tells the store what this node counts (it may from the start). Of
/// those of several configurations in a worker only the present one's should.
void moon_limits_set_telling(struct moon_limits *limits, bool is_telling);

typedef void moon_limits_fn(void *owner, const struct moon_limit_result *result);

/// Decides about one call.
///
/// @param callback  NULL: nobody waits for what the store answers
/// @param key     whose limit it is; copied
/// @param amount  what the call costs; 0 asks only
/// @param result  written on MOON_OK
/// @param query   written on MOON_AGAIN, for moon_limits_cancel; may be NULL
/// @return MOON_OK, or MOON_AGAIN (exact mode: `callback` runs once, within the deadline)
MUST_CHECK enum moon_rc moon_limits_check(struct moon_limits *limits,
                                          const struct moon_limit_spec *spec, struct moon_slice key,
                                          int64_t amount, enum moon_limit_how how,
                                          moon_limits_fn *callback, void *owner,
                                          struct moon_limit_result *result,
                                          struct moon_limits_query **query);

/// Decides on this node alone, whatever the spec's mode.
struct moon_limit_result moon_limits_local(struct moon_counters *counters,
                                           const struct moon_limit_spec *spec,
                                           struct moon_slice key, int64_t amount,
                                           enum moon_limit_how how);

/// Gives back what a call was counted as, that another limit refused after all (shared/counters.h).
/// Nobody waits for it.
///
/// @param given  the decision that counted it
void moon_limits_give_back(struct moon_limits *limits, const struct moon_limit_spec *spec,
                           struct moon_slice key, int64_t amount,
                           const struct moon_limit_result *given);

/// The same for moon_limits_local.
void moon_limits_local_give_back(struct moon_counters *counters, const struct moon_limit_spec *spec,
                                 struct moon_slice key, int64_t amount,
                                 const struct moon_limit_result *given);

/// False when every limit counts on this node only.
bool moon_limits_has_store(const struct moon_limits *limits);

/// The connection, for other commands than those of limits; NULL: there is none. Borrowed.
struct moon_redis *moon_limits_redis(struct moon_limits *limits);

/// The callback will not be called. The call is counted all the same, where it was sent.
void moon_limits_cancel(struct moon_limits_query *query);

struct moon_limits_status {
    bool is_store_down;
    bool is_flusher;       // this worker
    int64_t nodes;         // that are alive, this one included
    int64_t clock_skew_ms; // the store's clock less ours
    uint64_t flushes;      // of this node
    uint64_t deltas;       // sent
    uint64_t lost;         // calls whose outcome is unknown
    uint64_t exact, exact_failed, cached;
};

void moon_limits_status(const struct moon_limits *limits, struct moon_limits_status *status);
