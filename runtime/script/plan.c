/* SPDX-License-Identifier: Apache-2.0 */

/// Reads the tables that lua/moongate/config.lua returns into the structs of script/plan.h. The
/// tables are checked already; what is missing here means "not configured".

#include "net/digest.h"
#include "script/internal.h"
#include "script/plan.h"

enum { PLAN_ARENA_BYTES = 256 << 20 };

struct plan_reader {
    lua_State *L;
    struct moon_plan *plan;
    const char *dir;
    char error[512];
    bool has_failed;
};

static void *plan_alloc(struct plan_reader *r, size_t count, size_t size)
{
    void *p = moon_arena_zalloc(&r->plan->arena, (count == 0 ? 1 : count) * size);
    if (p == NULL) {
        r->has_failed = true;
        (void)snprintf(r->error, sizeof(r->error), "the configuration takes too much memory");
    }
    return p;
}

static struct moon_slice plan_copy(struct plan_reader *r, int index)
{
    struct moon_slice copy = {NULL, 0};
    size_t len;
    const char *text = lua_tolstring(r->L, index, &len);
    if (text != NULL && !moon_arena_copy(&r->plan->arena, moon_slice(text, len), &copy))
        r->has_failed = true;
    return copy;
}

// A text field of the table on top; empty when absent.
static struct moon_slice plan_text(struct plan_reader *r, const char *name)
{
    lua_getfield(r->L, -1, name);
    struct moon_slice text = lua_isstring(r->L, -1) ? plan_copy(r, -1) : moon_slice(NULL, 0);
    lua_pop(r->L, 1);
    return text;
}

static int64_t plan_number(struct plan_reader *r, const char *name, int64_t absent)
{
    lua_getfield(r->L, -1, name);
    int64_t value = lua_isnumber(r->L, -1) ? (int64_t)lua_tonumber(r->L, -1) : absent;
    lua_pop(r->L, 1);
    return value;
}

static bool plan_bool(struct plan_reader *r, const char *name, bool absent)
{
    lua_getfield(r->L, -1, name);
    bool value = lua_isnil(r->L, -1) ? absent : lua_toboolean(r->L, -1) != 0;
    lua_pop(r->L, 1);
    return value;
}

// Enters a table field of the table on top. @return false, with nothing pushed, when there is none
static bool plan_enter(struct plan_reader *r, const char *name)
{
    lua_getfield(r->L, -1, name);
    if (lua_istable(r->L, -1))
        return true;
    lua_pop(r->L, 1);
    return false;
}

static void plan_leave(struct plan_reader *r)
{
    lua_pop(r->L, 1);
}

static size_t plan_count(struct plan_reader *r)
{
    return lua_objlen(r->L, -1);
}

static void plan_element(struct plan_reader *r, size_t i)
{
    lua_rawgeti(r->L, -1, (int)i + 1);
}

static void plan_join(struct plan_reader *r, const struct moon_slice *parts, size_t n,
                      struct moon_slice *out)
{
    if (!moon_arena_join(&r->plan->arena, parts, n, out))
        r->has_failed = true;
}

// A file of the configuration: absolute, or below its directory.
static struct moon_slice plan_file(struct plan_reader *r, const char *name)
{
    struct moon_slice path = plan_text(r, name);
    if (path.len == 0 || path.data[0] == '/')
        return path;
    struct moon_slice parts[3] = {moon_slice_text(r->dir), MOON_S("/"), path};
    plan_join(r, parts, 3, &path);
    return path;
}

static struct moon_ipset *plan_networks(struct plan_reader *r)
{
    struct moon_ipset *set = moon_ipset_new();
    if (set == NULL) {
        r->has_failed = true;
        return NULL;
    }
    size_t n = plan_count(r);
    for (size_t i = 0; i < n; i++) {
        plan_element(r, i);
        size_t len = 0;
        const char *text = lua_tolstring(r->L, -1, &len);
        if (text == NULL || moon_ipset_add(set, moon_slice(text, len)) != MOON_OK) {
            r->has_failed = true;
            (void)snprintf(r->error, sizeof(r->error),
                           "\"%s\" is no network: an address, or a CIDR without host bits",
                           text == NULL ? "?" : text);
        }
        plan_leave(r);
    }
    moon_ipset_seal(set);
    return set;
}

static void plan_read_networks(struct plan_reader *r)
{
    lua_State *L = r->L;
    struct moon_plan *plan = r->plan;
    if (plan_enter(r, "networks")) {
        size_t n = 0;
        for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1))
            n++;
        plan->networks = plan_alloc(r, n, sizeof(*plan->networks));
        for (lua_pushnil(L); !r->has_failed && lua_next(L, -2) != 0; lua_pop(L, 1)) {
            struct moon_network_conf *network = &plan->networks[plan->network_count++];
            network->name = plan_copy(r, -2);
            network->set = plan_networks(r);
        }
        if (r->has_failed)
            lua_settop(L, 1);
        else
            plan_leave(r);
    }
    if (!r->has_failed && plan_enter(r, "trusted_proxies")) {
        plan->trusted_proxies = plan_networks(r);
        plan_leave(r);
    }
}

int moon_plan_network(const struct moon_plan *plan, struct moon_slice name)
{
    for (size_t i = 0; i < plan->network_count; i++) {
        if (moon_slice_is(plan->networks[i].name, name))
            return (int)i;
    }
    return -1;
}

// Reads what the table on top sets, over what `limits` holds.
static void plan_limits(struct plan_reader *r, struct moon_limits_conf *limits)
{
    limits->head_bytes = (size_t)plan_number(r, "head_bytes", (int64_t)limits->head_bytes);
    limits->uri_bytes = (size_t)plan_number(r, "uri_bytes", (int64_t)limits->uri_bytes);
    limits->header_count = (size_t)plan_number(r, "header_count", (int64_t)limits->header_count);
    int64_t body = plan_number(r, "body_bytes", limits->body_bytes < 0 ? 0 : limits->body_bytes);
    limits->body_bytes = body <= 0 ? -1 : body;
    limits->buffered_body_bytes =
        (size_t)plan_number(r, "policy_body_bytes", (int64_t)limits->buffered_body_bytes);
    limits->head_timeout_ms = plan_number(r, "head_timeout_ms", limits->head_timeout_ms);
    limits->body_timeout_ms = plan_number(r, "body_timeout_ms", limits->body_timeout_ms);
    limits->idle_timeout_ms = plan_number(r, "idle_timeout_ms", limits->idle_timeout_ms);
    limits->send_timeout_ms = plan_number(r, "send_timeout_ms", limits->send_timeout_ms);
    limits->drain_timeout_ms = plan_number(r, "drain_timeout_ms", limits->drain_timeout_ms);
    limits->requests_per_connection = (uint64_t)plan_number(
        r, "requests_per_connection", (int64_t)limits->requests_per_connection);
    limits->connections = (size_t)plan_number(r, "connections", (int64_t)limits->connections);
    limits->connections_per_address = (size_t)plan_number(
        r, "connections_per_address", (int64_t)limits->connections_per_address);
    limits->policy_cpu_ms = plan_number(r, "policy_cpu_ms", limits->policy_cpu_ms);
    limits->policy_memory_bytes =
        (size_t)plan_number(r, "policy_memory_bytes", (int64_t)limits->policy_memory_bytes);
}

static const struct moon_limits_conf plan_default_limits = {
    .head_bytes = 32768,
    .uri_bytes = 8192,
    .header_count = 128,
    .body_bytes = -1,
    .buffered_body_bytes = 1 << 20,
    .head_timeout_ms = 10000,
    .body_timeout_ms = 30000,
    .idle_timeout_ms = 75000,
    .send_timeout_ms = 30000,
    .linger_ms = 2000,
    .drain_timeout_ms = 30000,
    .requests_per_connection = 10000,
    .connections = 16384,
    .policy_cpu_ms = 100,
    .policy_memory_bytes = 64 << 20,
};

static void plan_certificates(struct plan_reader *r, struct moon_tls_server_conf *tls)
{
    if (!plan_enter(r, "certificates"))
        return;
    tls->certificate_count = plan_count(r);
    struct moon_tls_certificate_conf *list =
        plan_alloc(r, tls->certificate_count, sizeof(*list));
    for (size_t i = 0; !r->has_failed && i < tls->certificate_count; i++) {
        plan_element(r, i);
        list[i].certificate = plan_file(r, "certificate").data;
        list[i].key = plan_file(r, "key").data;
        list[i].ocsp = plan_file(r, "ocsp").data;
        if (plan_bool(r, "development", false) &&
            moon_tls_development_certificate(list[i].certificate, list[i].key) != MOON_OK)
            r->has_failed = true;
        plan_leave(r);
    }
    tls->certificates = list;
    plan_leave(r);
}

static void plan_tls(struct plan_reader *r, struct moon_listener_conf *listener)
{
    struct moon_tls_server_conf *tls = &listener->tls;
    listener->has_tls = true;
    plan_certificates(r, tls);
    tls->preset = plan_text(r, "preset").data;
    tls->is_http2 = listener->is_http2;
    tls->has_tickets = plan_bool(r, "session_tickets", true);
    if (plan_enter(r, "client")) {
        struct moon_slice mode = plan_text(r, "mode");
        tls->client_mode = moon_slice_is(mode, MOON_S("optional")) ? MOON_TLS_CLIENT_OPTIONAL
                                                                   : MOON_TLS_CLIENT_REQUIRED;
        tls->client_ca = plan_file(r, "ca").data;
        tls->client_crl = plan_file(r, "crl").data;
        plan_leave(r);
    }
}

static void plan_listener(struct plan_reader *r, struct moon_listener_conf *listener)
{
    struct moon_slice unix_path = plan_text(r, "unix");
    listener->name = plan_text(r, "name");
    listener->backlog = (int)plan_number(r, "backlog", 4096);
    listener->is_http2 = plan_bool(r, "http2", false);
    listener->has_proxy_protocol = plan_bool(r, "proxy_protocol", false);
    if (unix_path.len > 0) {
        struct moon_slice parts[2] = {MOON_S("unix:"), unix_path};
        plan_join(r, parts, 2, &listener->address);
    } else {
        struct moon_slice host = plan_text(r, "host");
        bool is_v6 = moon_slice_find(host, ':') < host.len;
        char port[16];
        int n = snprintf(port, sizeof(port), ":%d", (int)plan_number(r, "port", 0));
        struct moon_slice parts[4] = {is_v6 ? MOON_S("[") : MOON_S(""), host,
                                      is_v6 ? MOON_S("]") : MOON_S(""),
                                      moon_slice(port, n > 0 ? (size_t)n : 0)};
        plan_join(r, parts, 4, &listener->address);
    }
    if (plan_enter(r, "tls")) {
        plan_tls(r, listener);
        plan_leave(r);
    }
}

static void plan_read_listeners(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    size_t n = 0;
    if (plan_enter(r, "listeners")) {
        n = plan_count(r);
        plan_leave(r);
    }
    plan->listeners = plan_alloc(r, n + 1, sizeof(*plan->listeners));
    if (!r->has_failed && plan_enter(r, "listeners")) {
        for (size_t i = 0; i < n; i++) {
            plan_element(r, i);
            plan_listener(r, &plan->listeners[plan->listener_count++]);
            plan_leave(r);
        }
        plan_leave(r);
    }
    if (!r->has_failed && plan_enter(r, "management")) {
        struct moon_listener_conf *management = &plan->listeners[plan->listener_count++];
        plan_listener(r, management);
        management->is_management = true;
        plan_leave(r);
    }
}

static int plan_choice(struct moon_slice name, const char *const *choices, int absent)
{
    for (int i = 0; choices[i] != NULL; i++) {
        if (moon_slice_is(name, moon_slice_text(choices[i])))
            return i;
    }
    return absent;
}

static void plan_target(struct plan_reader *r, struct moon_target_conf *target)
{
    struct moon_slice unix_path = plan_text(r, "unix");
    struct moon_slice scheme = plan_text(r, "scheme");
    target->url = plan_text(r, "url");
    target->host = plan_text(r, "host");
    target->port = (int)plan_number(r, "port", 80);
    target->path = plan_text(r, "path");
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
    struct moon_slice parts[5] = {target->is_tls ? MOON_S("https://") : MOON_S("http://"),
                                  is_v6 ? MOON_S("[") : MOON_S(""), target->host,
                                  is_v6 ? MOON_S("]") : MOON_S(""),
                                  moon_slice(port, n > 0 ? (size_t)n : 0)};
    plan_join(r, parts, 5, &target->identity);
    plan_join(r, parts + 1, is_default_port ? 3 : 4, &target->authority);
}

static void plan_probe(struct plan_reader *r, struct moon_probe_conf *probe)
{
    probe->path = plan_text(r, "path");
    probe->interval_ms = plan_number(r, "interval_ms", 10000);
    probe->timeout_ms = plan_number(r, "timeout_ms", 2000);
    probe->passes = (uint32_t)plan_number(r, "healthy", 2);
    probe->failures = (uint32_t)plan_number(r, "unhealthy", 3);
    probe->body = plan_text(r, "body");
    probe->status_from = 200;
    probe->status_to = 399;
    if (plan_enter(r, "statuses")) {
        if (plan_count(r) > 0) {
            plan_element(r, 0);
            lua_rawgeti(r->L, -1, 1);
            lua_rawgeti(r->L, -2, 2);
            probe->status_from = (int)lua_tointeger(r->L, -2);
            probe->status_to = (int)lua_tointeger(r->L, -1);
            lua_pop(r->L, 3);
        }
        plan_leave(r);
    }
}

static void plan_backend_timeouts(struct plan_reader *r, struct moon_backend_conf *backend)
{
    if (plan_enter(r, "timeout")) {
        backend->connect_ms = plan_number(r, "connect_ms", 5000);
        backend->send_ms = plan_number(r, "send_ms", 30000);
        backend->first_byte_ms = plan_number(r, "first_byte_ms", 60000);
        backend->idle_ms = plan_number(r, "idle_ms", 60000);
        backend->total_ms = plan_number(r, "total_ms", 300000);
        plan_leave(r);
    }
    backend->idle_connections = 64;
    backend->idle_timeout_ms = 4000;
    if (plan_enter(r, "keepalive")) {
        backend->idle_connections = (size_t)plan_number(r, "idle", 64);
        backend->idle_timeout_ms = plan_number(r, "idle_timeout_ms", 4000);
        plan_leave(r);
    }
    if (plan_enter(r, "limits")) {
        backend->max_requests = (size_t)plan_number(r, "requests", 0);
        backend->max_connections = (size_t)plan_number(r, "connections", 0);
        plan_leave(r);
    }
}

static void plan_backend_tls(struct plan_reader *r, struct moon_backend_tls_conf *tls)
{
    tls->is_verified = true;
    if (!plan_enter(r, "tls"))
        return;
    tls->is_verified = plan_bool(r, "verify", true);
    tls->ca = plan_file(r, "ca");
    tls->certificate = plan_file(r, "certificate");
    tls->key = plan_file(r, "key");
    tls->server_name = plan_text(r, "sni");
    plan_leave(r);
}

static void plan_backend_host(struct plan_reader *r, struct moon_backend_conf *backend)
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

static void plan_backend_balance(struct plan_reader *r, struct moon_backend_conf *backend)
{
    static const char *const balances[] = {"round_robin", "least_requests", "random", "hash", NULL};
    static const char *const protocols[] = {"http1", "h2", "auto", NULL};
    static const char *const hashes[] = {"client_ip", "header", "cookie", "path", NULL};
    backend->balance = (enum moon_balance)plan_choice(plan_text(r, "balance"), balances, 0);
    backend->protocol = (enum moon_protocol)plan_choice(plan_text(r, "protocol"), protocols, 0);
    if (plan_enter(r, "hash")) {
        backend->hash_on = (enum moon_hash_on)plan_choice(plan_text(r, "on"), hashes, 0);
        backend->hash_name = plan_text(r, "name");
        plan_leave(r);
    }
}

static void plan_backend(struct plan_reader *r, struct moon_backend_conf *backend)
{
    backend->name = plan_text(r, "name");
    if (plan_enter(r, "sink")) {
        backend->sink_status = (int)plan_number(r, "status", 404);
        plan_leave(r);
    }
    plan_backend_balance(r, backend);
    plan_backend_timeouts(r, backend);
    plan_backend_tls(r, &backend->tls);
    plan_backend_host(r, backend);
    backend->is_forwarded = plan_bool(r, "forwarded", true);
    backend->retries = (int)plan_number(r, "retries", 1);
    backend->slow_start_ms = plan_number(r, "slow_start_ms", 0);
    if (plan_enter(r, "health")) {
        plan_probe(r, &backend->probe);
        plan_leave(r);
    }
    backend->outlier = (struct moon_outlier_conf){5, 10000, 50};
    if (plan_enter(r, "outlier")) {
        backend->outlier.failures = (uint32_t)plan_number(r, "failures", 5);
        backend->outlier.ejection_ms = plan_number(r, "eject_ms", 10000);
        backend->outlier.max_ejected_percent = (int)plan_number(r, "max_share", 50);
        plan_leave(r);
    }
    if (plan_enter(r, "targets")) {
        backend->target_count = plan_count(r);
        backend->targets = plan_alloc(r, backend->target_count, sizeof(*backend->targets));
        for (size_t i = 0; !r->has_failed && i < backend->target_count; i++) {
            plan_element(r, i);
            plan_target(r, &backend->targets[i]);
            plan_leave(r);
        }
        plan_leave(r);
    }
}

static void plan_read_backends(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    if (!plan_enter(r, "backends"))
        return;
    plan->backend_count = plan_count(r);
    plan->backends = plan_alloc(r, plan->backend_count, sizeof(*plan->backends));
    for (size_t i = 0; !r->has_failed && i < plan->backend_count; i++) {
        plan_element(r, i);
        plan_backend(r, &plan->backends[i]);
        plan_leave(r);
    }
    plan_leave(r);
}

static void plan_reply_fields(struct plan_reader *r, struct moon_reply_conf *reply)
{
    lua_State *L = r->L;
    size_t n = 0;
    if (!plan_enter(r, "headers"))
        return;
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1))
        n++;
    reply->fields = plan_alloc(r, n, sizeof(*reply->fields));
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        if (r->has_failed)
            continue;
        reply->fields[reply->field_count].name = plan_copy(r, -2);
        reply->fields[reply->field_count++].value = plan_copy(r, -1);
    }
    plan_leave(r);
}

static void plan_leaf_kind(struct plan_reader *r, struct moon_leaf *leaf)
{
    static const char *const kinds[] = {"backend", "redirect", "reply", "not_found", NULL};
    leaf->kind = (enum moon_leaf_kind)plan_choice(plan_text(r, "kind"), kinds, 0);
    if (plan_enter(r, "redirect")) {
        leaf->redirect.to = plan_text(r, "to");
        leaf->redirect.status = (int)plan_number(r, "status", 302);
        leaf->redirect.keeps_path = plan_bool(r, "keep_path", true);
        leaf->redirect.keeps_query = plan_bool(r, "keep_query", true);
        plan_leave(r);
    }
    if (plan_enter(r, "reply")) {
        leaf->reply.status = (int)plan_number(r, "status", 200);
        leaf->reply.body = plan_text(r, "body");
        plan_reply_fields(r, &leaf->reply);
        plan_leave(r);
    }
}

static void plan_leaf_networks(struct plan_reader *r, struct moon_leaf *leaf)
{
    if (!plan_enter(r, "networks"))
        return;
    leaf->network_count = plan_count(r);
    int *indices = plan_alloc(r, leaf->network_count, sizeof(*indices));
    for (size_t i = 0; !r->has_failed && i < leaf->network_count; i++) {
        plan_element(r, i);
        indices[i] = moon_plan_network(r->plan, moon_check_slice(r->L, -1));
        plan_leave(r);
    }
    leaf->networks = indices;
    plan_leave(r);
}

static int plan_listener_index(const struct moon_plan *plan, struct moon_slice name)
{
    for (size_t i = 0; i < plan->listener_count; i++) {
        if (moon_slice_is(plan->listeners[i].name, name))
            return (int)i;
    }
    return -1;
}

static void plan_leaf_listeners(struct plan_reader *r, struct moon_leaf *leaf)
{
    if (!plan_enter(r, "listeners"))
        return;
    leaf->listener_count = plan_count(r);
    int *indices = plan_alloc(r, leaf->listener_count, sizeof(*indices));
    for (size_t i = 0; !r->has_failed && i < leaf->listener_count; i++) {
        plan_element(r, i);
        indices[i] = plan_listener_index(r->plan, moon_check_slice(r->L, -1));
        plan_leave(r);
    }
    leaf->listeners = indices;
    plan_leave(r);
}

static void plan_leaf_chains(struct plan_reader *r, struct moon_leaf *leaf)
{
    static const char *const sections[MOON_SECTION_COUNT] = {"inbound", "backend", "outbound",
                                                             "on_error", "log"};
    if (plan_enter(r, "chains")) {
        for (int i = 0; i < MOON_SECTION_COUNT; i++) {
            lua_getfield(r->L, -1, sections[i]);
            if (lua_isfunction(r->L, -1))
                leaf->chains[i] = luaL_ref(r->L, LUA_REGISTRYINDEX);
            else
                lua_pop(r->L, 1);
        }
        plan_leave(r);
    }
    if (plan_enter(r, "needs")) {
        leaf->needs_request_body = plan_bool(r, "request_body", false);
        leaf->needs_response_body = plan_bool(r, "response_body", false);
        int64_t most = plan_number(r, "max_body_bytes", 0);
        if (most > 0)
            leaf->limits.buffered_body_bytes = (size_t)most;
        plan_leave(r);
    }
}

static void plan_leaf(struct plan_reader *r, struct moon_leaf *leaf)
{
    leaf->id = (int)plan_number(r, "id", 0);
    leaf->host = plan_text(r, "host");
    leaf->path = plan_text(r, "path");
    leaf->method = plan_text(r, "method");
    leaf->site = plan_text(r, "site");
    leaf->route = plan_text(r, "route");
    leaf->api = plan_text(r, "api");
    leaf->operation = plan_text(r, "operation");
    leaf->backend = (int)plan_number(r, "backend", 0) - 1;
    leaf->has_access_log = plan_bool(r, "access_log", true);
    leaf->limits = r->plan->limits;
    if (plan_enter(r, "limits")) {
        plan_limits(r, &leaf->limits);
        plan_leave(r);
    }
    if (plan_enter(r, "subscription")) {
        leaf->subscription_header = plan_text(r, "header");
        leaf->subscription_query = plan_text(r, "query");
        leaf->requires_subscription = plan_bool(r, "required", false);
        plan_leave(r);
    }
    plan_leaf_kind(r, leaf);
    plan_leaf_networks(r, leaf);
    plan_leaf_listeners(r, leaf);
    plan_leaf_chains(r, leaf);
}

static void plan_read_leaves(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    if (!plan_enter(r, "routes"))
        return;
    plan->leaf_count = plan_count(r);
    plan->leaves = plan_alloc(r, plan->leaf_count, sizeof(*plan->leaves));
    for (size_t i = 0; !r->has_failed && i < plan->leaf_count; i++) {
        plan_element(r, i);
        plan_leaf(r, &plan->leaves[i]);
        plan_leave(r);
    }
    plan_leave(r);
}

// The APIs of a product, by its name.
static void plan_product_apis(struct plan_reader *r, struct moon_subscription *subscription)
{
    if (subscription->product.len == 0)
        return;
    lua_getfield(r->L, 1, "products");
    size_t n = lua_istable(r->L, -1) ? plan_count(r) : 0;
    for (size_t i = 0; i < n; i++) {
        plan_element(r, i);
        if (moon_slice_is(plan_text(r, "name"), subscription->product) && plan_enter(r, "apis")) {
            subscription->api_count = plan_count(r);
            struct moon_slice *apis = plan_alloc(r, subscription->api_count, sizeof(*apis));
            for (size_t j = 0; !r->has_failed && j < subscription->api_count; j++) {
                plan_element(r, j);
                apis[j] = plan_copy(r, -1);
                plan_leave(r);
            }
            subscription->apis = apis;
            plan_leave(r);
        }
        plan_leave(r);
    }
    lua_pop(r->L, 1);
}

static void plan_subscription(struct plan_reader *r, struct moon_subscription *subscription)
{
    subscription->id = plan_text(r, "id");
    subscription->name = plan_text(r, "name");
    subscription->product = plan_text(r, "product");
    subscription->api = plan_text(r, "api");
    subscription->state = plan_text(r, "state");
    plan_product_apis(r, subscription);
    if (!plan_enter(r, "keys"))
        return;
    subscription->key_count = moon_min_size(plan_count(r), MOON_COUNT(subscription->keys));
    for (size_t i = 0; i < subscription->key_count; i++) {
        plan_element(r, i);
        moon_digest_sha256(moon_check_slice(r->L, -1), subscription->keys[i]);
        plan_leave(r);
    }
    plan_leave(r);
}

// Keys by the first bytes of their digests: open addressing, at most half full.
static void plan_index_keys(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    size_t slots = 16;
    while (slots < plan->subscription_count * MOON_SUBSCRIPTION_KEYS * 2)
        slots *= 2;
    plan->key_slots = plan_alloc(r, slots, sizeof(*plan->key_slots));
    plan->key_slot_count = slots;
    if (r->has_failed)
        return;
    for (size_t i = 0; i < plan->subscription_count; i++) {
        for (size_t k = 0; k < plan->subscriptions[i].key_count; k++) {
            uint64_t at;
            memcpy(&at, plan->subscriptions[i].keys[k], sizeof(at));
            while (plan->key_slots[at & (slots - 1)] != 0)
                at++;
            plan->key_slots[at & (slots - 1)] =
                (uint32_t)(i * MOON_SUBSCRIPTION_KEYS + k + 1);
        }
    }
}

static void plan_read_subscriptions(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    if (plan_enter(r, "subscriptions")) {
        plan->subscription_count = plan_count(r);
        plan->subscriptions = plan_alloc(r, plan->subscription_count, sizeof(*plan->subscriptions));
        for (size_t i = 0; !r->has_failed && i < plan->subscription_count; i++) {
            plan_element(r, i);
            plan_subscription(r, &plan->subscriptions[i]);
            plan_leave(r);
        }
        plan_leave(r);
    }
    if (!r->has_failed)
        plan_index_keys(r);
}

static void plan_read_logs(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    if (plan_enter(r, "access_log")) {
        if (plan_bool(r, "enabled", true)) {
            plan->access_log = plan_text(r, "path");
            if (plan->access_log.len == 0)
                plan->access_log = MOON_S("-");
        }
        plan_leave(r);
    }
    if (plan_enter(r, "error_log")) {
        plan->error_log = plan_text(r, "path");
        plan->error_log_level = plan_text(r, "level");
        plan_leave(r);
    }
    if (plan_enter(r, "geoip")) {
        plan->geo_country = plan_file(r, "country");
        plan->geo_asn = plan_file(r, "asn");
        plan_leave(r);
    }
    if (plan_enter(r, "redis")) {
        plan->redis_url = plan_text(r, "url");
        plan_leave(r);
    }
}

struct moon_plan *moon_plan_read(lua_State *L, int index, const char *dir, char **error)
{
    struct moon_plan *plan = calloc(1, sizeof(*plan));
    if (plan == NULL)
        return NULL;
    moon_arena_init(&plan->arena, PLAN_ARENA_BYTES);
    struct plan_reader r = {.L = L, .plan = plan, .dir = dir};
    int top = lua_gettop(L);
    lua_pushvalue(L, index);
    lua_insert(L, 1); // plan_product_apis finds it there
    plan->limits = plan_default_limits;
    plan->name = plan_text(&r, "name");
    plan->region = plan_text(&r, "region");
    plan->user = plan_text(&r, "user");
    plan->workers = (int)plan_number(&r, "workers", 0);
    plan->is_in_process = plan_bool(&r, "in_process", false);
    struct moon_slice whole = moon_slice_text(dir);
    if (!moon_arena_copy(&plan->arena, whole, &plan->dir))
        r.has_failed = true;
    if (plan_enter(&r, "limits")) {
        plan_limits(&r, &plan->limits);
        plan_leave(&r);
    }
    static void (*const readers[])(struct plan_reader *) = {
        plan_read_logs,     plan_read_networks, plan_read_listeners,
        plan_read_backends, plan_read_leaves,   plan_read_subscriptions,
    };
    for (size_t i = 0; !r.has_failed && i < MOON_COUNT(readers); i++)
        readers[i](&r);
    lua_settop(L, top + 1);
    lua_remove(L, 1);
    if (r.has_failed) {
        *error = strdup(r.error[0] == '\0' ? "out of memory" : r.error);
        moon_plan_free(plan);
        return NULL;
    }
    return plan;
}

void moon_plan_free(struct moon_plan *plan)
{
    if (plan == NULL)
        return;
    for (size_t i = 0; i < plan->network_count; i++)
        moon_ipset_free(plan->networks[i].set);
    moon_ipset_free(plan->trusted_proxies);
    moon_arena_reset(&plan->arena);
    free(plan);
}
