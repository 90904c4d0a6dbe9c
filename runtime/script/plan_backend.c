/* SPDX-License-Identifier: Apache-2.0 */

/// Reads `backends` of the plan's tables (lua/moongate/config/normalize.lua) into upstream/conf.h.

#include "script/plan_read.h"

static void backend_target(struct plan_reader *r, struct moon_target_conf *target)
{
    struct moon_slice unix_path = plan_text(r, "unix");
    struct moon_slice scheme = plan_text(r, "scheme");
    target->url = plan_text(r, "url");
    target->host = plan_text(r, "host");
    target->port = (int)plan_number(r, "port", 80);
    target->path = plan_text(r, "path");
    target->is_srv = plan_bool(r, "srv", false);
    target->weight = (int)plan_number(r, "weight", 1);
    target->priority = (int)plan_number(r, "priority", 0);
    target->is_tls = moon_slice_is(scheme, MOON_S("https"));
    if (unix_path.len > 0) {
        struct moon_slice parts[2] = {MOON_S("unix:"), unix_path};
        plan_join(r, parts, 2, &target->host);
        target->identity = target->host;
        target->authority = MOON_S("localhost");
        return;
    }
    char port[16];
    int n = snprintf(port, sizeof(port), ":%d", target->port);
    bool is_v6 = moon_slice_find(target->host, ':') < target->host.len;
    bool is_default_port = target->port == (target->is_tls ? 443 : 80);
    struct moon_slice parts[5] = {
        target->is_tls ? MOON_S("https://") : MOON_S("http://"), is_v6 ? MOON_S("[") : MOON_S(""),
        target->host, is_v6 ? MOON_S("]") : MOON_S(""), moon_slice(port, n > 0 ? (size_t)n : 0)};
    plan_join(r, parts, 5, &target->identity);
    plan_join(r, parts + 1, is_default_port ? 3 : 4, &target->authority);
}

// A list of { from, to }.
static size_t backend_statuses(struct plan_reader *r, const char *name,
                               const struct moon_status_range **out)
{
    size_t n = 0;
    if (!plan_enter(r, name))
        return 0;
    n = plan_count(r);
    struct moon_status_range *ranges = plan_alloc(r, n, sizeof(*ranges));
    for (size_t i = 0; !r->has_failed && i < n; i++) {
        plan_element(r, i);
        lua_rawgeti(r->L, -1, 1);
        lua_rawgeti(r->L, -2, 2);
        ranges[i].from = (int)lua_tointeger(r->L, -2);
        ranges[i].to = (int)lua_tointeger(r->L, -1);
        lua_pop(r->L, 3);
    }
    plan_leave(r);
    *out = ranges;
    return n;
}

static void backend_probe(struct plan_reader *r, struct moon_probe_conf *probe)
{
    if (!plan_enter(r, "health"))
        return;
    probe->path = plan_text(r, "path");
    probe->method = plan_text(r, "method");
    probe->host = plan_text(r, "host");
    probe->interval_ms = plan_number(r, "interval_ms", 10000);
    probe->timeout_ms = plan_number(r, "timeout_ms", 2000);
    probe->passes = (uint32_t)plan_number(r, "healthy", 2);
    probe->failures = (uint32_t)plan_number(r, "unhealthy", 3);
    probe->body = plan_text(r, "body");
    probe->status_count = backend_statuses(r, "statuses", &probe->statuses);
    plan_leave(r);
}

static void backend_outlier(struct plan_reader *r, struct moon_outlier_conf *outlier)
{
    *outlier = (struct moon_outlier_conf){5, 10000, 300000, 50};
    if (!plan_enter(r, "outlier"))
        return;
    outlier->failures = (uint32_t)plan_number(r, "failures", 5);
    outlier->ejection_ms = plan_number(r, "eject_ms", 10000);
    outlier->max_ejection_ms = plan_number(r, "max_eject_ms", 300000);
    outlier->max_ejected_percent = (int)plan_number(r, "max_share", 50);
    plan_leave(r);
}

static void backend_timeouts(struct plan_reader *r, struct moon_backend_conf *backend)
{
    if (!plan_enter(r, "timeout"))
        return;
    backend->connect_ms = plan_number(r, "connect_ms", 5000);
    backend->send_ms = plan_number(r, "send_ms", 30000);
    backend->first_byte_ms = plan_number(r, "first_byte_ms", 60000);
    backend->idle_ms = plan_number(r, "idle_ms", 60000);
    backend->total_ms = plan_number(r, "total_ms", 300000);
    plan_leave(r);
}

static void backend_connections(struct plan_reader *r, struct moon_backend_conf *backend)
{
    backend->idle_connections = 64;
    backend->idle_timeout_ms = 4000;
    if (plan_enter(r, "keepalive")) {
        backend->idle_connections = (size_t)plan_number(r, "idle", 64);
        backend->idle_timeout_ms = plan_number(r, "idle_timeout_ms", 4000);
        backend->max_calls = (uint64_t)plan_number(r, "requests", 10000);
        backend->lifetime_ms = plan_number(r, "lifetime_ms", 0);
        plan_leave(r);
    }
    if (plan_enter(r, "limits")) {
        backend->max_requests = (size_t)plan_number(r, "requests", 0);
        backend->max_connections = (size_t)plan_number(r, "connections", 0);
        backend->max_pending = (size_t)plan_number(r, "pending", 1024);
        backend->pending_ms = plan_number(r, "pending_timeout_ms", 5000);
        backend->head_bytes = (size_t)plan_number(r, "head_bytes", 65536);
        plan_leave(r);
    }
}

static void backend_retry(struct plan_reader *r, struct moon_backend_conf *backend)
{
    struct moon_retry_conf *retry = &backend->retry;
    backend->retries = (int)plan_number(r, "retries", 1);
    *retry = (struct moon_retry_conf){.on_connect = true,
                                      .on_reset = true,
                                      .budget_percent = 20,
                                      .backoff_ms = 25,
                                      .max_backoff_ms = 250};
    if (!plan_enter(r, "retry"))
        return;
    if (plan_enter(r, "on")) {
        retry->on_connect = plan_bool(r, "connect", false);
        retry->on_reset = plan_bool(r, "reset", false);
        retry->on_timeout = plan_bool(r, "timeout", false);
        plan_leave(r);
    }
    retry->status_count = backend_statuses(r, "statuses", &retry->statuses);
    retry->budget_percent = (int)plan_number(r, "budget", 20);
    retry->backoff_ms = plan_number(r, "backoff_ms", 25);
    retry->max_backoff_ms = plan_number(r, "max_backoff_ms", 250);
    retry->try_ms = plan_number(r, "try_timeout_ms", 0);
    retry->takes_idempotency_key = plan_bool(r, "idempotency_key", false);
    plan_leave(r);
}

static void backend_breaker(struct plan_reader *r, struct moon_breaker_conf *breaker)
{
    if (!plan_enter(r, "breaker"))
        return;
    breaker->is_on = true;
    breaker->failures = (uint32_t)plan_number(r, "failures", 10);
    breaker->ratio_permille = (uint32_t)plan_number(r, "ratio_permille", 500);
    breaker->window_ms = plan_number(r, "window_ms", 10000);
    breaker->open_ms = plan_number(r, "open_ms", 5000);
    breaker->probes = (uint32_t)plan_number(r, "probes", 1);
    breaker->takes_retry_after = plan_bool(r, "retry_after", true);
    breaker->status_count = backend_statuses(r, "statuses", &breaker->statuses);
    plan_leave(r);
}

static void backend_tls(struct plan_reader *r, struct moon_backend_tls_conf *tls)
{
    tls->is_verified = true;
    if (!plan_enter(r, "tls"))
        return;
    tls->is_verified = plan_bool(r, "verify", true);
    tls->min_version = plan_text(r, "min_version");
    tls->ca = plan_file(r, "ca");
    tls->certificate = plan_file(r, "certificate");
    tls->key = plan_file(r, "key");
    tls->server_name = plan_text(r, "sni");
    plan_leave(r);
}

static void backend_host(struct plan_reader *r, struct moon_backend_conf *backend)
{
    struct moon_slice host = plan_text(r, "host");
    backend->host_mode = MOON_HOST_TARGET;
    if (moon_slice_is(host, MOON_S("client"))) {
        backend->host_mode = MOON_HOST_PRESERVE;
    } else if (host.len > 0 && !moon_slice_is(host, MOON_S("target"))) {
        backend->host_mode = MOON_HOST_FIXED;
        backend->host_fixed = host;
    }
}

static void backend_balance(struct plan_reader *r, struct moon_backend_conf *backend)
{
    static const char *const balances[] = {"round_robin", "least_requests", "random", "hash", NULL};
    static const char *const protocols[] = {"http1", "h2", "auto", NULL};
    static const char *const hashes[] = {"client_ip", "header", "cookie", "path",
                                         "host",      "query",  NULL};
    static const char *const families[] = {"auto", "ipv4", "ipv6", NULL};
    backend->balance = (enum moon_balance)plan_choice(plan_text(r, "balance"), balances, 0);
    backend->protocol = (enum moon_protocol)plan_choice(plan_text(r, "protocol"), protocols, 0);
    backend->slow_start_ms = plan_number(r, "slow_start_ms", 0);
    backend->panic_percent = (int)plan_number(r, "panic", 50);
    backend->drain_ms = plan_number(r, "drain_ms", 0);
    if (plan_enter(r, "hash")) {
        backend->hash_on = (enum moon_hash_on)plan_choice(plan_text(r, "on"), hashes, 0);
        backend->hash_name = plan_text(r, "name");
        plan_leave(r);
    }
    if (plan_enter(r, "affinity")) {
        backend->affinity.cookie = plan_text(r, "cookie");
        backend->affinity.ttl_ms = plan_number(r, "ttl_ms", 0);
        plan_leave(r);
    }
    if (plan_enter(r, "dns")) {
        backend->family = (enum moon_family)plan_choice(plan_text(r, "family"), families, 0);
        plan_leave(r);
    }
}

static void backend_auth_fields(struct plan_reader *r, struct moon_auth_conf *auth)
{
    if (!plan_enter(r, "fields"))
        return;
    auth->field_count = plan_count(r);
    struct moon_field *fields = plan_alloc(r, auth->field_count, sizeof(*fields));
    for (size_t i = 0; !r->has_failed && i < auth->field_count; i++) {
        plan_element(r, i);
        fields[i].name = plan_text(r, "name");
        fields[i].value = plan_text(r, "value");
        plan_leave(r);
    }
    auth->fields = fields;
    plan_leave(r);
}

static void backend_auth(struct plan_reader *r, struct moon_auth_conf *auth)
{
    if (!plan_enter(r, "auth"))
        return;
    backend_auth_fields(r, auth);
    auth->query = plan_text(r, "query");
    if (plan_enter(r, "oauth2")) {
        auth->token_url = plan_text(r, "token_url");
        auth->token_basic = plan_text(r, "basic");
        auth->token_body = plan_text(r, "body");
        plan_leave(r);
    }
    plan_leave(r);
}

static void backend_shares(struct plan_reader *r, struct moon_backend_conf *backend)
{
    if (plan_enter(r, "split")) {
        backend->split_count = plan_count(r);
        struct moon_split_conf *splits = plan_alloc(r, backend->split_count, sizeof(*splits));
        for (size_t i = 0; !r->has_failed && i < backend->split_count; i++) {
            plan_element(r, i);
            splits[i].name = plan_text(r, "backend");
            splits[i].weight = (int)plan_number(r, "weight", 1);
            plan_leave(r);
        }
        backend->splits = splits;
        plan_leave(r);
    }
    if (plan_enter(r, "mirror")) {
        backend->mirror.name = plan_text(r, "backend");
        lua_getfield(r->L, -1, "percent");
        backend->mirror.percent = lua_isnumber(r->L, -1) ? lua_tonumber(r->L, -1) : 100;
        lua_pop(r->L, 1);
        backend->mirror.body_bytes = (size_t)plan_number(r, "body_bytes", 65536);
        plan_leave(r);
    }
}

static void backend_read(struct plan_reader *r, struct moon_backend_conf *backend)
{
    backend->name = plan_text(r, "name");
    backend->place = plan_text(r, "place");
    if (plan_enter(r, "sink")) {
        backend->sink_status = (int)plan_number(r, "status", 404);
        plan_leave(r);
    }
    backend_balance(r, backend);
    backend_timeouts(r, backend);
    backend_connections(r, backend);
    backend_retry(r, backend);
    backend_tls(r, &backend->tls);
    backend_host(r, backend);
    backend_probe(r, &backend->probe);
    backend_outlier(r, &backend->outlier);
    backend_breaker(r, &backend->breaker);
    backend_auth(r, &backend->auth);
    backend_shares(r, backend);
    backend->is_forwarded = plan_bool(r, "forwarded", true);
    struct moon_slice proxy = plan_text(r, "proxy_protocol");
    backend->proxy_version = moon_slice_is(proxy, MOON_S("v1"))   ? 1
                             : moon_slice_is(proxy, MOON_S("v2")) ? 2
                                                                  : 0;
    if (!plan_enter(r, "targets"))
        return;
    backend->target_count = plan_count(r);
    backend->targets = plan_alloc(r, backend->target_count, sizeof(*backend->targets));
    for (size_t i = 0; !r->has_failed && i < backend->target_count; i++) {
        plan_element(r, i);
        backend_target(r, &backend->targets[i]);
        plan_leave(r);
    }
    plan_leave(r);
}

// Names of other backends become their places; configuration has checked that they exist.
static int backend_index(const struct moon_plan *plan, struct moon_slice name)
{
    for (size_t i = 0; i < plan->backend_count; i++) {
        if (moon_slice_is(plan->backends[i].name, name))
            return (int)i;
    }
    return -1;
}

static void backend_link(const struct moon_plan *plan, struct moon_backend_conf *backend)
{
    struct moon_split_conf *splits = (struct moon_split_conf *)(uintptr_t)backend->splits;
    for (size_t i = 0; i < backend->split_count; i++)
        splits[i].backend = backend_index(plan, splits[i].name);
    if (backend->mirror.name.len > 0)
        backend->mirror.backend = backend_index(plan, backend->mirror.name);
}

static bool backend_is_tls(const struct moon_backend_conf *backend)
{
    for (size_t i = 0; i < backend->target_count; i++) {
        if (backend->targets[i].is_tls)
            return true;
    }
    return false;
}

// A backend as it is called with another client certificate. It keeps the name, and with it health,
// breaker and limits; only the original is probed.
static void backend_disguise(const struct moon_backend_conf *backend, struct moon_slice certificate,
                             struct moon_slice key, struct moon_backend_conf *out)
{
    if (!backend_is_tls(backend))
        return;
    *out = *backend;
    out->tls.certificate = certificate;
    out->tls.key = key;
    out->probe = (struct moon_probe_conf){0};
}

// `certificates`: { certificate =, key = } of each that a policy of the configuration brings.
static void backend_certificates(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    if (!plan_enter(r, "client_certificates"))
        return;
    size_t n = plan_count(r);
    plan->disguises = plan_alloc(r, n * plan->backend_count, sizeof(*plan->disguises));
    plan->certificate_count = n;
    for (size_t i = 0; !r->has_failed && i < n; i++) {
        plan_element(r, i);
        struct moon_slice certificate = plan_file(r, "certificate"), key = plan_file(r, "key");
        for (size_t b = 0; b < plan->backend_count; b++)
            backend_disguise(&plan->backends[b], certificate, key,
                             &plan->disguises[i * plan->backend_count + b]);
        plan_leave(r);
    }
    plan_leave(r);
}

void plan_read_backends(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    if (!plan_enter(r, "backends"))
        return;
    plan->backend_count = plan_count(r);
    plan->backends = plan_alloc(r, plan->backend_count, sizeof(*plan->backends));
    for (size_t i = 0; !r->has_failed && i < plan->backend_count; i++) {
        plan_element(r, i);
        backend_read(r, &plan->backends[i]);
        plan_leave(r);
    }
    for (size_t i = 0; !r->has_failed && i < plan->backend_count; i++)
        backend_link(plan, &plan->backends[i]);
    plan_leave(r);
    if (!r->has_failed)
        backend_certificates(r);
}
