/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/management.h"

#include "base/clock.h"
#include "base/json_write.h"
#include "http/uri.h"
#include "shared/counters.h"
#include "upstream/limits.h"

enum { MANAGEMENT_BYTES = 8 << 20, MANAGEMENT_STATUS_BYTES = 1 << 20 };

typedef void management_fn(struct moon_exchange *x);

static void management_reply(struct moon_exchange *x, int status, struct moon_slice type,
                             struct moon_slice body)
{
    struct moon_reply *reply = &x->ctx.reply;
    *reply = (struct moon_reply){.status = status};
    moon_fields_init(&reply->fields, &x->arena);
    bool is_good =
        moon_arena_copy(&x->arena, body, &reply->body) &&
        moon_fields_add(&reply->fields, MOON_S("Content-Type"), type) == MOON_OK &&
        moon_fields_add(&reply->fields, MOON_S("Cache-Control"), MOON_S("no-store")) == MOON_OK;
    if (!is_good)
        reply->status = 503;
}

static void management_health(struct moon_exchange *x)
{
    bool is_draining = x->gateway->is_draining;
    management_reply(x, is_draining ? 503 : 200, MOON_S("application/json"),
                     is_draining ? MOON_S("{\"status\":\"draining\"}\n")
                                 : MOON_S("{\"status\":\"ok\"}\n"));
}

static void management_metrics(struct moon_exchange *x)
{
    struct moon_buf text;
    moon_buf_init(&text, MANAGEMENT_BYTES);
    x->arena.ceiling_bytes = MANAGEMENT_BYTES;
    if (moon_metrics_write(x->gateway->env.metrics, &text) == MOON_OK)
        management_reply(x, 200, MOON_S("text/plain; version=0.0.4; charset=utf-8"),
                         moon_buf_slice(&text));
    else
        management_reply(x, 503, MOON_S("text/plain"), MOON_S("out of memory\n"));
    moon_buf_fini(&text);
}

static void management_workers(struct moon_json *json, const struct moon_board *board)
{
    moon_json_array_at(json, "workers");
    for (int i = 0; i < board->worker_count && i < MOON_BOARD_WORKERS; i++) {
        const struct moon_board_slot *slot = &board->slots[i];
        int pid = atomic_load(&slot->pid);
        if (pid == 0)
            continue;
        moon_json_object(json);
        moon_json_number(json, "worker", i);
        moon_json_number(json, "pid", pid);
        moon_json_number(json, "generation", atomic_load(&slot->generation));
        moon_json_number(json, "connections", atomic_load(&slot->connections));
        moon_json_number(json, "exchanges", atomic_load(&slot->exchanges));
        moon_json_number(json, "requests", atomic_load(&slot->requests));
        moon_json_number(json, "lua_bytes", atomic_load(&slot->lua_bytes));
        moon_json_number(json, "loop_lag_us", atomic_load(&slot->lag_us));
        moon_json_number(json, "loop_longest_us", atomic_load(&slot->longest_us));
        moon_json_number(json, "restarts", (int64_t)atomic_load(&slot->restarts));
        moon_json_bool(json, "draining", atomic_load(&slot->is_draining) != 0);
        moon_json_end(json);
    }
    moon_json_end(json);
}

static const char *management_state(const struct moon_health *health)
{
    if (!moon_health_is_usable(health, moon_clock_us()))
        return "down";
    return atomic_load(&health->state) == MOON_HEALTH_UP ? "up" : "unknown";
}

static void management_targets(struct moon_json *json, const struct moon_healths *healths)
{
    size_t at = 0;
    const struct moon_health *health;
    moon_json_array_at(json, "targets");
    while ((health = moon_health_next(healths, &at)) != NULL) {
        moon_json_object(json);
        moon_json_text(json, "target", moon_slice_text(health->name));
        moon_json_text(json, "state", moon_slice_text(management_state(health)));
        if (health->reason[0] != '\0')
            moon_json_text(json, "reason", moon_slice_text(health->reason));
        moon_json_number(json, "in_flight", atomic_load(&health->in_flight));
        moon_json_number(json, "connections", atomic_load(&health->connections));
        moon_json_number(json, "requests", (int64_t)atomic_load(&health->requests));
        moon_json_number(json, "errors", (int64_t)atomic_load(&health->errors));
        moon_json_number(json, "failures", atomic_load(&health->failures));
        moon_json_end(json);
    }
    moon_json_end(json);
}

// Hits and misses are this worker's.
static void management_tier(struct moon_json *json, const struct moon_cache_tier *tier)
{
    struct moon_cache_tier_status status;
    moon_cache_tier_status(tier, &status);
    moon_json_object_at(json, "tier");
    moon_json_bool(json, "is_current", moon_cache_tier_is_current(tier));
    moon_json_number(json, "purges_read_ms", (int64_t)(moon_cache_tier_position(tier) >> 20));
    moon_json_number(json, "purges_pending", (int64_t)status.purges_pending);
    moon_json_number(json, "hits", (int64_t)status.hits);
    moon_json_number(json, "misses", (int64_t)status.misses);
    moon_json_number(json, "failures", (int64_t)status.failures);
    moon_json_number(json, "puts", (int64_t)status.puts);
    moon_json_end(json);
}

static void management_cache(struct moon_json *json, const struct moon_store *store,
                             const struct moon_cache_tier *tier)
{
    struct moon_store_figures figures;
    moon_store_figures(store, &figures);
    moon_json_object_at(json, "cache");
    moon_json_number(json, "bytes", (int64_t)figures.bytes);
    moon_json_number(json, "used_bytes", (int64_t)figures.used_bytes);
    moon_json_number(json, "objects", (int64_t)figures.objects);
    moon_json_number(json, "evictions", (int64_t)figures.evictions);
    moon_json_number(json, "refused", (int64_t)figures.refused);
    moon_json_number(json, "dropped_shards", (int64_t)figures.dropped_shards);
    if (tier != NULL)
        management_tier(json, tier);
    moon_json_end(json);
}

static void management_breakers(struct moon_json *json, struct moon_healths *healths)
{
    static const char *const states[] = {"closed", "open", "half_open"};
    size_t at = 0;
    const struct moon_circuit *circuit;
    moon_json_array_at(json, "breakers");
    while ((circuit = moon_circuit_next(moon_healths_circuits(healths), &at)) != NULL) {
        moon_json_object(json);
        moon_json_text(json, "backend", moon_slice_text(circuit->name));
        moon_json_text(json, "state", moon_slice_text(states[atomic_load(&circuit->state)]));
        moon_json_number(json, "calls", atomic_load(&circuit->total));
        moon_json_number(json, "failures", atomic_load(&circuit->failed));
        moon_json_number(json, "refused", (int64_t)atomic_load(&circuit->refused));
        moon_json_end(json);
    }
    moon_json_end(json);
}

// What rate limits and quotas are counted in. `store` is there where nodes share one.
static void management_limits(struct moon_json *json, const struct moon_script_env *env)
{
    moon_json_object_at(json, "limits");
    moon_json_number(json, "counters_evicted", (int64_t)moon_counters_evictions(env->counters));
    if (env->limits != NULL && moon_limits_has_store(env->limits)) {
        struct moon_limits_status status;
        moon_limits_status(env->limits, &status);
        moon_json_object_at(json, "store");
        moon_json_bool(json, "is_down", status.is_store_down);
        moon_json_number(json, "nodes", status.nodes);
        moon_json_number(json, "clock_skew_ms", status.clock_skew_ms);
        moon_json_number(json, "flushes", (int64_t)status.flushes);
        moon_json_number(json, "deltas", (int64_t)status.deltas);
        moon_json_number(json, "lost", (int64_t)status.lost);
        moon_json_number(json, "exact", (int64_t)status.exact);
        moon_json_number(json, "exact_failed", (int64_t)status.exact_failed);
        moon_json_end(json);
    }
    moon_json_end(json);
}

static void management_status(struct moon_exchange *x)
{
    struct moon_json json;
    const struct moon_plan *plan = x->generation->plan;
    const struct moon_board *board = x->gateway->board;
    char *text = malloc(MANAGEMENT_STATUS_BYTES);
    if (text == NULL) {
        management_reply(x, 503, MOON_S("text/plain"), MOON_S("out of memory\n"));
        return;
    }
    moon_json_init(&json, text, MANAGEMENT_STATUS_BYTES);
    moon_json_object(&json);
    moon_json_text(&json, "name", plan->name);
    moon_json_text(&json, "version", MOON_S(MOONGATE_VERSION));
    moon_json_number(&json, "generation", x->generation->number);
    if (board != NULL) {
        moon_json_number(&json, "started_ms", board->started_wall_ms);
        moon_json_number(&json, "reloads", (int64_t)atomic_load(&board->reloads_ok));
        moon_json_number(&json, "reloads_failed", (int64_t)atomic_load(&board->reloads_failed));
        if (board->last_reload_error[0] != '\0')
            moon_json_text(&json, "last_reload_error", moon_slice_text(board->last_reload_error));
        management_workers(&json, board);
    }
    moon_json_number(&json, "routes", (int64_t)plan->leaf_count);
    if (x->gateway->env.flights != NULL && x->gateway->env.flights->seat != NULL)
        management_cache(&json, moon_store_of(x->gateway->env.flights->seat), moon_cache_tier(x));
    management_limits(&json, moon_script_env(x->generation->script));
    management_targets(&json, x->gateway->env.upstreams->healths);
    management_breakers(&json, x->gateway->env.upstreams->healths);
    moon_json_end(&json);
    x->arena.ceiling_bytes = MANAGEMENT_BYTES;
    management_reply(x, 200, MOON_S("application/json"), moon_slice(text, moon_json_len(&json)));
    free(text);
}

static void management_reload(struct moon_exchange *x)
{
    if (x->gateway->request_reload == NULL) {
        management_reply(x, 503, MOON_S("text/plain"), MOON_S("no supervisor to reload\n"));
        return;
    }
    x->gateway->request_reload(x->gateway);
    management_reply(x, 202, MOON_S("application/json"), MOON_S("{\"status\":\"reloading\"}\n"));
}

// What a parameter says; `is_good` is cleared where it cannot be read.
static void management_purge_one(struct moon_exchange *x, struct moon_slice name,
                                 struct moon_slice value, bool *is_good)
{
    struct moon_cache_tag tag = {{0}}; // everything
    if (moon_slice_is(name, MOON_S("tag")) || moon_slice_is(name, MOON_S("key")))
        tag = moon_cache_tag(&x->arena, name, value);
    else if (moon_slice_is(name, MOON_S("url")))
        *is_good = *is_good && moon_cache_url_tag(&x->arena, value, &tag);
    else
        *is_good = *is_good && moon_slice_is(name, MOON_S("all"));
    if (*is_good)
        moon_cache_purge(x->gateway->env.flights->seat, moon_cache_tier(x), &tag);
}

/// POST /cache/purge?tag=NAME, ?url=URL, ?key=KEY, ?all; several may be given.
static void management_purge(struct moon_exchange *x)
{
    struct moon_slice rest = x->request.query, name, value;
    bool is_good =
        rest.len > 0 && x->gateway->env.flights != NULL && x->gateway->env.flights->seat != NULL;
    while (is_good && moon_query_next(&rest, &name, &value))
        management_purge_one(x, name, moon_uri_decode(&x->arena, value, true), &is_good);
    if (is_good)
        management_reply(x, 200, MOON_S("application/json"), MOON_S("{\"status\":\"purged\"}\n"));
    else
        management_reply(x, 400, MOON_S("text/plain"),
                         MOON_S("expected ?tag=NAME, ?url=URL, ?key=KEY or ?all\n"));
}

struct management_route {
    const char *method;
    const char *path;
    management_fn *answer;
};

static const struct management_route management_routes[] = {
    {"GET", "/health", management_health},      {"GET", "/status", management_status},
    {"GET", "/metrics", management_metrics},    {"POST", "/reload", management_reload},
    {"POST", "/cache/purge", management_purge},
};

bool moon_management_is(const struct moon_exchange *x)
{
    int listener = x->client->listener; // -1: it is gone, its connections end
    return listener >= 0 && x->generation->plan->listeners[listener].is_management;
}

static void management_refuse_method(struct moon_exchange *x, const char *allowed)
{
    bool is_get = strcmp(allowed, "GET") == 0;
    management_reply(x, 405, MOON_S("text/plain"), MOON_S("method not allowed\n"));
    if (moon_fields_add(&x->ctx.reply.fields, MOON_S("Allow"),
                        is_get ? MOON_S("GET, HEAD") : moon_slice_text(allowed)) != MOON_OK)
        x->ctx.reply.status = 503;
}

// A page that somebody reads beside the gateway can have the browser send a POST here, blindly: what
// changes something is not for browsers, which name the page (Fetch, "Origin").
static bool management_is_for_page(const struct moon_exchange *x)
{
    return x->request.method != MOON_METHOD_GET && x->request.method != MOON_METHOD_HEAD &&
           (moon_fields_find(&x->request.fields, MOON_S("Origin")) != NULL ||
            moon_fields_find(&x->request.fields, MOON_S("Sec-Fetch-Site")) != NULL);
}

bool moon_management_answer(struct moon_exchange *x)
{
    struct moon_slice method =
        x->request.method == MOON_METHOD_HEAD ? MOON_S("GET") : x->request.method_name;
    for (size_t i = 0; i < MOON_COUNT(management_routes); i++) {
        const struct management_route *route = &management_routes[i];
        if (!moon_slice_is(x->request.path, moon_slice_text(route->path)))
            continue;
        if (!moon_slice_is(method, moon_slice_text(route->method)))
            management_refuse_method(x, route->method);
        else if (management_is_for_page(x))
            management_reply(x, 403, MOON_S("text/plain"), MOON_S("not for web pages\n"));
        else
            route->answer(x);
        return true;
    }
    management_reply(x, 404, MOON_S("text/plain"), MOON_S("not found\n"));
    return true;
}
