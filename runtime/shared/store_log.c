/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/store_internal.h"

// @return false when a later entry, or this one, is known
static bool log_advance(_Atomic uint64_t *known, uint64_t position)
{
    uint64_t before = atomic_load(known);
    while (before < position) {
        if (atomic_compare_exchange_weak(known, &before, position))
            return true;
    }
    return false;
}

void moon_store_purge_logged(struct moon_store *store, uint64_t hash, uint64_t position)
{
    if (log_advance(&store->purged_at[hash % STORE_TAG_CELLS], position))
        moon_store_purge(store, hash);
}

void moon_store_note_logged(struct moon_store *store, uint64_t hash, uint64_t position)
{
    (void)log_advance(&store->purged_at[hash % STORE_TAG_CELLS], position);
    (void)log_advance(&store->log.reached, position);
}

void moon_store_log_read(struct moon_store *store, uint64_t position)
{
    atomic_store(&store->log.position, position);
    (void)log_advance(&store->log.reached, position);
}

bool moon_store_is_purged_since(const struct moon_store *store, uint64_t hash, uint64_t position)
{
    return atomic_load(&store->purged_at[hash % STORE_TAG_CELLS]) > position;
}

struct moon_store_log *moon_store_log(struct moon_store *store)
{
    return &store->log;
}
