/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Health and load of every target, seen alike by all workers and kept across reloads: found by the
/// target's identity ("https://10.0.0.7:8443"), never by its place in a configuration.

#include "base/slice.h"
#include "shared/region.h"

#include <stdatomic.h>

enum moon_health_state { MOON_HEALTH_UNKNOWN, MOON_HEALTH_UP, MOON_HEALTH_DOWN };

/// One target. Fields are independent atomics; a reader may see a mix of old and new.
struct moon_health {
    _Alignas(64) _Atomic uint64_t identity; // hash; 0: free
    char name[120];                   // for /status
    _Atomic int state;                // of active probes: enum moon_health_state
    _Atomic int64_t ejected_until_us; // passive: not used before (monotonic, clock of moon_clock_us)
    _Atomic uint32_t ejections;       // in a row: the time grows with them
    _Atomic uint32_t failures;        // consecutive, passive
    _Atomic uint32_t probe_passes, probe_failures; // consecutive, active
    _Atomic int64_t in_flight;        // requests, all workers
    _Atomic int64_t connections;
    _Atomic uint64_t requests, errors;
    _Atomic int64_t changed_wall_ms;
    _Atomic int64_t up_since_us;      // for slow start
    char reason[96];                  // why it is in this state
};

struct moon_healths;

struct moon_healths *moon_healths_new(struct moon_region *region, size_t targets);

/// Finds or makes. @return NULL when the table is full (is logged once)
struct moon_health *moon_health_get(struct moon_healths *healths, struct moon_slice identity);

/// Passive marking: what a request saw. @param now_us  moon_clock_us
void moon_health_success(struct moon_health *health);

/// Ejects after `threshold` consecutive failures, for `base_ms` times the number of ejections.
/// @return true when this call ejected it
bool moon_health_failure(struct moon_health *health, uint32_t threshold, int64_t base_ms,
                         int64_t now_us, const char *reason);

/// Usable now: not down by probes and not ejected.
bool moon_health_is_usable(const struct moon_health *health, int64_t now_us);

/// Every target in use. @return NULL past the last; *at starts at 0
const struct moon_health *moon_health_next(const struct moon_healths *healths, size_t *at);
