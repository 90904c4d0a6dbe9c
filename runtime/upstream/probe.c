/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/probe.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "upstream/call.h"

enum {
    PROBE_LEASE_MS = 3000, // renewed every third of it
    PROBE_BODY_BYTES = 16384,
    PROBE_ARENA_BYTES = 256 << 10,
    PROBE_JITTER_PERCENT = 20,
    PROBE_FIRST_MS = 10, // after the start: soon, not all at once
};

/// Probes one target of one backend, by a backend of its own with that one target.
struct probe {
    struct moon_list link; // of its prober
    struct moon_prober *prober;
    struct moon_backend_conf conf;
    struct moon_target_conf target;
    struct moon_backend *backend;
    struct moon_timer timer;
    struct moon_call call;
    struct moon_arena arena;
    struct moon_request request;
    struct moon_buf body;
    bool is_running;
    int gauge;
};

struct moon_prober {
    struct moon_list link; // of the upstreams
    struct moon_backend *backend;
    struct moon_list probes;
};

static const struct moon_probe_conf *probe_conf(const struct probe *probe)
{
    return &probe->prober->backend->conf->probe;
}

// Of several generations' backends of that name the newest one's probes count.
static bool prober_is_newest(const struct moon_prober *prober)
{
    const struct moon_list *all = &prober->backend->upstreams->probers;
    for (const struct moon_list *at = prober->link.next; at != all; at = at->next) {
        const struct moon_prober *later = MOON_LIST_ENTRY(at, struct moon_prober, link);
        if (moon_slice_is(later->backend->conf->name, prober->backend->conf->name))
            return false;
    }
    return true;
}

static void probe_schedule(struct probe *probe)
{
    int64_t interval = probe_conf(probe)->interval_ms;
    int64_t spread = interval * PROBE_JITTER_PERCENT / 100;
    int64_t jitter = spread > 0 ? (int64_t)(moon_random_fast() % (uint64_t)spread) : 0;
    moon_timer_set(&probe->timer, interval - spread / 2 + jitter);
}

static void probe_end_call(struct probe *probe)
{
    moon_call_end(&probe->call);
    moon_buf_clear(&probe->body);
    moon_arena_reset(&probe->arena);
    moon_arena_init(&probe->arena, PROBE_ARENA_BYTES);
    probe->is_running = false;
}

static void probe_tell(const struct probe *probe, bool is_well, const char *reason)
{
    const struct moon_backend_conf *conf = probe->prober->backend->conf;
    if (is_well)
        moon_log_info("backend %.*s: target %.*s is up: %s", MOON_SLICE_ARG(conf->name),
                      MOON_SLICE_ARG(probe->target.identity), reason);
    else
        moon_log_warn("backend %.*s: target %.*s is down: %s", MOON_SLICE_ARG(conf->name),
                      MOON_SLICE_ARG(probe->target.identity), reason);
}

static void probe_gauge(const struct probe *probe, bool is_prober)
{
    struct moon_metrics *metrics = probe->prober->backend->upstreams->metrics;
    const struct moon_health *health = probe->backend->members->targets[0].pool->health;
    if (metrics == NULL)
        return;
    bool is_up = health == NULL || moon_health_is_usable(health, moon_clock_us());
    moon_metrics_set(metrics, probe->gauge, is_prober && is_up ? 1 : 0);
}

static void probe_saw(struct probe *probe, bool is_well, const char *reason)
{
    const struct moon_probe_conf *conf = probe_conf(probe);
    struct moon_health *health = probe->backend->members->targets[0].pool->health;
    int64_t valid_ms = 3 * conf->interval_ms + conf->timeout_ms + 2 * PROBE_LEASE_MS;
    probe_end_call(probe);
    if (health != NULL && moon_health_probed(health, is_well, conf->passes, conf->failures,
                                             moon_clock_us(), valid_ms * 1000, reason))
        probe_tell(probe, is_well, reason);
    probe_gauge(probe, true);
    probe_schedule(probe);
}

static void probe_failed(void *owner, enum moon_rc rc)
{
    char reason[MOON_HEALTH_REASON_BYTES];
    (void)snprintf(reason, sizeof(reason), "probe: %s", moon_rc_text(rc));
    probe_saw(owner, false, reason);
}

static void probe_judge(struct probe *probe)
{
    const struct moon_probe_conf *conf = probe_conf(probe);
    struct moon_slice body = moon_buf_slice(&probe->body);
    char reason[MOON_HEALTH_REASON_BYTES];
    bool is_well =
        // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): its length is 0 where it is NULL
        conf->body.len == 0 || memmem(body.data, body.len, conf->body.data, conf->body.len) != NULL;
    (void)snprintf(reason, sizeof(reason), "probe: status %d%s", probe->call.response.status,
                   is_well ? "" : ", the body does not hold what it should");
    probe_saw(probe, is_well, reason);
}

// Reads to the end, so that the connection can be used again; or as far as the body is looked at.
static void probe_body(void *owner)
{
    struct probe *probe = owner;
    for (;;) {
        struct moon_slice data = {NULL, 0};
        bool is_done = false;
        enum moon_rc rc = moon_call_read(&probe->call, &data, &is_done);
        if (rc == MOON_AGAIN)
            return;
        if (rc != MOON_OK) {
            probe_failed(probe, rc);
            return;
        }
        data.len = moon_min_size(data.len, PROBE_BODY_BYTES - moon_buf_len(&probe->body));
        bool is_full = moon_buf_append(&probe->body, data) != MOON_OK ||
                       moon_buf_len(&probe->body) >= PROBE_BODY_BYTES;
        if (is_done || is_full) {
            probe_judge(probe);
            return;
        }
    }
}

static void probe_head(void *owner)
{
    struct probe *probe = owner;
    const struct moon_probe_conf *conf = probe_conf(probe);
    int status = probe->call.response.status;
    if (moon_status_is_in(conf->statuses, conf->status_count, status)) {
        probe_body(probe);
        return;
    }
    char reason[MOON_HEALTH_REASON_BYTES];
    (void)snprintf(reason, sizeof(reason), "probe: status %d", status);
    probe_saw(probe, false, reason);
}

static void probe_writable(void *owner)
{
    (void)owner; // there is no body
}

static const struct moon_call_events probe_events = {probe_head, probe_body, probe_writable,
                                                     probe_failed, NULL};

static enum moon_rc probe_request(struct probe *probe)
{
    const struct moon_probe_conf *conf = probe_conf(probe);
    struct moon_request *request = &probe->request;
    moon_request_init(request, &probe->arena);
    request->method_name = conf->method.len > 0 ? conf->method : MOON_S("GET");
    request->method = moon_method_parse(request->method_name);
    request->scheme = probe->target.is_tls ? MOON_S("https") : MOON_S("http");
    request->path = conf->path;
    request->content_length = -1;
    enum moon_rc rc =
        moon_fields_add(&request->fields, MOON_S("User-Agent"), MOON_S("moongate-probe"));
    if (rc == MOON_OK && conf->host.len > 0)
        rc = moon_fields_add_id(&request->fields, MOON_FIELD_HOST, conf->host);
    request->authority = conf->host;
    return rc;
}

static void probe_tick(struct moon_timer *timer)
{
    struct probe *probe = timer->owner;
    const struct moon_prober *prober = probe->prober;
    if (probe->is_running) {
        probe_failed(probe, MOON_ERR_TIMEOUT);
        return;
    }
    if (!prober->backend->upstreams->is_prober || !prober_is_newest(prober)) {
        probe_schedule(probe);
        return;
    }
    enum moon_rc rc = probe_request(probe);
    moon_call_init(&probe->call, prober->backend->upstreams, &probe->arena, &probe_events, probe);
    probe->call.is_probe = true;
    probe->call.choice.is_forced = true;
    probe->is_running = true;
    moon_timer_set(&probe->timer, probe_conf(probe)->timeout_ms);
    if (rc == MOON_OK)
        rc = moon_call_start(&probe->call, probe->backend, &probe->request, probe_conf(probe)->path,
                             moon_slice(NULL, 0), true);
    if (rc != MOON_OK)
        probe_failed(probe, rc);
}

static void probe_make_conf(struct probe *probe, const struct moon_backend_conf *conf,
                            const struct moon_target_conf *target)
{
    probe->target = *target;
    probe->target.weight = 1;
    probe->target.path = moon_slice(NULL, 0); // what is probed is an absolute path
    probe->conf = *conf;
    probe->conf.name = moon_slice(NULL, 0);
    probe->conf.balance = MOON_BALANCE_ROUND_ROBIN;
    probe->conf.retries = 0;
    probe->conf.max_requests = 0;
    probe->conf.total_ms = 0;
    probe->conf.breaker.is_on = false;
    probe->conf.probe.path = moon_slice(NULL, 0);
    probe->conf.splits = NULL;
    probe->conf.split_count = 0;
    probe->conf.targets = &probe->target;
    probe->conf.target_count = 1;
}

static int probe_series(const struct moon_backend *backend, const struct moon_target_conf *target)
{
    struct moon_buf labels;
    if (backend->upstreams->metrics == NULL)
        return -1;
    moon_buf_init(&labels, 4096);
    int id = -1;
    if (moon_metrics_label(&labels, "backend", backend->conf->name) == MOON_OK &&
        moon_metrics_label(&labels, "target", target->identity) == MOON_OK) {
        id = moon_metrics_series(
            backend->upstreams->metrics, MOON_METRIC_GAUGE, "moongate_target_up",
            "1 where a target takes requests: not down by probes, not ejected.",
            moon_buf_slice(&labels));
    }
    moon_buf_fini(&labels);
    return id;
}

static void probe_free(struct probe *probe)
{
    moon_timer_stop(&probe->timer);
    if (probe->is_running)
        moon_call_end(&probe->call);
    moon_list_remove(&probe->link);
    moon_backend_free(probe->backend);
    moon_buf_fini(&probe->body);
    moon_arena_reset(&probe->arena);
    free(probe);
}

static enum moon_rc probe_new(struct moon_prober *prober, const struct moon_target_conf *target)
{
    const struct moon_backend *backend = prober->backend;
    char error[256];
    struct probe *probe = calloc(1, sizeof(*probe));
    if (probe == NULL)
        return MOON_ERR_MEMORY;
    moon_list_init(&probe->link);
    probe->prober = prober;
    moon_arena_init(&probe->arena, PROBE_ARENA_BYTES);
    moon_buf_init(&probe->body, PROBE_BODY_BYTES);
    moon_timer_init(&probe->timer, backend->upstreams->loop, probe_tick, probe);
    probe_make_conf(probe, backend->conf, target);
    enum moon_rc rc =
        moon_backend_new(backend->upstreams, &probe->conf, error, sizeof(error), &probe->backend);
    if (rc != MOON_OK) {
        probe_free(probe);
        return rc;
    }
    probe->gauge = probe_series(backend, target);
    moon_list_push_back(&prober->probes, &probe->link);
    if (backend->conf->probe.path.len > 0)
        moon_timer_set(&probe->timer, PROBE_FIRST_MS + (int64_t)(moon_random_fast() % 50));
    return MOON_OK;
}

static void prober_clear(struct moon_prober *prober)
{
    MOON_LIST_EACH(at, after, &prober->probes)
    probe_free(MOON_LIST_ENTRY(at, struct probe, link));
}

static enum moon_rc prober_fill(struct moon_prober *prober)
{
    const struct moon_members *members = prober->backend->members;
    for (size_t i = 0; i < members->count; i++) {
        enum moon_rc rc = probe_new(prober, members->targets[i].conf);
        if (rc != MOON_OK)
            return rc;
    }
    return MOON_OK;
}

static void lease_ask(struct moon_upstreams *upstreams)
{
    upstreams->is_prober =
        moon_healths_lease(upstreams->healths, moon_clock_us(), PROBE_LEASE_MS * 1000);
    moon_timer_set(&upstreams->lease, PROBE_LEASE_MS / 3);
}

enum moon_rc moon_probe_start(struct moon_backend *backend)
{
    // Backends without a name are those of URLs in policies, and the probes' own.
    if (backend->conf->name.len == 0 || backend->upstreams->metrics == NULL)
        return MOON_OK;
    struct moon_prober *prober = calloc(1, sizeof(*prober));
    if (prober == NULL)
        return MOON_ERR_MEMORY;
    prober->backend = backend;
    moon_list_init(&prober->probes);
    moon_list_push_back(&backend->upstreams->probers, &prober->link);
    backend->prober = prober;
    if (!moon_timer_is_running(&backend->upstreams->lease))
        moon_timer_set(&backend->upstreams->lease, PROBE_FIRST_MS / 2);
    return prober_fill(prober);
}

void moon_probe_refresh(struct moon_backend *backend)
{
    if (backend->prober == NULL)
        return;
    prober_clear(backend->prober);
    if (prober_fill(backend->prober) != MOON_OK)
        moon_log_warn("backend %.*s: no memory to probe all its targets",
                      MOON_SLICE_ARG(backend->conf->name));
}

void moon_probe_stop(struct moon_backend *backend)
{
    if (backend->prober == NULL)
        return;
    prober_clear(backend->prober);
    moon_list_remove(&backend->prober->link);
    free(backend->prober);
    backend->prober = NULL;
}

void moon_probe_lease(struct moon_timer *timer)
{
    struct moon_upstreams *upstreams = timer->owner;
    bool was_prober = upstreams->is_prober;
    lease_ask(upstreams);
    if (!upstreams->is_prober && !was_prober)
        return;
    MOON_LIST_EACH(at, after, &upstreams->probers)
    {
        struct moon_prober *prober = MOON_LIST_ENTRY(at, struct moon_prober, link);
        MOON_LIST_EACH(one, next, &prober->probes)
        probe_gauge(MOON_LIST_ENTRY(one, struct probe, link), upstreams->is_prober);
    }
}
