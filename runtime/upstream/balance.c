/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/upstream.h"

#include "base/clock.h"
#include "base/hash.h"

/// What a choice looks at; made once per choice.
struct balance {
    struct moon_backend *backend;
    uint64_t tried;
    int64_t now_us;
    int priority;    // of the group in use
    bool is_panic;   // health is not looked at
};

static bool balance_is_candidate(const struct balance *b, size_t i)
{
    const struct moon_target *target = &b->backend->targets[i];
    if ((b->tried >> (i & 63) & 1) != 0 || target->conf->priority != b->priority)
        return false;
    return b->is_panic || target->pool->health == NULL ||
           moon_health_is_usable(target->pool->health, b->now_us);
}

static int64_t balance_load(const struct moon_target *target)
{
    const struct moon_health *health = target->pool->health;
    return health == NULL ? 0 : atomic_load_explicit(&health->in_flight, memory_order_relaxed);
}

// Smooth weighted round robin: every candidate gains its weight, the richest is taken and pays the
// sum of all. Equal weights give plain turns.
static struct moon_target *balance_round_robin(struct balance *b)
{
    struct moon_target *best = NULL;
    int total = 0;
    for (size_t i = 0; i < b->backend->target_count; i++) {
        struct moon_target *target = &b->backend->targets[i];
        if (!balance_is_candidate(b, i))
            continue;
        target->current_weight += target->conf->weight;
        total += target->conf->weight;
        if (best == NULL || target->current_weight > best->current_weight)
            best = target;
    }
    if (best != NULL)
        best->current_weight -= total;
    return best;
}

static struct moon_target *balance_nth(struct balance *b, uint64_t nth)
{
    for (size_t i = 0; i < b->backend->target_count; i++) {
        if (balance_is_candidate(b, i) && nth-- == 0)
            return &b->backend->targets[i];
    }
    return NULL;
}

static size_t balance_count(const struct balance *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->backend->target_count; i++)
        n += balance_is_candidate(b, i) ? 1 : 0;
    return n;
}

static bool balance_is_lighter(const struct moon_target *a, const struct moon_target *b)
{
    return balance_load(a) * b->conf->weight < balance_load(b) * a->conf->weight;
}

// Exact for up to four members; beyond that the lighter of two drawn at random.
static struct moon_target *balance_least_requests(struct balance *b)
{
    size_t n = balance_count(b);
    if (n == 0)
        return NULL;
    if (n > 4) {
        struct moon_target *first = balance_nth(b, moon_random_fast() % n);
        struct moon_target *second = balance_nth(b, moon_random_fast() % n);
        return balance_is_lighter(second, first) ? second : first;
    }
    size_t start = moon_random_fast() % n;
    struct moon_target *best = NULL;
    for (size_t i = 0; i < n; i++) {
        struct moon_target *target = balance_nth(b, (start + i) % n);
        if (best == NULL || balance_is_lighter(target, best))
            best = target;
    }
    return best;
}

// Rendezvous hashing: the member with the highest score; when it leaves, only its keys move.
static struct moon_target *balance_hash(struct balance *b, uint64_t hash)
{
    struct moon_target *best = NULL;
    uint64_t best_score = 0;
    for (size_t i = 0; i < b->backend->target_count; i++) {
        struct moon_target *target = &b->backend->targets[i];
        if (!balance_is_candidate(b, i))
            continue;
        for (int w = 0; w < target->conf->weight; w++) {
            uint64_t score = moon_hash_mix(hash ^ moon_hash(target->conf->identity) ^
                                           (uint64_t)w * UINT64_C(0x9e3779b97f4a7c15));
            if (best == NULL || score > best_score) {
                best = target;
                best_score = score;
            }
        }
    }
    return best;
}

static struct moon_target *balance_pick(struct balance *b, uint64_t hash)
{
    switch (b->backend->conf->balance) {
    case MOON_BALANCE_ROUND_ROBIN:
        return balance_round_robin(b);
    case MOON_BALANCE_LEAST_REQUESTS:
        return balance_least_requests(b);
    case MOON_BALANCE_RANDOM: {
        size_t n = balance_count(b);
        return n == 0 ? NULL : balance_nth(b, moon_random_fast() % n);
    }
    case MOON_BALANCE_HASH:
        return balance_hash(b, hash);
    }
    return NULL;
}

// The next priority above `above` that any target has. @return false when there is none
static bool balance_next_priority(struct balance *b, int above)
{
    bool is_found = false;
    for (size_t i = 0; i < b->backend->target_count; i++) {
        int priority = b->backend->targets[i].conf->priority;
        if (priority > above && (!is_found || priority < b->priority)) {
            b->priority = priority;
            is_found = true;
        }
    }
    return is_found;
}

static bool balance_is_probed_down(const struct moon_backend *backend)
{
    for (size_t i = 0; i < backend->target_count; i++) {
        const struct moon_health *health = backend->targets[i].pool->health;
        if (health == NULL || atomic_load(&health->state) != MOON_HEALTH_DOWN)
            return false;
    }
    return true;
}

struct moon_target *moon_backend_choose(struct moon_backend *backend, uint64_t tried, uint64_t hash)
{
    struct balance b = {.backend = backend, .tried = tried, .now_us = moon_clock_us()};
    if (backend->target_count == 1 && tried == 0 && !balance_is_probed_down(backend))
        return &backend->targets[0]; // nowhere else to go, ejected or not
    for (int above = -1; balance_next_priority(&b, above); above = b.priority) {
        struct moon_target *target = balance_pick(&b, hash);
        if (target != NULL)
            return target;
    }
    if (balance_is_probed_down(backend))
        return NULL;
    b.is_panic = true;
    for (int above = -1; balance_next_priority(&b, above); above = b.priority) {
        struct moon_target *target = balance_pick(&b, hash);
        if (target != NULL)
            return target;
    }
    return NULL;
}
