/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The shared mapping and its parts, made once by the supervisor before the first fork.
///
/// Process: any.

#include "net/tls.h"
#include "shared/board.h"
#include "shared/counters.h"
#include "shared/flood.h"
#include "shared/health.h"
#include "shared/leases.h"
#include "shared/metrics.h"
#include "shared/records.h"
#include "shared/store.h"
#include "upstream/limits.h"

struct moon_state {
    struct moon_region *region;
    struct moon_board *board;
    struct moon_counters *counters;
    struct moon_leases *leases;
    struct moon_metrics *metrics;
    struct moon_healths *healths;
    struct moon_tls_tickets *tickets;
    struct moon_flood *flood;
    struct moon_records *records;
    struct moon_store *store;
    struct moon_limits_board *limits_board; // which worker talks to the store for this node
};

/// @param workers      at least 1
/// @param cache_bytes  of the store; 0: as many as a configuration without `cache` has
MUST_CHECK enum moon_rc moon_state_new(int workers, size_t cache_bytes, struct moon_state *out);

/// A worker has died: the others get what it held. Takes no lock that it may have left behind.
void moon_state_forget_worker(struct moon_state *state, int number);
void moon_state_free(struct moon_state *state);
