/* SPDX-License-Identifier: Apache-2.0 */
#include "process/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/access_log.h"
#include "gateway/admission.h"
#include "upstream/limits.h"
#include "upstream/redis.h"

enum { WORKER_TICK_MS = 1000 };

// The supervisor sees when a turn has begun, and 0 while the worker waits for something to happen.
static void worker_woke(void *arg)
{
    struct moon_worker *worker = arg;
    atomic_store_explicit(&worker->env.slot->beat_us, moon_clock_real_us(), memory_order_relaxed);
}

static void board_add(_Atomic int64_t *cell, int64_t amount)
{
    // Nobody else writes it.
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

static void worker_turn(void *arg)
{
    struct moon_worker *worker = arg;
    struct moon_board_slot *slot = worker->env.slot;
    atomic_fetch_add_explicit(&slot->turns, 1, memory_order_relaxed);
    if (worker->gateway.access_log != NULL)
        moon_access_log_flush(worker->gateway.access_log);
    int64_t now_us = moon_clock_real_us();
    int64_t began_us = atomic_load_explicit(&slot->beat_us, memory_order_relaxed);
    if (began_us > 0)
        board_add(&slot->busy_us, now_us - began_us);
    if (began_us > 0)
        moon_admission_turned(&worker->gateway, now_us - began_us, now_us);
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
    moon_worker_watch_certificates(worker);
    moon_admission_tick(&worker->gateway);
    moon_script_idle(generation->script);
    atomic_store_explicit(&worker->env.slot->lua_bytes,
                          (int64_t)moon_script_memory(generation->script), memory_order_relaxed);
}

/// A Redis that some generation names. Kept to the worker's end: older generations may use it still.
struct worker_store {
    struct moon_list link;
    char *url;
    struct moon_redis *redis;
    struct moon_limits *limits;
    struct moon_cache_tier *tier; // NULL: there is no Redis, or no store
};

static void worker_store_free(struct worker_store *store)
{
    moon_list_remove(&store->link);
    moon_limits_free(store->limits);
    moon_cache_tier_free(store->tier);
    moon_redis_free(store->redis);
    free(store->url);
    free(store);
}

static struct worker_store *worker_store_find(struct moon_worker *worker, struct moon_slice url)
{
    MOON_LIST_EACH(at, after, &worker->stores)
    {
        struct worker_store *store = MOON_LIST_ENTRY(at, struct worker_store, link);
        if (moon_slice_is(moon_slice_text(store->url), url))
            return store;
    }
    return NULL;
}

// Connects to the Redis of a URL; an empty URL gives limits of this node alone.
static enum moon_rc worker_store_open(struct worker_store *store, struct moon_worker *worker,
                                      const struct moon_plan *plan, char *error, size_t error_cap)
{
    struct moon_limits_options options;
    moon_limits_options_init(&options);
    if (plan->redis_url.len > 0) {
        struct moon_redis_conf conf;
        moon_redis_conf_init(&conf);
        enum moon_rc rc = moon_redis_conf_url(&conf, plan->redis_url, error, error_cap);
        if (plan->redis_user.len > 0 &&
            !moon_slice_copy_text(plan->redis_user, conf.user, sizeof(conf.user)))
            rc = MOON_ERR_CONFIG;
        if (plan->redis_password.len > 0 &&
            !moon_slice_copy_text(plan->redis_password, conf.password, sizeof(conf.password)))
            rc = MOON_ERR_CONFIG;
        if (plan->redis_sentinel_password.len > 0 &&
            !moon_slice_copy_text(plan->redis_sentinel_password, conf.sentinel_password,
                                  sizeof(conf.sentinel_password)))
            rc = MOON_ERR_CONFIG;
        conf.deadline_ms = options.deadline_ms = plan->redis_timeout_ms;
        conf.connect_ms = plan->redis_connect_ms;
        if (plan->redis_prefix.len > 0)
            options.prefix = plan->redis_prefix;
        conf.reply_bytes = moon_max_size(conf.reply_bytes, plan->shared_cache_object_bytes + 4096);
        if (rc == MOON_OK && conf.is_tls)
            rc = moon_tls_client_new(&plan->redis_tls, error, error_cap, &conf.tls);
        if (rc != MOON_OK)
            return rc;
        store->redis = moon_redis_new(worker->loop, worker->dns, &conf);
        moon_tls_client_release(conf.tls);
        if (store->redis == NULL)
            return MOON_ERR_MEMORY;
        if (worker->seat != NULL)
            store->tier =
                moon_cache_tier_new(worker->loop, store->redis, worker->seat, plan->redis_url,
                                    options.prefix, plan->shared_cache_object_bytes);
        if (worker->seat != NULL && store->tier == NULL)
            return MOON_ERR_MEMORY;
    }
    store->limits = moon_limits_new(worker->loop, store->redis, worker->state->counters,
                                    worker->state->limits_board, &options);
    return store->limits == NULL ? MOON_ERR_MEMORY : MOON_OK;
}

// What a generation's policies count by and share.
static enum moon_rc worker_limits(struct moon_worker *worker, const struct moon_plan *plan,
                                  char *error, size_t error_cap, struct worker_store **out)
{
    struct worker_store *store = worker_store_find(worker, plan->redis_url);
    if (store == NULL) {
        store = calloc(1, sizeof(*store));
        if (store == NULL)
            return MOON_ERR_MEMORY;
        moon_list_push_back(&worker->stores, &store->link);
        store->url =
            strndup(plan->redis_url.len > 0 ? plan->redis_url.data : "", plan->redis_url.len);
        enum moon_rc rc = store->url == NULL
                              ? MOON_ERR_MEMORY
                              : worker_store_open(store, worker, plan, error, error_cap);
        if (rc != MOON_OK) {
            worker_store_free(store);
            return rc;
        }
    }
    *out = store;
    return MOON_OK;
}

enum moon_rc moon_worker_init(struct moon_worker *worker, struct moon_state *state, int number)
{
    memset(worker, 0, sizeof(*worker));
    worker->number = number;
    worker->state = state;
    moon_list_init(&worker->stores);
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
    moon_metrics_bind(state->metrics, number);
    moon_leases_bind(state->leases, number);
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
        .flights = &worker->flights,
        .metrics = state->metrics,
        .leases = state->leases,
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
    MOON_LIST_EACH(at, after, &worker->stores)
    worker_store_free(MOON_LIST_ENTRY(at, struct worker_store, link));
    moon_flights_fini(&worker->flights);
    moon_store_seat_free(worker->seat);
    moon_upstreams_fini(&worker->upstreams);
    moon_dns_free(worker->dns);
    moon_loop_free(worker->loop);
    moon_arena_trim();
    moon_buf_trim();
}

// A configuration may take long to load, or to free. What the turn took so far then says nothing of
// how overrun the worker is: requests that are behind it in this turn must not be shed for it.
static void worker_begin_turn_anew(struct moon_worker *worker)
{
    struct moon_board_slot *slot = worker->env.slot;
    if (slot == NULL || atomic_load_explicit(&slot->beat_us, memory_order_relaxed) == 0)
        return;
    worker_woke(worker);
    worker->gateway.admission.turned_at_us = moon_clock_real_us();
}

static enum moon_rc worker_load(struct moon_worker *worker, const struct moon_bundle *bundle,
                                uint32_t number, char **error)
{
    moon_worker_abort_load(worker);
    enum moon_rc rc = moon_generation_new(&worker->env, bundle, number, worker->state->tickets,
                                          error, &worker->next);
    if (rc != MOON_OK || worker->env.is_checking)
        return rc;
    struct worker_store *store;
    char text[512] = "";
    rc = worker_limits(worker, worker->next->plan, text, sizeof(text), &store);
    if (rc != MOON_OK) {
        char where[600];
        (void)snprintf(where, sizeof(where), "gateway.lua: redis.url: %s",
                       text[0] == '\0' ? moon_rc_text(rc) : text);
        *error = strdup(where);
        moon_worker_abort_load(worker);
        return rc;
    }
    moon_script_set_limits(worker->next->script, store->limits);
    moon_script_set_tier(worker->next->script, store->tier);
    return MOON_OK;
}

enum moon_rc moon_worker_load(struct moon_worker *worker, const struct moon_bundle *bundle,
                              uint32_t number, char **error)
{
    enum moon_rc rc = worker_load(worker, bundle, number, error);
    worker_begin_turn_anew(worker);
    return rc;
}

void moon_worker_flip(struct moon_worker *worker)
{
    MOON_ASSERT(worker->next != NULL);
    struct moon_generation *next = worker->next;
    worker->next = NULL;
    moon_gateway_flip(&worker->gateway, next);
    worker_begin_turn_anew(worker);
}

void moon_worker_abort_load(struct moon_worker *worker)
{
    moon_generation_release(worker->next);
    worker->next = NULL;
}
