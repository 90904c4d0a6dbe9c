/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "base/log.h"
#include "upstream/maglev.h"

enum {
    BALANCE_SCALE = 100,    // of weights, so that a slow start has steps
    BALANCE_SLOW_LEAST = 10 // percent of its weight that a target begins with
};

/// What a choice looks at; made once per choice.
struct balance {
    struct moon_backend *backend;
    struct moon_members *members;
    const struct moon_choice *choice;
    int64_t now_us;
    int priority;        // of the group in use
    bool is_panic;       // health is not looked at
    bool is_last_resort; // ejected ones may be taken, too; those that probes found down may not
};

uint64_t moon_balance_hash(struct moon_slice key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); // FNV-1a, then mixed: equal on every node
    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (uint8_t)key.data[i]) * UINT64_C(0x100000001b3);
    return moon_hash_mix(hash);
}

static bool balance_is_usable(const struct moon_target *target, int64_t now_us)
{
    return target->pool->health == NULL || moon_health_is_usable(target->pool->health, now_us);
}

static bool balance_is_tried(const struct balance *b, size_t i)
{
    return (b->choice->tried >> (i & 63) & 1) != 0;
}

static bool balance_is_candidate(const struct balance *b, size_t i)
{
    const struct moon_target *target = &b->members->targets[i];
    if (balance_is_tried(b, i) || target->conf->priority != b->priority ||
        target->conf->weight == 0)
        return false;
    if (b->is_panic || balance_is_usable(target, b->now_us))
        return true;
    return b->is_last_resort && !moon_health_is_probed_down(target->pool->health, b->now_us);
}

// Its weight, scaled; less while it starts slowly.
static int64_t balance_weight(const struct balance *b, const struct moon_target *target)
{
    int64_t weight = (int64_t)target->conf->weight * BALANCE_SCALE;
    int64_t slow_us = b->backend->conf->slow_start_ms * 1000;
    if (slow_us == 0 || target->pool->health == NULL)
        return weight;
    int64_t up_us =
        b->now_us - atomic_load_explicit(&target->pool->health->up_since_us, memory_order_relaxed);
    if (up_us >= slow_us)
        return weight;
    int64_t percent = up_us < 0 ? 0 : up_us * 100 / slow_us;
    percent = percent < BALANCE_SLOW_LEAST ? BALANCE_SLOW_LEAST : percent;
    weight = weight * percent / 100;
    return weight > 0 ? weight : 1;
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
    int64_t total = 0;
    for (size_t i = 0; i < b->members->count; i++) {
        struct moon_target *target = &b->members->targets[i];
        if (!balance_is_candidate(b, i))
            continue;
        int64_t weight = balance_weight(b, target);
        target->current_weight += weight;
        total += weight;
        if (best == NULL || target->current_weight > best->current_weight)
            best = target;
    }
    if (best != NULL)
        best->current_weight -= total;
    return best;
}

static int64_t balance_sum(const struct balance *b, size_t *count)
{
    int64_t sum = 0;
    *count = 0;
    for (size_t i = 0; i < b->members->count; i++) {
        if (!balance_is_candidate(b, i))
            continue;
        sum += balance_weight(b, &b->members->targets[i]);
        (*count)++;
    }
    return sum;
}

// One at random, by weight.
static struct moon_target *balance_draw(const struct balance *b, int64_t sum)
{
    int64_t at = sum > 0 ? (int64_t)(moon_random_fast() % (uint64_t)sum) : 0;
    struct moon_target *last = NULL;
    for (size_t i = 0; i < b->members->count; i++) {
        if (!balance_is_candidate(b, i))
            continue;
        last = &b->members->targets[i];
        at -= balance_weight(b, last);
        if (at < 0)
            break;
    }
    return last;
}

// The one that the next request makes the least loaded, for its weight.
static bool balance_is_lighter(const struct balance *b, const struct moon_target *one,
                               const struct moon_target *other)
{
    return (balance_load(one) + 1) * balance_weight(b, other) <
           (balance_load(other) + 1) * balance_weight(b, one);
}

// Exact for up to four members; beyond that the lighter of two drawn at random.
static struct moon_target *balance_least_requests(struct balance *b)
{
    size_t n;
    int64_t sum = balance_sum(b, &n);
    if (n > 4) {
        struct moon_target *first = balance_draw(b, sum);
        struct moon_target *second = balance_draw(b, sum);
        return balance_is_lighter(b, second, first) ? second : first;
    }
    struct moon_target *best = NULL;
    size_t start = n > 0 ? moon_random_fast() % b->members->count : 0;
    for (size_t k = 0; n > 0 && k < b->members->count; k++) {
        size_t i = (start + k) % b->members->count;
        if (!balance_is_candidate(b, i))
            continue;
        struct moon_target *target = &b->members->targets[i];
        if (best == NULL || balance_is_lighter(b, target, best))
            best = target;
    }
    return best;
}

static bool balance_accepts(void *arg, size_t i)
{
    return balance_is_candidate(arg, i);
}

static struct moon_target *balance_random(struct balance *b)
{
    size_t n;
    int64_t sum = balance_sum(b, &n);
    return n == 0 ? NULL : balance_draw(b, sum);
}

static struct moon_target *balance_pick(struct balance *b)
{
    switch (b->backend->conf->balance) {
    case MOON_BALANCE_ROUND_ROBIN:
        return balance_round_robin(b);
    case MOON_BALANCE_LEAST_REQUESTS:
        return balance_least_requests(b);
    case MOON_BALANCE_RANDOM:
        return balance_random(b);
    case MOON_BALANCE_HASH:
        return moon_maglev_find(b->members, b->choice->hash, balance_accepts, b);
    }
    return NULL;
}

// The next priority above `above` that any target has. @return false when there is none
static bool balance_next_priority(struct balance *b, int above)
{
    bool is_found = false;
    for (size_t i = 0; i < b->members->count; i++) {
        int priority = b->members->targets[i].conf->priority;
        if (priority > above && (!is_found || priority < b->priority)) {
            b->priority = priority;
            is_found = true;
        }
    }
    return is_found;
}

static struct moon_target *balance_by_priority(struct balance *b)
{
    for (int above = -1; balance_next_priority(b, above); above = b->priority) {
        struct moon_target *target = balance_pick(b);
        if (target != NULL)
            return target;
    }
    return NULL;
}

static bool balance_is_probed_down(const struct moon_members *members, int64_t now_us)
{
    for (size_t i = 0; i < members->count; i++) {
        const struct moon_health *health = members->targets[i].pool->health;
        if (health == NULL || !moon_health_is_probed_down(health, now_us))
            return false;
    }
    return true;
}

// Too few are left for the load of all: then health is not looked at.
static bool balance_must_panic(const struct balance *b)
{
    size_t usable = 0, all = 0;
    for (size_t i = 0; i < b->members->count; i++) {
        const struct moon_target *target = &b->members->targets[i];
        if (target->conf->weight == 0)
            continue;
        all++;
        usable += balance_is_usable(target, b->now_us) ? 1 : 0;
    }
    return usable * 100 < all * (size_t)b->backend->conf->panic_percent &&
           !balance_is_probed_down(b->members, b->now_us);
}

// The client's own target, drained or not, for as long as it is up.
static struct moon_target *balance_affine(const struct balance *b)
{
    for (size_t i = 0; i < b->members->count; i++) {
        struct moon_target *target = &b->members->targets[i];
        if (target->key == b->choice->affinity && !balance_is_tried(b, i) &&
            balance_is_usable(target, b->now_us))
            return target;
    }
    return NULL;
}

struct moon_target *moon_backend_choose(struct moon_backend *backend,
                                        const struct moon_choice *choice)
{
    struct moon_members *members = backend->members;
    struct balance b = {.backend = backend,
                        .members = members,
                        .choice = choice,
                        .now_us = moon_loop_now_ms(backend->upstreams->loop) * 1000};
    if (members->count == 1 && choice->tried == 0 && members->targets[0].conf->weight > 0 &&
        (choice->is_forced || !balance_is_probed_down(members, b.now_us)))
        return &members->targets[0]; // nowhere else to go, ejected or not
    if (choice->affinity != 0) {
        struct moon_target *target = balance_affine(&b);
        if (target != NULL)
            return target;
    }
    b.is_panic = balance_must_panic(&b);
    struct moon_target *target = balance_by_priority(&b);
    if (target != NULL || b.is_panic || balance_is_probed_down(members, b.now_us))
        return target;
    // All that are usable were tried, or none is.
    b.is_panic = backend->conf->panic_percent > 0 && choice->tried == 0;
    b.is_last_resort = backend->conf->panic_percent > 0;
    return b.is_last_resort ? balance_by_priority(&b) : NULL;
}
