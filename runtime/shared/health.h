/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Health and load of every target, seen alike by all workers and kept across reloads: found by the
/// target's identity ("https://10.0.0.7:8443"), never by its place in a configuration.

#include "base/slice.h"
#include "shared/circuit.h"
#include "shared/region.h"

#include <stdatomic.h>

enum moon_health_state { MOON_HEALTH_UNKNOWN, MOON_HEALTH_UP, MOON_HEALTH_DOWN };

enum { MOON_HEALTH_WORKERS = 256, MOON_HEALTH_REASON_BYTES = 96 };

/// What one worker has added to a target's load; taken back when the worker is replaced.
struct moon_health_share {
    _Atomic int32_t in_flight, connections;
};

/// One target. Fields are independent atomics; a reader may see a mix of old and new.
struct moon_health {
    _Alignas(64) _Atomic uint64_t identity; // hash; 0: free
    char name[120];                         // for /status
    _Atomic int state;                      // of active probes: enum moon_health_state
    _Atomic int64_t
        ejected_until_us;           // passive: not used before (monotonic, clock of moon_clock_us)
    _Atomic int64_t ejected_for_us; // how long the last ejection was
    _Atomic uint32_t ejections;     // in a row: the time grows with them
    _Atomic uint32_t failures;      // consecutive, passive
    _Atomic uint32_t probe_passes, probe_failures; // consecutive, active
    _Atomic int64_t probed_until_us;               // `state` is past then: nobody probes any more
    _Atomic int64_t in_flight;                     // requests, all workers
    _Atomic int64_t connections;
    _Atomic uint64_t requests, errors;
    _Atomic int64_t changed_wall_ms;
    _Atomic int64_t up_since_us;           // for slow start
    char reason[MOON_HEALTH_REASON_BYTES]; // why it is in this state
    struct moon_health_share shares[MOON_HEALTH_WORKERS];
};

struct moon_healths;

struct moon_healths *moon_healths_new(struct moon_region *region, size_t targets);

/// Whose load this process counts from now on; what an earlier holder of the number left (it was
/// killed) is taken back.
void moon_healths_bind(struct moon_healths *healths, int worker);

/// Takes back what a worker has left that is there no more. Takes no lock.
void moon_healths_forget(struct moon_healths *healths, int worker);

/// The breakers' states.
struct moon_circuits *moon_healths_circuits(struct moon_healths *healths);

/// True for the one worker that probes: whoever holds the lease keeps it by asking again before
/// `for_us` have passed; when it is dead, the next that asks gets it.
bool moon_healths_lease(struct moon_healths *healths, int64_t now_us, int64_t for_us);

/// Finds or makes. @return NULL when the table is full (is logged once)
struct moon_health *moon_health_get(struct moon_healths *healths, struct moon_slice identity);

/// Load: a request, a connection.
void moon_health_enter(struct moon_health *health);
void moon_health_leave(struct moon_health *health);
void moon_health_connected(struct moon_health *health);
void moon_health_disconnected(struct moon_health *health);

/// Passive marking: what a request saw. A success does not shorten an ejection; it ends the row of
/// failures, and once it has stayed well as long as it was out, the growth of the time.
void moon_health_success(struct moon_health *health);

/// Ejects after `threshold` consecutive failures, for `base_ms` times the number of ejections.
/// @param max_ms   longest time out; 0: ten times base_ms
/// @param may_eject  false: counts only (too many of its fellows are out)
/// @return true when this call ejected it
bool moon_health_failure(struct moon_health *health, uint32_t threshold, int64_t base_ms,
                         int64_t max_ms, bool may_eject, int64_t now_us, const char *reason);

/// What a probe saw. @param valid_us  how long it counts, should no other follow
/// @return true when the state changed
bool moon_health_probed(struct moon_health *health, bool is_well, uint32_t passes,
                        uint32_t failures, int64_t now_us, int64_t valid_us, const char *reason);

/// True when probes say so, and still run.
bool moon_health_is_probed_down(const struct moon_health *health, int64_t now_us);

/// Usable now: not down by probes and not ejected.
bool moon_health_is_usable(const struct moon_health *health, int64_t now_us);

/// Every target in use. @return NULL past the last; *at starts at 0
const struct moon_health *moon_health_next(const struct moon_healths *healths, size_t *at);
