/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Circuit breakers, one a backend, seen alike by all workers and kept across reloads. A circuit
/// opens when enough of the calls in a window failed; while it is open, calls are refused without
/// asking the backend; then a few probes are let through, and their outcome closes it or opens it
/// again. Everything is atomic: a worker that dies holding a probe loses it after the opening time.

#include "base/slice.h"
#include "shared/region.h"

#include <stdatomic.h>

enum moon_circuit_state { MOON_CIRCUIT_CLOSED, MOON_CIRCUIT_OPEN, MOON_CIRCUIT_HALF_OPEN };

/// What decides; the same for all calls of a backend.
struct moon_circuit_rule {
    uint32_t failures, ratio_permille, probes;
    int64_t window_us, open_us;
};

struct moon_circuit {
    _Alignas(64) _Atomic uint64_t identity; // hash of the name; 0: free
    char name[64];
    _Atomic int state;
    _Atomic int64_t window_us;      // when the window began
    _Atomic uint32_t total, failed; // in it
    _Atomic int64_t open_until_us;  // of OPEN; in HALF_OPEN when lost probes are replaced
    _Atomic uint32_t probes, passes;
    _Atomic uint64_t refused; // calls, in all
};

struct moon_circuits;

struct moon_circuits *moon_circuits_new(struct moon_region *region, size_t count);

/// Finds or makes. @return NULL when the table is full
struct moon_circuit *moon_circuit_get(struct moon_circuits *circuits, struct moon_slice name);

/// May a call go out?
/// @param is_probe  written: its outcome decides; moon_circuit_done must follow
/// @param wait_us   written when it may not: how long until it is worth trying again
bool moon_circuit_admit(struct moon_circuit *circuit, const struct moon_circuit_rule *rule,
                        int64_t now_us, bool *is_probe, int64_t *wait_us);

/// How a call ended. @param open_us  the backend's own word (Retry-After); 0: the rule's
/// @return true when this call changed the state
bool moon_circuit_done(struct moon_circuit *circuit, const struct moon_circuit_rule *rule,
                       int64_t now_us, bool is_probe, bool is_failure, int64_t open_us);

/// A probe that ended without an outcome (its client left).
void moon_circuit_give_back(struct moon_circuit *circuit);

/// Every circuit in use. @return NULL past the last; *at starts at 0
const struct moon_circuit *moon_circuit_next(const struct moon_circuits *circuits, size_t *at);
