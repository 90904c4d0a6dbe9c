/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A worker: one loop, one gateway, and what the supervisor tells it. The same code runs inside the
/// calling process (`--workers 0`, the test kit), without a supervisor.
///
/// Process: worker.

#include "gateway/gateway.h"
#include "process/state.h"

struct moon_worker_load;

struct moon_worker {
    int number;
    struct moon_state *state;
    struct moon_loop *loop;
    struct moon_background *background; // loads and frees generations between requests
    struct moon_dns *dns;
    struct moon_upstreams upstreams;
    struct moon_store_seat *seat;
    struct moon_flights flights;
    struct moon_script_env env;
    struct moon_gateway gateway;
    struct moon_list sharings;        // struct moon_sharing, of all generations
    struct moon_worker_load *loading; // in the background; NULL: none
    struct moon_generation *next;     // loaded, waiting for the flip
    struct moon_timer tick;           // every second: gauges, certificates, garbage
    uint32_t warned_generation;       // whose certificates were looked at, and when
    int64_t warned_wall_ms;
};

/// Makes loop, resolver and gateway. @param number  its slot on the board
MUST_CHECK enum moon_rc moon_worker_init(struct moon_worker *worker, struct moon_state *state,
                                         int number);
void moon_worker_fini(struct moon_worker *worker);

/// Loads a generation off to the side, replacing one that waits already.
/// @param error  heap; written on failure
MUST_CHECK enum moon_rc moon_worker_load(struct moon_worker *worker,
                                         const struct moon_bundle *bundle, uint32_t number,
                                         char **error);

/// Is told how moon_worker_start_load ended. @param error  borrowed; "" unless it failed
typedef void moon_worker_loaded_fn(struct moon_worker *worker, uint32_t number, enum moon_rc rc,
                                   const char *error);

/// The same, in the background: requests are served meanwhile. What is loaded already is given up.
/// @param bundle  taken
/// @param loaded  called once, unless it is given up; before this returns where nothing is served
///                yet, and where memory is short
void moon_worker_start_load(struct moon_worker *worker, struct moon_bundle *bundle, uint32_t number,
                            moon_worker_loaded_fn *loaded);

/// Tells how long certificates are still good for, and warns (process/certificates.c).
void moon_worker_watch_certificates(struct moon_worker *worker);

/// Serves from it on.
void moon_worker_flip(struct moon_worker *worker);

/// Gives up what is loaded, or being loaded.
void moon_worker_abort_load(struct moon_worker *worker);
