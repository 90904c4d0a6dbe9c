/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/circuit.h"

#include "base/hash.h"

struct moon_circuits {
    size_t cap;
    struct moon_circuit items[]; // an open table; a free row ends a run
};

struct moon_circuits *moon_circuits_new(struct moon_region *region, size_t count)
{
    struct moon_circuits *circuits = moon_region_carve(
        region, "circuits", sizeof(struct moon_circuits) + count * sizeof(struct moon_circuit));
    if (circuits != NULL)
        circuits->cap = count;
    return circuits;
}

struct moon_circuit *moon_circuit_get(struct moon_circuits *circuits, struct moon_slice name)
{
    uint64_t hash = moon_hash(name);
    hash += hash == 0;
    for (size_t i = 0; i < circuits->cap; i++) {
        struct moon_circuit *at = &circuits->items[(hash + i) % circuits->cap];
        uint64_t found = 0;
        // The winner writes the name, which only people read.
        if (atomic_compare_exchange_strong(&at->identity, &found, hash)) {
            memcpy(at->name, name.data, moon_min_size(name.len, sizeof(at->name) - 1));
            return at;
        }
        if (found == hash)
            return at;
    }
    return NULL;
}

static bool circuit_admit_probe(struct moon_circuit *circuit, const struct moon_circuit_rule *rule,
                                int64_t now_us, bool *is_probe, int64_t *wait_us)
{
    int64_t until = atomic_load(&circuit->open_until_us);
    if (atomic_load(&circuit->probes) >= rule->probes) {
        *wait_us = until > now_us ? until - now_us : 0;
        if (until > now_us || !atomic_compare_exchange_strong(&circuit->open_until_us, &until,
                                                              now_us + rule->open_us))
            return false;
        atomic_store(&circuit->probes, 0); // the ones before never told of their end
        atomic_store(&circuit->passes, 0);
    }
    if (atomic_fetch_add(&circuit->probes, 1) >= rule->probes) {
        *wait_us = rule->open_us;
        return false;
    }
    *is_probe = true;
    return true;
}

bool moon_circuit_admit(struct moon_circuit *circuit, const struct moon_circuit_rule *rule,
                        int64_t now_us, bool *is_probe, int64_t *wait_us)
{
    int state = atomic_load_explicit(&circuit->state, memory_order_acquire);
    *is_probe = false;
    *wait_us = 0;
    if (MOON_LIKELY(state == MOON_CIRCUIT_CLOSED))
        return true;
    if (state == MOON_CIRCUIT_OPEN) {
        int64_t until = atomic_load(&circuit->open_until_us);
        if (until > now_us) {
            *wait_us = until - now_us;
        } else if (atomic_compare_exchange_strong(&circuit->state, &state,
                                                  MOON_CIRCUIT_HALF_OPEN)) {
            atomic_store(&circuit->open_until_us, now_us + rule->open_us);
            atomic_store(&circuit->passes, 0);
            atomic_store(&circuit->probes, 0);
        }
    }
    bool is_in = *wait_us == 0 && circuit_admit_probe(circuit, rule, now_us, is_probe, wait_us);
    if (!is_in)
        atomic_fetch_add_explicit(&circuit->refused, 1, memory_order_relaxed);
    return is_in;
}

static bool circuit_open(struct moon_circuit *circuit, int from, int64_t until_us)
{
    if (atomic_load(&circuit->state) == from)
        atomic_store(&circuit->open_until_us, until_us); // before anybody sees it open
    if (!atomic_compare_exchange_strong(&circuit->state, &from, MOON_CIRCUIT_OPEN))
        return false;
    atomic_store(&circuit->total, 0);
    atomic_store(&circuit->failed, 0);
    return true;
}

static bool circuit_probe_done(struct moon_circuit *circuit, const struct moon_circuit_rule *rule,
                               int64_t now_us, bool is_failure, int64_t open_us)
{
    int state = MOON_CIRCUIT_HALF_OPEN;
    if (is_failure)
        return circuit_open(circuit, state, now_us + open_us);
    if (atomic_fetch_add(&circuit->passes, 1) + 1 < rule->probes)
        return false;
    atomic_store(&circuit->total, 0);
    atomic_store(&circuit->failed, 0);
    atomic_store(&circuit->window_us, now_us);
    return atomic_compare_exchange_strong(&circuit->state, &state, MOON_CIRCUIT_CLOSED);
}

bool moon_circuit_done(struct moon_circuit *circuit, const struct moon_circuit_rule *rule,
                       int64_t now_us, bool is_probe, bool is_failure, int64_t open_us)
{
    open_us = open_us > 0 ? open_us : rule->open_us;
    if (is_probe)
        return circuit_probe_done(circuit, rule, now_us, is_failure, open_us);
    int64_t began = atomic_load_explicit(&circuit->window_us, memory_order_relaxed);
    if (now_us - began >= rule->window_us &&
        atomic_compare_exchange_strong(&circuit->window_us, &began, now_us)) {
        atomic_store(&circuit->total, 0);
        atomic_store(&circuit->failed, 0);
    }
    uint32_t total = 1 + atomic_fetch_add_explicit(&circuit->total, 1, memory_order_relaxed);
    if (!is_failure)
        return false;
    uint32_t failed = 1 + atomic_fetch_add_explicit(&circuit->failed, 1, memory_order_relaxed);
    if (failed < rule->failures || (uint64_t)failed * 1000 < (uint64_t)total * rule->ratio_permille)
        return false;
    return circuit_open(circuit, MOON_CIRCUIT_CLOSED, now_us + open_us);
}

void moon_circuit_give_back(struct moon_circuit *circuit)
{
    uint32_t probes = atomic_load(&circuit->probes);
    while (probes > 0 && !atomic_compare_exchange_weak(&circuit->probes, &probes, probes - 1)) {
    }
}

const struct moon_circuit *moon_circuit_next(const struct moon_circuits *circuits, size_t *at)
{
    while (*at < circuits->cap) {
        const struct moon_circuit *circuit = &circuits->items[(*at)++];
        if (atomic_load_explicit(&circuit->identity, memory_order_acquire) != 0)
            return circuit;
    }
    return NULL;
}
