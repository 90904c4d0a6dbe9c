/* SPDX-License-Identifier: Apache-2.0 */
#include "process/state.h"

#include "base/clock.h"
#include "base/hash.h"

enum {
    STATE_REGION_BYTES = 88 << 20, // beside the metrics; pages are taken as they are touched
    STATE_COUNTER_CELLS = 1 << 18,
    STATE_SERIES = 8192,
    STATE_TARGETS = 1024,
    STATE_CACHE_BYTES = 64 << 20,
};

enum moon_rc moon_state_new(int workers, size_t cache_bytes, struct moon_state *out)
{
    cache_bytes = cache_bytes == 0 ? STATE_CACHE_BYTES : cache_bytes;
    struct moon_state state = {
        .region =
            moon_region_new(STATE_REGION_BYTES + moon_metrics_bytes(workers, STATE_SERIES) +
                            moon_records_bytes() + moon_store_region_bytes(cache_bytes, workers))};
    if (state.region == NULL)
        return MOON_ERR_MEMORY;
    moon_hash_seed();
    state.board = moon_board_new(state.region, workers);
    state.counters = moon_counters_new(state.region, STATE_COUNTER_CELLS);
    state.metrics = moon_metrics_new(state.region, workers, STATE_SERIES);
    state.healths = moon_healths_new(state.region, STATE_TARGETS);
    state.tickets = moon_region_carve(state.region, "tls tickets", sizeof(struct moon_tls_tickets));
    state.flood = moon_flood_new(state.region);
    state.records = moon_records_new(state.region);
    state.leases = moon_leases_new(state.region);
    state.limits_board = moon_limits_board_new(state.region);
    state.store = moon_store_new(state.region, cache_bytes, workers);
    bool is_whole = state.flood != NULL && state.records != NULL && state.leases != NULL &&
                    state.store != NULL && state.limits_board != NULL && state.board != NULL &&
                    state.counters != NULL && state.metrics != NULL && state.healths != NULL &&
                    state.tickets != NULL;
    if (!is_whole) {
        moon_state_free(&state);
        return MOON_ERR_MEMORY;
    }
    moon_tls_ticket_rotate(state.tickets, moon_clock_wall_ms());
    *out = state;
    return MOON_OK;
}

void moon_state_forget_worker(struct moon_state *state, int number)
{
    moon_leases_forget(state->leases, number);
    moon_healths_forget(state->healths, number);
}

void moon_state_free(struct moon_state *state)
{
    moon_store_close(state->store);
    moon_region_free(state->region);
    *state = (struct moon_state){0};
}
