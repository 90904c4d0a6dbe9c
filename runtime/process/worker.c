/* SPDX-License-Identifier: Apache-2.0 */
#include "process/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/access_log.h"
#include "gateway/admission.h"
#include "process/sharing.h"

enum { WORKER_TICK_MS = 1000 };

// The supervisor sees when a turn has begun, and 0 while the worker waits for something to happen.
static void worker_woke(void *arg, int64_t real_us)
{
    struct moon_worker *worker = arg;
    atomic_store_explicit(&worker->env.slot->beat_us, real_us, memory_order_relaxed);
}

static void worker_turn(void *arg)
{
    struct moon_worker *worker = arg;
    struct moon_board_slot *slot = worker->env.slot;
    moon_board_add(&slot->turns, 1);
    if (worker->gateway.access_log != NULL)
        moon_access_log_flush(worker->gateway.access_log);
    int64_t now_us = moon_clock_real_us();
    int64_t began_us = atomic_load_explicit(&slot->beat_us, memory_order_relaxed);
    if (began_us > 0)
        moon_board_add(&slot->busy_us, now_us - began_us);
    if (began_us > 0)
        moon_admission_turned(&worker->gateway, now_us - began_us, now_us);
    atomic_store_explicit(&slot->beat_us, 0, memory_order_relaxed);
}

static void worker_tick(struct moon_timer *timer)
{
    struct moon_worker *worker = timer->owner;
    struct moon_generation *generation = worker->gateway.generation;
    moon_timer_set(timer, WORKER_TICK_MS);
    moon_sharing_trim(worker);
    if (generation == NULL)
        return;
    for (size_t i = 0; i < MOON_GATEWAY_LISTENERS; i++) {
        if (generation->tls[i] != NULL && moon_tls_server_refresh(generation->tls[i]))
            moon_log_info("certificates were replaced listener=%.*s",
                          MOON_SLICE_ARG(generation->plan->listeners[i].name));
    }
    moon_worker_watch_certificates(worker);
    moon_admission_tick(&worker->gateway);
    moon_script_idle(generation->script);
    atomic_store_explicit(&worker->env.slot->lua_bytes,
                          (int64_t)moon_script_memory(generation->script), memory_order_relaxed);
}

enum moon_rc moon_worker_init(struct moon_worker *worker, struct moon_state *state, int number)
{
    memset(worker, 0, sizeof(*worker));
    worker->number = number;
    worker->state = state;
    moon_list_init(&worker->sharings);
    worker->loop = moon_loop_new();
    if (worker->loop == NULL)
        return MOON_ERR_MEMORY;
    // MOONGATE_DNS_SERVERS: name servers in place of /etc/resolv.conf, "192.0.2.1:53,...".
    worker->dns =
        moon_dns_new(worker->loop, getenv("MOONGATE_DNS_SERVERS")); // NOLINT(concurrency-mt-unsafe)
    if (worker->dns == NULL) {
        moon_loop_free(worker->loop);
        return MOON_ERR_MEMORY;
    }
    worker->background = moon_background_new(worker->loop);
    if (worker->background == NULL) {
        moon_dns_free(worker->dns);
        moon_loop_free(worker->loop);
        return MOON_ERR_MEMORY;
    }
    moon_metrics_bind(state->metrics, number);
    moon_healths_bind(state->healths, number);
    worker->seat = moon_store_seat_new(state->store, number);
    moon_flights_init(&worker->flights, worker->loop, worker->seat);
    moon_upstreams_init(&worker->upstreams, worker->loop, worker->dns, state->healths);
    worker->upstreams.metrics = state->metrics;
    worker->env = (struct moon_script_env){
        .loop = worker->loop,
        .upstreams = &worker->upstreams,
        .dns = worker->dns,
        .counters = state->counters,
        .flood = state->flood,
        .records = state->records,
        .flights = &worker->flights,
        .metrics = state->metrics,
        .leases = state->leases,
        .errands = &worker->gateway.errands,
        .worker = number,
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
    moon_background_free(worker->background);
    moon_sharing_trim(worker);
    moon_flights_fini(&worker->flights);
    moon_store_seat_free(worker->seat);
    moon_upstreams_fini(&worker->upstreams);
    moon_dns_free(worker->dns);
    moon_loop_free(worker->loop);
    moon_arena_trim();
    moon_buf_trim();
}

// A configuration that is loaded in one piece takes long. What the turn took so far then says nothing
// of how overrun the worker is: requests that are behind it in this turn must not be shed for it.
static void worker_begin_turn_anew(struct moon_worker *worker)
{
    struct moon_board_slot *slot = worker->env.slot;
    if (slot == NULL || atomic_load_explicit(&slot->beat_us, memory_order_relaxed) == 0)
        return;
    int64_t now_us = moon_clock_real_us();
    worker_woke(worker, now_us);
    worker->gateway.admission.turned_at_us = now_us;
}

static void worker_generation_freed(struct moon_generation *generation)
{
    moon_sharing_release(generation->sharing);
}

static enum moon_rc worker_build(struct moon_worker *worker, const struct moon_bundle *bundle,
                                 uint32_t number, char **error, struct moon_generation **out)
{
    struct moon_generation *generation;
    enum moon_rc rc = moon_generation_new(&worker->env, bundle, number, worker->state->tickets,
                                          error, &generation);
    if (rc != MOON_OK)
        return rc;
    generation->background = worker->background;
    *out = generation;
    if (worker->env.is_checking)
        return MOON_OK;
    struct moon_sharing *sharing;
    char text[512] = "";
    rc = moon_sharing_acquire(worker, generation->plan, text, sizeof(text), &sharing);
    if (rc != MOON_OK) {
        char where[600];
        (void)snprintf(where, sizeof(where), "gateway.lua: redis.url: %s",
                       text[0] == '\0' ? moon_rc_text(rc) : text);
        *error = strdup(where);
        *out = NULL;
        moon_generation_release(generation);
        return rc;
    }
    generation->sharing = sharing;
    generation->on_free = worker_generation_freed;
    moon_script_set_limits(generation->script, moon_sharing_limits(sharing));
    moon_script_set_tier(generation->script, moon_sharing_tier(sharing));
    moon_script_set_flood_share(generation->script, moon_sharing_flood(sharing));
    return MOON_OK;
}

enum moon_rc moon_worker_load(struct moon_worker *worker, const struct moon_bundle *bundle,
                              uint32_t number, char **error)
{
    moon_worker_abort_load(worker);
    moon_background_finish(worker->background); // what is to be freed goes first
    enum moon_rc rc = worker_build(worker, bundle, number, error, &worker->next);
    worker_begin_turn_anew(worker);
    return rc;
}

struct moon_worker_load {
    struct moon_job job;
    struct moon_worker *worker;
    struct moon_bundle *bundle;
    uint32_t number;
    moon_worker_loaded_fn *loaded;
    bool is_given_up;
};

static void worker_load_run(struct moon_job *job)
{
    struct moon_worker_load *load = MOON_CONTAINER_OF(job, struct moon_worker_load, job);
    struct moon_worker *worker = load->worker;
    struct moon_generation *generation = NULL;
    char *error = NULL;
    enum moon_rc rc = MOON_OK;
    if (!load->is_given_up)
        rc = worker_build(worker, load->bundle, load->number, &error, &generation);
    worker_begin_turn_anew(worker); // the first one is loaded in one piece
    if (load->is_given_up) {        // meanwhile, it may be
        moon_generation_release(generation);
    } else {
        worker->loading = NULL;
        worker->next = generation;
        load->loaded(worker, load->number, rc, error == NULL ? moon_rc_text(rc) : error);
    }
    free(error);
    moon_bundle_free(load->bundle);
    free(load);
}

void moon_worker_start_load(struct moon_worker *worker, struct moon_bundle *bundle, uint32_t number,
                            moon_worker_loaded_fn *loaded)
{
    struct moon_worker_load *load = calloc(1, sizeof(*load));
    moon_worker_abort_load(worker);
    if (load == NULL) {
        moon_bundle_free(bundle);
        loaded(worker, number, MOON_ERR_MEMORY, moon_rc_text(MOON_ERR_MEMORY));
        return;
    }
    *load = (struct moon_worker_load){.job = {.run = worker_load_run},
                                      .worker = worker,
                                      .bundle = bundle,
                                      .number = number,
                                      .loaded = loaded};
    worker->loading = load;
    moon_background_post(worker->background, &load->job);
    if (worker->gateway.generation == NULL) // nobody waits for anything else
        moon_background_finish(worker->background);
}

void moon_worker_flip(struct moon_worker *worker)
{
    MOON_ASSERT(worker->next != NULL);
    struct moon_generation *next = worker->next;
    worker->next = NULL;
    if (next->sharing != NULL)
        moon_sharing_lead(worker, next->sharing);
    moon_gateway_flip(&worker->gateway, next);
}

void moon_worker_abort_load(struct moon_worker *worker)
{
    if (worker->loading != NULL)
        worker->loading->is_given_up = true;
    worker->loading = NULL;
    moon_generation_release(worker->next);
    worker->next = NULL;
}
