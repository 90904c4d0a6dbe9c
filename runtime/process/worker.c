/* SPDX-License-Identifier: Apache-2.0 */
#include "process/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/access_log.h"

enum { WORKER_TICK_MS = 1000 };

// The supervisor sees when a turn has begun, and 0 while the worker waits for something to happen.
static void worker_woke(void *arg)
{
    struct moon_worker *worker = arg;
    atomic_store_explicit(&worker->env.slot->beat_us, moon_clock_real_us(), memory_order_relaxed);
}

static void worker_turn(void *arg)
{
    struct moon_worker *worker = arg;
    struct moon_board_slot *slot = worker->env.slot;
    atomic_fetch_add_explicit(&slot->turns, 1, memory_order_relaxed);
    if (worker->gateway.access_log != NULL)
        moon_access_log_flush(worker->gateway.access_log);
    atomic_store_explicit(&slot->beat_us, 0, memory_order_relaxed);
}

static void worker_tick(struct moon_timer *timer)
{
    struct moon_worker *worker = timer->owner;
    struct moon_generation *generation = worker->gateway.generation;
    moon_timer_set(timer, WORKER_TICK_MS);
    if (generation == NULL)
        return;
    for (size_t i = 0; i < MOON_GATEWAY_LISTENERS; i++) {
        if (generation->tls[i] != NULL && moon_tls_server_refresh(generation->tls[i]))
            moon_log_info("certificates of listener %zu were replaced", i + 1);
    }
    moon_script_idle(generation->script);
    atomic_store_explicit(&worker->env.slot->lua_bytes,
                          (int64_t)moon_script_memory(generation->script), memory_order_relaxed);
}

enum moon_rc moon_worker_init(struct moon_worker *worker, struct moon_state *state, int number)
{
    memset(worker, 0, sizeof(*worker));
    worker->number = number;
    worker->state = state;
    worker->loop = moon_loop_new();
    if (worker->loop == NULL)
        return MOON_ERR_MEMORY;
    worker->dns = moon_dns_new(worker->loop, NULL);
    if (worker->dns == NULL) {
        moon_loop_free(worker->loop);
        return MOON_ERR_MEMORY;
    }
    moon_metrics_bind(state->metrics, number);
    moon_upstreams_init(&worker->upstreams, worker->loop, worker->dns, state->healths);
    worker->env = (struct moon_script_env){
        .loop = worker->loop,
        .upstreams = &worker->upstreams,
        .dns = worker->dns,
        .counters = state->counters,
        .metrics = state->metrics,
        .slot = &state->board->slots[number],
    };
    moon_gateway_init(&worker->gateway, &worker->env, state->board, state->tickets);
    worker->gateway.owner = worker;
    moon_loop_on_turn(worker->loop, worker_turn, worker);
    moon_loop_on_wake(worker->loop, worker_woke, worker);
    moon_timer_init(&worker->tick, worker->loop, worker_tick, worker);
    moon_timer_set(&worker->tick, WORKER_TICK_MS);
    return MOON_OK;
}

void moon_worker_fini(struct moon_worker *worker)
{
    moon_timer_stop(&worker->tick);
    moon_worker_abort_load(worker);
    moon_gateway_fini(&worker->gateway);
    moon_upstreams_fini(&worker->upstreams);
    moon_dns_free(worker->dns);
    moon_loop_free(worker->loop);
    moon_arena_trim();
    moon_buf_trim();
}

enum moon_rc moon_worker_load(struct moon_worker *worker, const struct moon_bundle *bundle,
                              uint32_t number, char **error)
{
    moon_worker_abort_load(worker);
    return moon_generation_new(&worker->env, bundle, number, worker->state->tickets, error,
                               &worker->next);
}

void moon_worker_flip(struct moon_worker *worker)
{
    MOON_ASSERT(worker->next != NULL);
    struct moon_generation *next = worker->next;
    worker->next = NULL;
    moon_gateway_flip(&worker->gateway, next);
}

void moon_worker_abort_load(struct moon_worker *worker)
{
    moon_generation_release(worker->next);
    worker->next = NULL;
}
