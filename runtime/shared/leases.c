/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/leases.h"

#include "base/hash.h"
#include "base/log.h"
#include "shared/board.h"
#include "shared/lock.h"

#include <stdatomic.h>

enum { LEASE_CELLS = 4096, LEASE_RUN = 32 };

struct moon_lease_cell {
    uint64_t key; // 0: never used
    _Atomic int32_t held[MOON_BOARD_WORKERS];
    _Atomic int32_t waiting[MOON_BOARD_WORKERS];
};

// Reading a page of a shared mapping takes it, too: whoever looks at all cells goes by `used`.
struct moon_leases {
    struct moon_lock lock;       // finding a cell and taking a slot of it
    _Atomic uint32_t used_count; // grows under the lock
    uint32_t used[LEASE_CELLS + LEASE_RUN];
    struct moon_lease_cell cells[LEASE_CELLS + LEASE_RUN];
};

struct moon_leases *moon_leases_new(struct moon_region *region)
{
    struct moon_leases *leases = moon_region_carve(region, "leases", sizeof(*leases));
    if (leases != NULL)
        moon_lock_init(&leases->lock);
    return leases;
}

// Without the lock: the supervisor must not wait for a worker that has it. The column is nobody's, and
// what the dead one has touched is listed.
void moon_leases_forget(struct moon_leases *leases, int worker)
{
    uint32_t count = atomic_load(&leases->used_count);
    for (uint32_t i = 0; i < count; i++) {
        struct moon_lease_cell *cell = &leases->cells[leases->used[i]];
        atomic_store(&cell->held[worker], 0);
        atomic_store(&cell->waiting[worker], 0);
    }
}

static int lease_sum(_Atomic int32_t *columns)
{
    int sum = 0;
    for (int i = 0; i < MOON_BOARD_WORKERS; i++)
        sum += atomic_load_explicit(&columns[i], memory_order_relaxed);
    return sum;
}

// The key's cell, or one that nobody holds or waits for. NULL: the table is full here.
static struct moon_lease_cell *lease_find(struct moon_leases *leases, uint64_t key)
{
    struct moon_lease_cell *run = &leases->cells[key % LEASE_CELLS], *idle = NULL;
    for (size_t i = 0; i < LEASE_RUN; i++) {
        if (run[i].key == key)
            return &run[i];
    }
    for (size_t i = 0; i < LEASE_RUN && idle == NULL; i++) {
        if (run[i].key == 0 || (lease_sum(run[i].held) == 0 && lease_sum(run[i].waiting) == 0))
            idle = &run[i];
    }
    if (idle == NULL)
        return NULL;
    // In this order: a cell with a key is listed, whenever its maker dies. One that is listed and has
    // no key is found again by the next who is looking here, and listed once more at worst.
    uint32_t used = atomic_load(&leases->used_count);
    if (idle->key == 0 && used < MOON_COUNT(leases->used)) {
        leases->used[used] = (uint32_t)(idle - leases->cells);
        atomic_store(&leases->used_count, used + 1);
    }
    idle->key = key;
    return idle;
}

enum moon_lease_answer moon_lease_take(struct moon_leases *leases, int worker,
                                       struct moon_slice key, int max, int queue, bool is_queued,
                                       struct moon_lease_cell **cell)
{
    enum moon_lease_answer answer = MOON_LEASE_FULL;
    uint64_t hash = moon_hash(key);
    if (!moon_lock_take(&leases->lock))
        moon_log_warn("a worker died while it took a lease"); // a cell is never half made
    struct moon_lease_cell *c = lease_find(leases, hash == 0 ? 1 : hash);
    if (c != NULL && lease_sum(c->held) < max) {
        atomic_fetch_add(&c->held[worker], 1);
        if (is_queued)
            atomic_fetch_sub(&c->waiting[worker], 1);
        answer = MOON_LEASE_HELD;
    } else if (c != NULL && is_queued) {
        answer = MOON_LEASE_QUEUED;
    } else if (c != NULL && lease_sum(c->waiting) < queue) {
        atomic_fetch_add(&c->waiting[worker], 1);
        answer = MOON_LEASE_QUEUED;
    }
    moon_lock_give(&leases->lock);
    *cell = c;
    return answer;
}

void moon_lease_release(struct moon_lease_cell *cell, int worker)
{
    atomic_fetch_sub(&cell->held[worker], 1);
}

bool moon_lease_step_back(struct moon_leases *leases, struct moon_lease_cell *cell, int worker,
                          int queue)
{
    if (!moon_lock_take(&leases->lock))
        moon_log_warn("a worker died while it took a lease");
    bool has_room = lease_sum(cell->waiting) < queue;
    if (has_room)
        atomic_fetch_add(&cell->waiting[worker], 1);
    atomic_fetch_sub(&cell->held[worker], 1);
    moon_lock_give(&leases->lock);
    return has_room;
}

void moon_lease_leave(struct moon_lease_cell *cell, int worker)
{
    atomic_fetch_sub(&cell->waiting[worker], 1);
}
