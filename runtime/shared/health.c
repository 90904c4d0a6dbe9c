/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/health.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "shared/lock.h"

struct moon_healths {
    struct moon_lock lock; // held to make a target; looking up takes none
    struct moon_circuits *circuits;
    _Atomic int64_t prober; // worker number + 1; 0: none
    _Atomic int64_t prober_until_us;
    size_t cap;
    // The rows that were made, in their order. Reading a page of a shared mapping takes it, too, so
    // whoever looks at all rows goes by these.
    uint32_t *made;       // cap of them
    _Atomic size_t count; // of `made`; published before the row's identity is
    _Atomic bool is_full_told;
    struct moon_health targets[]; // an open table; a free row ends a run
};

enum { HEALTH_CIRCUITS = 512 };

static int health_worker; // of this process

struct moon_healths *moon_healths_new(struct moon_region *region, size_t targets)
{
    size_t cap = targets + targets / 4 + 1; // short runs
    if (targets > SIZE_MAX / 4 / sizeof(struct moon_health))
        return NULL;
    struct moon_healths *healths = moon_region_carve(
        region, "health", sizeof(struct moon_healths) + cap * sizeof(struct moon_health));
    if (healths == NULL)
        return NULL;
    moon_lock_init(&healths->lock);
    healths->cap = cap;
    healths->made = moon_region_carve(region, "health rows", cap * sizeof(*healths->made));
    if (healths->made == NULL)
        return NULL;
    healths->circuits = moon_circuits_new(region, HEALTH_CIRCUITS);
    return healths->circuits == NULL ? NULL : healths;
}

struct moon_circuits *moon_healths_circuits(struct moon_healths *healths)
{
    return healths->circuits;
}

static int health_column(int worker)
{
    return worker >= 0 && worker < MOON_HEALTH_WORKERS ? worker : 0;
}

void moon_healths_bind(struct moon_healths *healths, int worker)
{
    health_worker = health_column(worker);
    moon_healths_forget(healths, worker);
}

void moon_healths_forget(struct moon_healths *healths, int worker)
{
    size_t count = atomic_load_explicit(&healths->count, memory_order_acquire);
    for (size_t i = 0; i < count; i++) {
        struct moon_health *health = &healths->targets[healths->made[i]];
        if (atomic_load_explicit(&health->identity, memory_order_acquire) == 0)
            continue;
        struct moon_health_share *share = &health->shares[health_column(worker)];
        atomic_fetch_sub(&health->in_flight, atomic_exchange(&share->in_flight, 0));
        atomic_fetch_sub(&health->connections, atomic_exchange(&share->connections, 0));
    }
    int64_t own = health_column(worker) + 1; // a lease of the one before is free
    (void)atomic_compare_exchange_strong(&healths->prober, &own, 0);
}

bool moon_healths_lease(struct moon_healths *healths, int64_t now_us, int64_t for_us)
{
    int64_t holder = atomic_load(&healths->prober);
    int64_t until = atomic_load(&healths->prober_until_us);
    if (holder != health_worker + 1) {
        if (holder != 0 && until > now_us)
            return false;
        if (!atomic_compare_exchange_strong(&healths->prober, &holder, health_worker + 1))
            return false;
    }
    atomic_store(&healths->prober_until_us, now_us + for_us);
    return true;
}

// A store, not an exchange: nobody else writes this worker's share.
static void health_count(_Atomic int64_t *sum, _Atomic int32_t *share, int32_t by)
{
    atomic_fetch_add_explicit(sum, by, memory_order_relaxed);
    atomic_store_explicit(share, atomic_load_explicit(share, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

void moon_health_enter(struct moon_health *health)
{
    health_count(&health->in_flight, &health->shares[health_worker].in_flight, 1);
}

void moon_health_leave(struct moon_health *health)
{
    health_count(&health->in_flight, &health->shares[health_worker].in_flight, -1);
}

void moon_health_connected(struct moon_health *health)
{
    health_count(&health->connections, &health->shares[health_worker].connections, 1);
}

void moon_health_disconnected(struct moon_health *health)
{
    health_count(&health->connections, &health->shares[health_worker].connections, -1);
}

static bool health_is_named(const struct moon_health *health, struct moon_slice identity)
{
    // A longer name than the field was cut; then the hash alone speaks.
    size_t n = moon_min_size(identity.len, sizeof(health->name) - 1);
    return memcmp(health->name, identity.data, n) == 0 && health->name[n] == '\0';
}

// The target's row, or the free row that ends its run; NULL when every row is taken by others.
static struct moon_health *health_find(struct moon_healths *healths, struct moon_slice identity,
                                       uint64_t hash)
{
    for (size_t i = 0; i < healths->cap; i++) {
        struct moon_health *at = &healths->targets[(hash + i) % healths->cap];
        uint64_t found = atomic_load_explicit(&at->identity, memory_order_acquire);
        if (found == 0 || (found == hash && health_is_named(at, identity)))
            return at;
    }
    return NULL;
}

// Under the lock. A row that its maker's death left without an identity is listed already.
static void health_list(struct moon_healths *healths, uint32_t row)
{
    size_t count = atomic_load(&healths->count);
    for (size_t i = 0; i < count; i++) {
        if (healths->made[i] == row)
            return;
    }
    healths->made[count] = row;
    atomic_store_explicit(&healths->count, count + 1, memory_order_release);
}

// The identity is published last: whoever sees it sees the whole row, and an owner that dies before
// leaves a row that is still free.
static struct moon_health *health_make(struct moon_healths *healths, struct moon_slice identity,
                                       uint64_t hash)
{
    struct moon_health *made = NULL;
    if (!moon_lock_take(&healths->lock))
        moon_log_warn("health: a worker died while it added a target; the table is whole");
    struct moon_health *at = health_find(healths, identity, hash);
    if (at != NULL && atomic_load(&at->identity) == hash) {
        made = at;
    } else if (at != NULL) {
        memset(at->name, 0, sizeof(at->name));
        memcpy(at->name, identity.data, moon_min_size(identity.len, sizeof(at->name) - 1));
        atomic_store(&at->changed_wall_ms, moon_clock_wall_ms());
        atomic_store(&at->up_since_us, moon_clock_us());
        health_list(healths, (uint32_t)(at - healths->targets));
        atomic_store_explicit(&at->identity, hash, memory_order_release);
        made = at;
    }
    moon_lock_give(&healths->lock);
    return made;
}

struct moon_health *moon_health_get(struct moon_healths *healths, struct moon_slice identity)
{
    uint64_t hash = moon_hash(identity);
    hash += hash == 0;
    struct moon_health *at = health_find(healths, identity, hash);
    if (at != NULL && atomic_load_explicit(&at->identity, memory_order_acquire) == 0)
        at = health_make(healths, identity, hash);
    if (at == NULL && !atomic_exchange(&healths->is_full_told, true))
        moon_log_error("health: the table of %zu targets is full; " MOON_SLICE_FMT " has no state",
                       healths->cap, MOON_SLICE_ARG(identity));
    return at;
}

static void health_changed(struct moon_health *health, const char *reason)
{
    size_t n = moon_min_size(strlen(reason), sizeof(health->reason) - 1);
    memcpy(health->reason, reason, n); // torn by a second writer at worst
    health->reason[n] = '\0';
    atomic_store_explicit(&health->changed_wall_ms, moon_clock_wall_ms(), memory_order_relaxed);
}

// Rare: it was ejected not long ago.
static void health_recover(struct moon_health *health)
{
    int64_t now_us = moon_clock_us();
    int64_t until = atomic_load(&health->ejected_until_us);
    if (until > now_us)
        return; // an answer to what was asked before
    if (until != 0 && atomic_compare_exchange_strong(&health->ejected_until_us, &until, 0)) {
        atomic_store(&health->up_since_us, now_us);
        health_changed(health, "answers again");
        moon_log_info("target %s answers again", health->name);
    }
    if (now_us - atomic_load(&health->up_since_us) >= atomic_load(&health->ejected_for_us))
        atomic_store(&health->ejections, 0);
}

void moon_health_success(struct moon_health *health)
{
    // Read before written: a healthy target's cache line stays shared.
    if (atomic_load_explicit(&health->failures, memory_order_relaxed) != 0)
        atomic_store_explicit(&health->failures, 0, memory_order_relaxed);
    if (MOON_UNLIKELY(atomic_load_explicit(&health->ejections, memory_order_relaxed) != 0))
        health_recover(health);
}

enum { HEALTH_EJECTIONS_MOST = 10 }; // without a limit of its own: ten times the base

bool moon_health_failure(struct moon_health *health, uint32_t threshold, int64_t base_ms,
                         int64_t max_ms, bool may_eject, int64_t now_us, const char *reason)
{
    uint32_t failures = 1 + atomic_fetch_add_explicit(&health->failures, 1, memory_order_relaxed);
    if (failures < threshold || !may_eject)
        return false;
    int64_t until = atomic_load(&health->ejected_until_us);
    if (until > now_us)
        return false; // another worker ejected it already
    uint32_t ejections = atomic_load(&health->ejections) + 1;
    int64_t most = max_ms > 0 ? max_ms : base_ms * HEALTH_EJECTIONS_MOST;
    int64_t for_ms = ejections > most / (base_ms > 0 ? base_ms : 1) ? most : base_ms * ejections;
    if (!atomic_compare_exchange_strong(&health->ejected_until_us, &until, now_us + for_ms * 1000))
        return false;
    atomic_store(&health->ejections, ejections);
    atomic_store(&health->ejected_for_us, for_ms * 1000);
    health_changed(health, reason);
    return true;
}

bool moon_health_probed(struct moon_health *health, bool is_well, uint32_t passes,
                        uint32_t failures, int64_t now_us, int64_t valid_us, const char *reason)
{
    int state = atomic_load(&health->state);
    atomic_store(&health->probed_until_us, now_us + valid_us);
    if (is_well) {
        atomic_store(&health->probe_failures, 0);
        uint32_t count = atomic_fetch_add(&health->probe_passes, 1) + 1;
        // The first answer of a target that nothing is known of is believed at once.
        if (state == MOON_HEALTH_UP || (state == MOON_HEALTH_DOWN && count < passes))
            return false;
        atomic_store(&health->state, MOON_HEALTH_UP);
        if (state == MOON_HEALTH_DOWN)
            atomic_store(&health->up_since_us, now_us);
    } else {
        atomic_store(&health->probe_passes, 0);
        uint32_t count = atomic_fetch_add(&health->probe_failures, 1) + 1;
        if (state == MOON_HEALTH_DOWN || count < failures)
            return false;
        atomic_store(&health->state, MOON_HEALTH_DOWN);
    }
    health_changed(health, reason);
    return true;
}

bool moon_health_is_probed_down(const struct moon_health *health, int64_t now_us)
{
    return atomic_load_explicit(&health->state, memory_order_relaxed) == MOON_HEALTH_DOWN &&
           atomic_load_explicit(&health->probed_until_us, memory_order_relaxed) > now_us;
}

bool moon_health_is_usable(const struct moon_health *health, int64_t now_us)
{
    return !moon_health_is_probed_down(health, now_us) &&
           atomic_load_explicit(&health->ejected_until_us, memory_order_relaxed) <= now_us;
}

const struct moon_health *moon_health_next(const struct moon_healths *healths, size_t *at)
{
    while (*at < atomic_load_explicit(&healths->count, memory_order_acquire)) {
        const struct moon_health *health = &healths->targets[healths->made[(*at)++]];
        if (atomic_load_explicit(&health->identity, memory_order_acquire) != 0)
            return health;
    }
    return NULL;
}
