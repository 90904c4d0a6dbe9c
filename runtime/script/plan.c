/* SPDX-License-Identifier: Apache-2.0 */

/// Reads the tables that lua/moongate/config.lua returns into the structs of script/plan.h. The
/// tables are checked already; what is missing here means "not configured".

#include "script/plan.h"

#include "base/pace.h"
#include "http/chars.h"
#include "net/digest.h"
#include "script/internal.h"
#include "script/plan_read.h"

enum { PLAN_ARENA_BYTES = 256 << 20 };

void *plan_alloc(struct plan_reader *r, size_t count, size_t size)
{
    void *p = moon_arena_zalloc(&r->plan->arena, (count == 0 ? 1 : count) * size);
    if (p == NULL) {
        r->has_failed = true;
        (void)snprintf(r->error, sizeof(r->error), "the configuration takes too much memory");
    }
    return p;
}

struct moon_slice plan_copy(struct plan_reader *r, int index)
{
    struct moon_slice copy = {NULL, 0};
    size_t len;
    const char *text = lua_tolstring(r->L, index, &len);
    if (text != NULL && !moon_arena_copy(&r->plan->arena, moon_slice(text, len), &copy))
        r->has_failed = true;
    return copy;
}

// A text field of the table on top; empty when absent.
struct moon_slice plan_text(struct plan_reader *r, const char *name)
{
    lua_getfield(r->L, -1, name);
    struct moon_slice text = lua_isstring(r->L, -1) ? plan_copy(r, -1) : moon_slice(NULL, 0);
    lua_pop(r->L, 1);
    return text;
}

int64_t plan_number(struct plan_reader *r, const char *name, int64_t absent)
{
    lua_getfield(r->L, -1, name);
    int64_t value = lua_isnumber(r->L, -1) ? (int64_t)lua_tonumber(r->L, -1) : absent;
    lua_pop(r->L, 1);
    return value;
}

bool plan_bool(struct plan_reader *r, const char *name, bool absent)
{
    lua_getfield(r->L, -1, name);
    bool value = lua_isnil(r->L, -1) ? absent : lua_toboolean(r->L, -1) != 0;
    lua_pop(r->L, 1);
    return value;
}

// Enters a table field of the table on top. @return false, with nothing pushed, when there is none
bool plan_enter(struct plan_reader *r, const char *name)
{
    lua_getfield(r->L, -1, name);
    if (lua_istable(r->L, -1))
        return true;
    lua_pop(r->L, 1);
    return false;
}

void plan_leave(struct plan_reader *r)
{
    lua_pop(r->L, 1);
}

size_t plan_count(struct plan_reader *r)
{
    return lua_objlen(r->L, -1);
}

void plan_element(struct plan_reader *r, size_t i)
{
    lua_rawgeti(r->L, -1, (int)i + 1);
}

void plan_join(struct plan_reader *r, const struct moon_slice *parts, size_t n,
               struct moon_slice *out)
{
    if (!moon_arena_join(&r->plan->arena, parts, n, out))
        r->has_failed = true;
}

// A file of the configuration: absolute, or below its directory.
struct moon_slice plan_file(struct plan_reader *r, const char *name)
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
    plan->trusts_unix = plan_bool(r, "trusts_unix", false);
    if (!r->has_failed && plan_enter(r, "trusted_proxies")) {
        plan->trusted_proxies = plan_networks(r);
        plan_leave(r);
    }
}

// -1 when there is no such network.
static int plan_network(const struct moon_plan *plan, struct moon_slice name)
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
    limits->send_rate = plan_number(r, "send_rate", limits->send_rate);
    limits->tls_timeout_ms = plan_number(r, "tls_timeout_ms", limits->tls_timeout_ms);
    limits->drain_timeout_ms = plan_number(r, "drain_timeout_ms", limits->drain_timeout_ms);
    limits->requests_per_connection = (uint64_t)plan_number(
        r, "requests_per_connection", (int64_t)limits->requests_per_connection);
    limits->streams = (uint32_t)plan_number(r, "streams", (int64_t)limits->streams);
    limits->connections = (size_t)plan_number(r, "connections", (int64_t)limits->connections);
    limits->connections_per_address =
        (size_t)plan_number(r, "connections_per_address", (int64_t)limits->connections_per_address);
    limits->handshakes_per_address =
        (size_t)plan_number(r, "handshakes_per_address", (int64_t)limits->handshakes_per_address);
    limits->overload_lag_ms = plan_number(r, "overload_lag_ms", limits->overload_lag_ms);
    limits->overload_memory_bytes =
        plan_number(r, "overload_memory_bytes", limits->overload_memory_bytes);
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
    .send_rate = 150,
    .linger_ms = 2000,
    .tls_timeout_ms = 10000,
    .overload_lag_ms = 500,
    .drain_timeout_ms = 30000,
    .requests_per_connection = 10000,
    .connections = 16384,
    .streams = 128,
    .policy_cpu_ms = 100,
    .policy_memory_bytes = 64 << 20,
};

static void plan_certificates(struct plan_reader *r, struct moon_tls_server_conf *tls)
{
    if (!plan_enter(r, "certificates"))
        return;
    tls->certificate_count = plan_count(r);
    struct moon_tls_certificate_conf *list = plan_alloc(r, tls->certificate_count, sizeof(*list));
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
    int64_t max_age = plan_number(r, "hsts", 31536000);
    if (max_age > 0)
        listener->hsts = moon_arena_printf(&r->plan->arena, "max-age=%lld", (long long)max_age);
    listener->warn_before_ms = plan_number(r, "warn_before", 14) * 86400000;
    if (plan_enter(r, "client")) {
        struct moon_slice mode = plan_text(r, "mode");
        tls->client_mode = moon_slice_is(mode, MOON_S("optional")) ? MOON_TLS_CLIENT_OPTIONAL
                                                                   : MOON_TLS_CLIENT_REQUIRED;
        tls->client_ca = plan_file(r, "ca").data;
        tls->client_crl = plan_file(r, "crl").data;
        tls->client_depth = (int)plan_number(r, "depth", 4);
        plan_leave(r);
    }
}

static void plan_listener(struct plan_reader *r, struct moon_listener_conf *listener)
{
    struct moon_slice unix_path = plan_text(r, "unix");
    listener->name = plan_text(r, "name");
    listener->place = plan_text(r, "place");
    listener->backlog = (int)plan_number(r, "backlog", 4096);
    listener->mode = (int)plan_number(r, "mode", 0);
    listener->is_http2 = plan_bool(r, "http2", false);
    listener->has_proxy_protocol = plan_bool(r, "proxy_protocol", false);
    listener->keeps_escaped_slash = plan_bool(r, "escaped_slash", false);
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

int plan_choice(struct moon_slice name, const char *const *choices, int absent)
{
    for (int i = 0; choices[i] != NULL; i++) {
        if (moon_slice_is(name, moon_slice_text(choices[i])))
            return i;
    }
    return absent;
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
        indices[i] = plan_network(r->plan, moon_check_slice(r->L, -1));
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

static void plan_acts(struct plan_reader *r, struct moon_acts *acts)
{
    if (!plan_enter(r, "acts"))
        return;
    acts->count = plan_count(r);
    struct moon_act *list = plan_alloc(r, acts->count, sizeof(*list));
    for (size_t i = 0; !r->has_failed && i < acts->count; i++) {
        plan_element(r, i);
        moon_act_read_entry(r->L, &list[i]); // chain.lua has seen to it that it is one
        lua_getfield(r->L, -1, "instead");
        list[i].instead = luaL_ref(r->L, LUA_REGISTRYINDEX);
        plan_leave(r);
    }
    acts->list = list;
    (void)luaL_ref(r->L, LUA_REGISTRYINDEX); // keeps the objects and the names
}

static void plan_leaf_chains(struct plan_reader *r, struct moon_leaf *leaf)
{
    static const char *const sections[MOON_SECTION_COUNT] = {"inbound",  "backend", "outbound",
                                                             "on_error", "log",     "malformed"};
    if (plan_enter(r, "built")) {
        for (int i = 0; i < MOON_SECTION_COUNT; i++) {
            if (!plan_enter(r, sections[i]))
                continue;
            plan_acts(r, &leaf->acts[i]);
            lua_getfield(r->L, -1, "fn");
            if (lua_isfunction(r->L, -1))
                leaf->chains[i] = luaL_ref(r->L, LUA_REGISTRYINDEX);
            else
                lua_pop(r->L, 1);
            plan_leave(r);
        }
        plan_leave(r);
    }
    if (plan_enter(r, "needs")) {
        leaf->needs_request_body = plan_bool(r, "request_body", false);
        leaf->needs_response_body = plan_bool(r, "response_body", false);
        leaf->wants_plain_response = plan_bool(r, "response_text", false);
        int64_t most = plan_number(r, "max_body_bytes", 0);
        if (most > 0)
            leaf->limits.buffered_body_bytes = (size_t)most;
        plan_leave(r);
    }
}

/// A list of texts; NULL and 0 where there is none.
static struct moon_slice *plan_texts(struct plan_reader *r, const char *name, size_t *count)
{
    *count = 0;
    if (!plan_enter(r, name))
        return NULL;
    size_t n = plan_count(r);
    struct moon_slice *texts = plan_alloc(r, n, sizeof(*texts));
    for (size_t i = 0; !r->has_failed && i < n; i++) {
        plan_element(r, i);
        texts[i] = plan_copy(r, -1);
        plan_leave(r);
    }
    plan_leave(r);
    if (!r->has_failed)
        *count = n;
    return texts;
}

static void plan_compression(struct plan_reader *r, struct moon_compression_conf *conf)
{
    if (!plan_enter(r, "compression"))
        return;
    conf->is_on = true;
    conf->has_gzip = plan_bool(r, "gzip", false);
    conf->has_brotli = plan_bool(r, "brotli", false);
    conf->gzip_level = (int)plan_number(r, "gzip_level", 5);
    conf->brotli_quality = (int)plan_number(r, "brotli_quality", 4);
    conf->min_bytes = (size_t)plan_number(r, "min_bytes", 1024);
    conf->types = plan_texts(r, "types", &conf->type_count);
    plan_leave(r);
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
    leaf->is_streaming = plan_bool(r, "streaming", false);
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
    plan_compression(r, &leaf->compression);
    plan_leaf_kind(r, leaf);
    plan_leaf_networks(r, leaf);
    plan_leaf_listeners(r, leaf);
    plan_leaf_chains(r, leaf);
    r->plan->inspects_malformed |= moon_leaf_runs(leaf, MOON_SECTION_MALFORMED);
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
        moon_pace();
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
            plan->key_slots[at & (slots - 1)] = (uint32_t)(i * MOON_SUBSCRIPTION_KEYS + k + 1);
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
            moon_pace();
        }
        plan_leave(r);
    }
    if (!r->has_failed)
        plan_index_keys(r);
}

static void plan_read_access_log(struct plan_reader *r)
{
    struct moon_access_log_conf *log = &r->plan->access_log;
    if (plan_bool(r, "enabled", true)) {
        log->path = plan_text(r, "path");
        if (log->path.len == 0)
            log->path = MOON_S("-");
    }
    log->sample_millionths = (uint32_t)plan_number(r, "sample_millionths", 1000000);
    log->has_query = plan_bool(r, "query", true);
    log->buffer_bytes = (size_t)plan_number(r, "buffer_bytes", 1 << 20);
    log->request_fields = plan_texts(r, "request_headers", &log->request_field_count);
    log->response_fields = plan_texts(r, "response_headers", &log->response_field_count);
    log->redacted = plan_texts(r, "redact", &log->redacted_count);
}

static void plan_read_logs(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    if (plan_enter(r, "access_log")) {
        plan_read_access_log(r);
        plan_leave(r);
    }
    if (plan_enter(r, "error_log")) {
        plan->error_log = plan_text(r, "path");
        plan->error_log_level = plan_text(r, "level");
        plan_leave(r);
    }
}

static void plan_read_dns(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    plan->dns_min_ttl_ms = 1000;
    plan->dns_max_ttl_ms = 300 * 1000;
    if (!plan_enter(r, "dns"))
        return;
    plan->dns_min_ttl_ms = plan_number(r, "min_ttl_ms", 1000);
    plan->dns_max_ttl_ms = plan_number(r, "max_ttl_ms", 300 * 1000);
    if (plan_enter(r, "servers")) {
        size_t n = plan_count(r);
        for (size_t i = 0; !r->has_failed && i < n; i++) {
            plan_element(r, i);
            struct moon_slice parts[3] = {plan->dns_servers, i > 0 ? MOON_S(",") : MOON_S(""),
                                          plan_copy(r, -1)};
            plan_leave(r);
            plan_join(r, parts, 3, &plan->dns_servers);
        }
        plan_leave(r);
    }
    plan_leave(r);
}

static void plan_read_redis(struct plan_reader *r)
{
    struct moon_plan *plan = r->plan;
    plan->redis_tls.is_verified = true;
    if (!plan_enter(r, "redis"))
        return;
    plan->redis_url = plan_text(r, "url");
    plan->redis_user = plan_text(r, "username");
    plan->redis_password = plan_text(r, "password");
    plan->redis_sentinel_password = plan_text(r, "sentinel_password");
    plan->redis_prefix = plan_text(r, "prefix");
    plan->redis_timeout_ms = plan_number(r, "timeout_ms", 25);
    plan->redis_connect_ms = plan_number(r, "connect_timeout_ms", 1000);
    if (plan_enter(r, "tls")) {
        plan->redis_tls.is_verified = plan_bool(r, "verify", true);
        plan->redis_tls.ca = plan_file(r, "ca").data;
        plan->redis_tls.certificate = plan_file(r, "certificate").data;
        plan->redis_tls.key = plan_file(r, "key").data;
        plan->redis_tls.server_name = plan_text(r, "sni").data;
        plan_leave(r);
    }
    plan_leave(r);
}

// Via names the gateway by a token (RFC 9110 §7.6.3): other bytes of its name become hyphens.
static void plan_make_via(struct plan_reader *r)
{
    static const char *const versions[MOON_VIA_COUNT] = {"1.0 ", "1.1 ", "2 "};
    struct moon_plan *plan = r->plan;
    struct moon_slice name = plan->name.len > 0 ? plan->name : MOON_S("moongate");
    for (size_t i = 0; i < MOON_VIA_COUNT; i++) {
        struct moon_slice version = moon_slice_text(versions[i]);
        char *via = plan_alloc(r, version.len + name.len, 1);
        if (via == NULL)
            return;
        memcpy(via, version.data, version.len);
        for (size_t k = 0; k < name.len; k++) {
            char c = name.data[k];
            via[version.len + k] = moon_char_is(c, MOON_CHAR_TOKEN) ? c : '-';
        }
        plan->via[i] = moon_slice(via, version.len + name.len);
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
    plan_make_via(&r);
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
    if (plan_enter(&r, "cache")) {
        plan->shared_cache_bytes = (size_t)plan_number(&r, "bytes", 0);
        plan->shared_cache_object_bytes = (size_t)plan_number(&r, "object_bytes", 1048576);
        plan->is_cache_asking = moon_slice_is(plan_text(&r, "when_cut_off"), MOON_S("ask"));
        plan->has_shared_values = moon_slice_is(plan_text(&r, "store"), MOON_S("redis"));
        plan_leave(&r);
    }
    static void (*const readers[])(struct plan_reader *) = {
        plan_read_logs,      plan_read_dns,      plan_read_redis,  plan_read_networks,
        plan_read_listeners, plan_read_backends, plan_read_leaves, plan_read_subscriptions,
    };
    for (size_t i = 0; !r.has_failed && i < MOON_COUNT(readers); i++) {
        readers[i](&r);
        moon_pace();
    }
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
