/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/forward.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/json_write.h"
#include "base/log.h"
#include "gateway/body.h"
#include "gateway/mirror.h"
#include "http/cookies.h"
#include "http/uri.h"

static bool forward_is_hop_by_hop(const struct moon_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->ids[i] != MOON_FIELD_OTHER &&
            (moon_field_flags((enum moon_field_id)fields->ids[i]) & MOON_FIELD_HOP) != 0)
            return true;
    }
    return false;
}

static enum moon_rc forward_append(struct moon_exchange *x, enum moon_field_id id,
                                   struct moon_slice value)
{
    struct moon_fields *fields = &x->request.fields;
    const struct moon_field *old = moon_fields_find_id(fields, id);
    if (old == NULL || !x->client->is_trusted_proxy) {
        if (old != NULL)
            moon_fields_remove_id(fields, id);
        return moon_fields_add_id(fields, id, value);
    }
    struct moon_slice parts[3] = {moon_fields_joined(fields, moon_field_name(id)), MOON_S(", "),
                                  value};
    struct moon_slice joined;
    if (!moon_arena_join(&x->arena, parts, 3, &joined))
        return MOON_ERR_MEMORY;
    return moon_fields_set(fields, moon_field_name(id), joined);
}

// Facts that a trusted proxy in front has told already are left as it told them.
static enum moon_rc forward_set_fact(struct moon_exchange *x, enum moon_field_id id,
                                     struct moon_slice value)
{
    struct moon_fields *fields = &x->request.fields;
    if (moon_fields_find_id(fields, id) != NULL) {
        if (x->client->is_trusted_proxy)
            return MOON_OK;
        moon_fields_remove_id(fields, id);
    }
    return moon_fields_add_id(fields, id, value);
}

// What a client says of itself is not passed on as if a proxy had said it.
static void forward_drop_claim(struct moon_exchange *x, enum moon_field_id id)
{
    if (!x->client->is_trusted_proxy && moon_fields_find_id(&x->request.fields, id) != NULL)
        moon_fields_remove_id(&x->request.fields, id);
}

// Who is at the other end of a UNIX socket has no address: Forwarded says `unknown` (RFC 7239 §6.2),
// X-Forwarded-For and -Port, for which there is no such word, are only passed on from a trusted proxy.
static enum moon_rc forward_add_forwarded(struct moon_exchange *x)
{
    char peer_text[MOON_IP_TEXT_BYTES];
    bool is_unix = x->client->is_unix;
    struct moon_slice peer =
        is_unix ? MOON_S("unknown") : moon_slice(x->client->ip_text, x->client->ip_len);
    if (x->client->is_trusted_proxy && !is_unix) {
        struct moon_slice text =
            moon_slice(peer_text, moon_ip_format(&x->client->peer_ip, peer_text));
        if (!moon_arena_copy(&x->arena, text, &peer))
            return MOON_ERR_MEMORY;
    }
    char digits[MOON_NUMBER_TEXT_BYTES];
    struct moon_slice port;
    if (!moon_arena_copy(&x->arena, moon_slice_of_number(digits, x->client->server_port), &port))
        return MOON_ERR_MEMORY;
    bool has_host = x->request.authority.len > 0;
    bool is_v6 = moon_slice_find(peer, ':') < peer.len;
    struct moon_slice parts[8] = {is_v6 ? MOON_S("for=\"[") : MOON_S("for="),
                                  peer,
                                  is_v6 ? MOON_S("]\"") : MOON_S(""),
                                  MOON_S(";proto="),
                                  x->request.scheme,
                                  has_host ? MOON_S(";host=\"") : MOON_S(""),
                                  x->request.authority,
                                  has_host ? MOON_S("\"") : MOON_S("")};
    struct moon_slice forwarded;
    if (!moon_arena_join(&x->arena, parts, MOON_COUNT(parts), &forwarded))
        return MOON_ERR_MEMORY;
    enum moon_rc rc = MOON_OK;
    if (is_unix) {
        forward_drop_claim(x, MOON_FIELD_X_FORWARDED_FOR);
        forward_drop_claim(x, MOON_FIELD_X_FORWARDED_PORT);
    } else {
        rc = forward_append(x, MOON_FIELD_X_FORWARDED_FOR, peer);
    }
    if (rc == MOON_OK)
        rc = forward_set_fact(x, MOON_FIELD_X_FORWARDED_PROTO, x->request.scheme);
    if (rc == MOON_OK && has_host)
        rc = forward_set_fact(x, MOON_FIELD_X_FORWARDED_HOST, x->request.authority);
    if (rc == MOON_OK && !is_unix)
        rc = forward_set_fact(x, MOON_FIELD_X_FORWARDED_PORT, port);
    if (rc == MOON_OK)
        rc = forward_append(x, MOON_FIELD_FORWARDED, forwarded);
    return rc;
}

static enum moon_rc forward_add_via(struct moon_exchange *x, struct moon_fields *fields, int major,
                                    int minor)
{
    enum moon_via version = major == 2 ? MOON_VIA_2 : minor == 0 ? MOON_VIA_1_0 : MOON_VIA_1_1;
    struct moon_slice own = x->generation->plan->via[version];
    const struct moon_field *old = moon_fields_find_id(fields, MOON_FIELD_VIA);
    if (old == NULL)
        return moon_fields_add_id(fields, MOON_FIELD_VIA, own);
    struct moon_slice parts[3] = {moon_fields_joined(fields, MOON_S("via")), MOON_S(", "), own};
    struct moon_slice joined;
    if (!moon_arena_join(&x->arena, parts, 3, &joined))
        return MOON_ERR_MEMORY;
    return moon_fields_set(fields, MOON_S("Via"), joined);
}

// The Host for the backend. Which target it will be is not known yet: its own name is left to the
// call, which gives it where the field is absent.
static enum moon_rc forward_set_host(struct moon_exchange *x, const struct moon_backend_conf *conf)
{
    struct moon_fields *fields = &x->request.fields;
    switch (conf->host_mode) {
    case MOON_HOST_PRESERVE:
        return moon_fields_set(fields, MOON_S("Host"), x->request.authority);
    case MOON_HOST_FIXED:
        return moon_fields_set(fields, MOON_S("Host"), conf->host_fixed);
    case MOON_HOST_TARGET:
        break;
    }
    moon_fields_remove_id(fields, MOON_FIELD_HOST);
    return MOON_OK;
}

// Policies that read the answer cannot read one with a coding. The client's own wish is kept for the
// gateway's compression.
static enum moon_rc forward_ask_for_plain(struct moon_exchange *x)
{
    struct moon_fields *fields = &x->request.fields;
    x->accept_encoding = moon_fields_joined(fields, MOON_S("Accept-Encoding"));
    if (x->accept_encoding.data == NULL)
        x->accept_encoding = moon_slice("", 0);
    return moon_fields_set(fields, MOON_S("Accept-Encoding"), MOON_S("identity"));
}

static enum moon_rc forward_fields(struct moon_exchange *x, const struct moon_backend_conf *conf)
{
    struct moon_fields *fields = &x->request.fields;
    enum moon_rc rc = MOON_OK;
    bool wants_upgrade = x->request.wants_upgrade;
    if (x->are_fields_made)
        return forward_set_host(x, conf); // a further call of the same request
    x->are_fields_made = true;
    struct moon_slice upgrade = {NULL, 0};
    if (wants_upgrade)
        upgrade = moon_fields_joined(fields, MOON_S("upgrade"));
    if (forward_is_hop_by_hop(fields))
        moon_fields_remove_hop_by_hop(fields);
    if (wants_upgrade)
        rc = moon_fields_add_id(fields, MOON_FIELD_UPGRADE, upgrade);
    moon_fields_remove_id(fields, MOON_FIELD_EXPECT);
    if (rc == MOON_OK && x->ctx.leaf->wants_plain_response && !x->is_grpc)
        rc = forward_ask_for_plain(x);
    if (rc == MOON_OK && conf->is_forwarded)
        rc = forward_add_forwarded(x);
    if (rc == MOON_OK && conf->is_forwarded)
        rc = forward_add_via(x, fields, x->request.version_major, x->request.version_minor);
    if (rc == MOON_OK)
        rc = forward_set_host(x, conf);
    return rc;
}

// The value of a query parameter as it was sent; empty where there is none.
static struct moon_slice forward_query_value(struct moon_slice query, struct moon_slice wanted)
{
    struct moon_slice name, value;
    while (moon_query_next(&query, &name, &value)) {
        if (moon_slice_is(name, wanted))
            return value;
    }
    return moon_slice("", 0);
}

static uint64_t forward_hash(const struct moon_exchange *x, const struct moon_backend_conf *conf)
{
    struct moon_slice key = moon_slice((const char *)x->client->ip.bytes, 16);
    const struct moon_field *field;
    switch (conf->hash_on) {
    case MOON_HASH_ADDRESS:
        break;
    case MOON_HASH_PATH:
        key = x->original_path;
        break;
    case MOON_HASH_HEADER:
        field = moon_fields_find(&x->request.fields, conf->hash_name);
        if (field != NULL)
            key = field->value;
        break;
    case MOON_HASH_COOKIE:
        field = moon_fields_find_id(&x->request.fields, MOON_FIELD_COOKIE);
        if (field != NULL)
            key = moon_cookies_find(field->value, conf->hash_name);
        break;
    case MOON_HASH_HOST:
        key = x->request.host;
        break;
    case MOON_HASH_QUERY:
        key = forward_query_value(x->request.query, conf->hash_name);
        break;
    }
    return moon_balance_hash(key);
}

static enum moon_rc forward_target(struct moon_exchange *x, struct moon_slice *target)
{
    if (x->request.query.data == NULL) {
        *target = x->request.path;
        return MOON_OK;
    }
    struct moon_slice parts[3] = {x->request.path, MOON_S("?"), x->request.query};
    return moon_arena_join(&x->arena, parts, 3, target) ? MOON_OK : MOON_ERR_MEMORY;
}

// The first of the body that is there goes out with the head, in one write.
static enum moon_rc forward_first_body(struct moon_exchange *x, struct moon_slice *data,
                                       bool *is_last)
{
    *data = moon_slice(NULL, 0);
    *is_last = false;
    if (x->is_body_kept) {
        *data = moon_buf_slice(&x->request_body);
        *is_last = true;
        x->request.framing = data->len > 0 || x->request.framing != MOON_FRAMING_NONE
                                 ? MOON_FRAMING_LENGTH
                                 : MOON_FRAMING_NONE;
        x->request.content_length = (int64_t)data->len;
        return MOON_OK;
    }
    if (x->request.framing == MOON_FRAMING_NONE || x->request.expects_continue)
        return MOON_OK;
    enum moon_rc rc = moon_body_read_request(x, data, is_last);
    if (rc == MOON_OK && *is_last && x->request_rewrites.count > 0) {
        x->request.framing = MOON_FRAMING_LENGTH;
        x->request.content_length = (int64_t)data->len;
    }
    return rc == MOON_AGAIN ? MOON_OK : rc;
}

// Where the backend is a split, one of those that share its requests takes its place.
static void forward_split(struct moon_exchange *x)
{
    if (x->ctx.backend < 0)
        return;
    const struct moon_backend_conf *conf = &x->generation->plan->backends[x->ctx.backend];
    uint64_t total = 0;
    if (conf->split_count == 0)
        return;
    for (size_t i = 0; i < conf->split_count; i++)
        total += (uint64_t)conf->splits[i].weight;
    // By hash a client always gets the same share.
    uint64_t at = conf->balance == MOON_BALANCE_HASH ? forward_hash(x, conf) : moon_random_fast();
    at = total == 0 ? 0 : at % total;
    size_t i = 0;
    while (i + 1 < conf->split_count && at >= (uint64_t)conf->splits[i].weight)
        at -= (uint64_t)conf->splits[i++].weight;
    x->ctx.backend = conf->splits[i].backend;
}

enum { AFFINITY_DIGITS = 16 };

// The target that the client's cookie names; 0: none.
static uint64_t forward_affinity(const struct moon_exchange *x, struct moon_slice name)
{
    const struct moon_field *field = moon_fields_find_id(&x->request.fields, MOON_FIELD_COOKIE);
    uint64_t key = 0;
    if (field == NULL)
        return 0;
    struct moon_slice value = moon_cookies_find(field->value, name);
    for (size_t i = 0; i < value.len; i++) {
        char c = value.data[i];
        bool is_digit = c >= '0' && c <= '9';
        if (value.len != AFFINITY_DIGITS || (!is_digit && (c < 'a' || c > 'f')))
            return 0;
        key = key << 4 | (uint64_t)(is_digit ? c - '0' : c - 'a' + 10);
    }
    return key;
}

static enum moon_rc forward_set_affinity(struct moon_exchange *x,
                                         const struct moon_affinity_conf *conf)
{
    char age[40] = "";
    bool is_secure = moon_slice_is(x->request.scheme, MOON_S("https"));
    if (conf->ttl_ms > 0)
        (void)snprintf(age, sizeof(age), "; Max-Age=%lld", (long long)(conf->ttl_ms / 1000));
    struct moon_slice value = moon_arena_printf(
        &x->arena, "%.*s=%016llx; Path=/; HttpOnly; SameSite=Lax%s%s", MOON_SLICE_ARG(conf->cookie),
        (unsigned long long)x->call.target->key, age, is_secure ? "; Secure" : "");
    return value.len == 0 ? MOON_ERR_MEMORY
                          : moon_fields_add_id(&x->response.fields, MOON_FIELD_SET_COOKIE, value);
}

static void forward_set_choice(struct moon_exchange *x, const struct moon_backend_conf *conf)
{
    if (conf->balance == MOON_BALANCE_HASH)
        x->call.choice.hash = forward_hash(x, conf);
    if (conf->affinity.cookie.len > 0)
        x->call.choice.affinity = forward_affinity(x, conf->affinity.cookie);
    if (conf->retry.takes_idempotency_key)
        x->call.is_retry_allowed =
            moon_fields_find_id(&x->request.fields, MOON_FIELD_IDEMPOTENCY_KEY) != NULL;
}

// Whom the PROXY header of the backend's connection names.
static void forward_introduce(struct moon_exchange *x, const struct moon_backend_conf *conf)
{
    const struct moon_client *client = x->client;
    x->call.client = NULL;
    if (conf->proxy_version == 0 || client->is_unix)
        return;
    x->introduction = (struct moon_proxy_header){
        .has_addresses = true,
        .source = client->ip,
        .source_port = client->port,
        .destination = client->server_ip,
        .destination_port = client->server_port,
    };
    x->call.client = &x->introduction;
}

// The backend that a policy or the leaf names.
static enum moon_rc forward_backend(struct moon_exchange *x, struct moon_backend **out)
{
    struct moon_url url;
    if (x->ctx.backend_url.len > 0) {
        *out = moon_url_parse(x->ctx.backend_url, &url)
                   ? moon_script_origin(x->ctx.script, &url, NULL)
                   : NULL;
        return *out == NULL ? MOON_ERR_NO_TARGET : MOON_OK;
    }
    forward_split(x);
    if (x->ctx.backend < 0)
        return MOON_ERR_NO_TARGET;
    if (x->generation->plan->backends[x->ctx.backend].sink_status != 0)
        return MOON_ERR_SINK;
    // With a policy's client certificate, where the backend asks for any.
    size_t at = (size_t)x->ctx.certificate * x->generation->plan->backend_count;
    *out = x->generation->backends[at + (size_t)x->ctx.backend];
    if (*out == NULL)
        *out = x->generation->backends[x->ctx.backend];
    return MOON_OK;
}

enum moon_rc moon_forward_start(struct moon_exchange *x)
{
    struct moon_backend *backend;
    struct moon_slice target, data;
    bool is_last;
    enum moon_rc rc = forward_backend(x, &backend);
    if (rc == MOON_OK)
        rc = moon_cache_before_call(x);
    if (rc == MOON_OK)
        rc = forward_fields(x, backend->conf);
    if (rc == MOON_OK)
        rc = forward_target(x, &target);
    if (rc == MOON_OK)
        rc = forward_first_body(x, &data, &is_last);
    if (rc != MOON_OK)
        return rc;
    forward_set_choice(x, backend->conf);
    forward_introduce(x, backend->conf);
    if (backend->conf->mirror.name.len > 0)
        moon_mirror_send(x, &backend->conf->mirror, target, data, is_last);
    x->call.is_upgrade_asked = x->request.wants_upgrade;
    x->is_called = true;
    return moon_call_start(&x->call, backend, &x->request, target, data, is_last);
}

void moon_forward_end_call(struct moon_exchange *x)
{
    if (x->is_forwarding) {
        moon_timer_stop(&x->forward_timer);
        x->is_forwarding = false;
    }
    if (!x->is_called)
        return;
    // The log tells of it later, when a target that DNS names no more may be gone.
    if (x->call.target != NULL &&
        !moon_arena_copy(&x->arena, x->call.target->conf->identity, &x->target))
        x->target = moon_slice(NULL, 0);
    x->call_tries += x->call.tries;
    moon_call_end(&x->call);
    x->connecting_us += x->call.times.connecting_us;
    x->times.connected = x->times.called + x->connecting_us;
    // What was waited in vain was the backend's time.
    if (!x->is_answered || (x->call.failure != MOON_OK && !x->is_head_sent))
        x->times.answered = moon_clock_us();
    x->is_called = false;
}

static enum moon_rc forward_add_date(struct moon_exchange *x)
{
    struct moon_slice date;
    return moon_arena_copy(&x->arena, moon_clock_http_date(moon_clock_wall_ms()), &date)
               ? moon_fields_add_id(&x->response.fields, MOON_FIELD_DATE, date)
               : MOON_ERR_MEMORY;
}

void moon_forward_take_response(struct moon_exchange *x)
{
    x->response = x->call.response;
    if (forward_is_hop_by_hop(&x->response.fields))
        moon_fields_remove_hop_by_hop(&x->response.fields);
    // Whoever receives an answer without a Date says when that was (RFC 9110 §6.6.1).
    if (moon_fields_find_id(&x->response.fields, MOON_FIELD_DATE) == NULL &&
        forward_add_date(x) != MOON_OK)
        moon_log_warn("no memory for Date request=%.*s", MOON_SLICE_ARG(x->ctx.id));
    if (x->call.backend->conf->is_forwarded &&
        forward_add_via(x, &x->response.fields, x->response.version_major,
                        x->response.version_minor) != MOON_OK)
        moon_log_warn("no memory for Via request=%.*s", MOON_SLICE_ARG(x->ctx.id));
    const struct moon_affinity_conf *affinity = &x->call.backend->conf->affinity;
    if (affinity->cookie.len > 0 && x->call.target->key != x->call.choice.affinity &&
        forward_set_affinity(x, affinity) != MOON_OK)
        moon_log_warn("no memory for a cookie request=%.*s", MOON_SLICE_ARG(x->ctx.id));
    x->ctx.response = &x->response;
}

static void forward_new_response(struct moon_exchange *x, int status)
{
    moon_response_init(&x->response, &x->arena);
    x->response.status = status;
    x->response.version_major = x->response.version_minor = 1;
    x->response.framing = MOON_FRAMING_LENGTH;
    x->response.content_length = 0;
    x->response.is_keep_alive = true;
    x->is_answered = false;
    x->ctx.response = &x->response;
    moon_buf_clear(&x->response_body);
    x->is_response_kept = true;
    if (forward_add_date(x) != MOON_OK)
        moon_log_warn("no memory for Date request=%.*s", MOON_SLICE_ARG(x->ctx.id));
}

void moon_forward_secure(struct moon_exchange *x)
{
    struct moon_fields *fields = &x->response.fields;
    const struct moon_plan *plan = x->generation->plan;
    int listener = x->client->listener;
    bool is_ours = !x->is_answered && !x->cache->is_serving;
    enum moon_rc rc = MOON_OK;
    if (x->client->is_tls && listener >= 0 && plan->listeners[listener].hsts.len > 0 &&
        moon_fields_find_id(fields, MOON_FIELD_STRICT_TRANSPORT) == NULL)
        rc =
            moon_fields_add_id(fields, MOON_FIELD_STRICT_TRANSPORT, plan->listeners[listener].hsts);
    if (rc == MOON_OK && is_ours &&
        moon_fields_find_id(fields, MOON_FIELD_X_CONTENT_TYPE_OPTIONS) == NULL)
        rc = moon_fields_add_id(fields, MOON_FIELD_X_CONTENT_TYPE_OPTIONS, MOON_S("nosniff"));
    if (rc != MOON_OK)
        moon_log_warn("no memory for fields request=%.*s", MOON_SLICE_ARG(x->ctx.id));
}

static bool forward_set_body(struct moon_exchange *x, struct moon_slice body)
{
    x->response_body.ceiling = moon_max_size(x->response_body.ceiling, body.len);
    return moon_buf_append(&x->response_body, body) == MOON_OK;
}

bool moon_forward_take_reply(struct moon_exchange *x)
{
    const struct moon_reply *reply = &x->ctx.reply;
    forward_new_response(x, reply->status);
    for (size_t i = 0; i < reply->fields.count; i++) {
        if (moon_fields_add(&x->response.fields, reply->fields.items[i].name,
                            reply->fields.items[i].value) != MOON_OK)
            return false;
    }
    return forward_set_body(x, reply->body);
}

static bool forward_reply_field(struct moon_exchange *x, struct moon_slice name,
                                struct moon_slice value)
{
    return moon_fields_add(&x->ctx.reply.fields, name, value) == MOON_OK;
}

bool moon_forward_redirect(struct moon_exchange *x)
{
    const struct moon_redirect_conf *redirect = &x->ctx.leaf->redirect;
    struct moon_slice location = redirect->to;
    struct moon_slice parts[4] = {redirect->to};
    bool has_path = redirect->keeps_path;
    bool has_query = redirect->keeps_query && x->original_query.data != NULL;
    bool to_ends = redirect->to.len > 0 && redirect->to.data[redirect->to.len - 1] == '/';
    if (has_path)
        parts[1] = moon_slice_from(x->original_path, to_ends ? 1 : 0);
    if (has_query) {
        bool has_mark = moon_slice_find(redirect->to, '?') < redirect->to.len;
        parts[2] = has_mark ? MOON_S("&") : MOON_S("?");
        parts[3] = x->original_query;
    }
    if (!moon_arena_join(&x->arena, parts, 4, &location))
        return false;
    x->ctx.reply = (struct moon_reply){.status = redirect->status};
    moon_fields_init(&x->ctx.reply.fields, &x->arena);
    return forward_reply_field(x, MOON_S("Location"), location);
}

bool moon_forward_reply(struct moon_exchange *x)
{
    const struct moon_reply_conf *reply = &x->ctx.leaf->reply;
    x->ctx.reply = (struct moon_reply){.status = reply->status, .body = reply->body};
    moon_fields_init(&x->ctx.reply.fields, &x->arena);
    for (size_t i = 0; i < reply->field_count; i++) {
        if (!forward_reply_field(x, reply->fields[i].name, reply->fields[i].value))
            return false;
    }
    return true;
}

struct moon_slice moon_forward_reason(enum moon_rc rc)
{
    switch ((int)rc) {
    case MOON_ERR_UNKNOWN_HOST:
    case MOON_ERR_NO_ROUTE:
    case MOON_ERR_NO_OPERATION:
        return MOON_S("OperationNotFound");
    case MOON_ERR_CLIENT_CLOSED:
        return MOON_S("ClientConnectionFailure");
    case MOON_ERR_CONNECT_TIMEOUT:
    case MOON_ERR_UPSTREAM_SEND_TIMEOUT:
    case MOON_ERR_FIRST_BYTE_TIMEOUT:
    case MOON_ERR_UPSTREAM_IDLE_TIMEOUT:
    case MOON_ERR_TOTAL_TIMEOUT:
    case MOON_ERR_TIMEOUT:
        return MOON_S("Timeout");
    case MOON_ERR_CONNECT:
    case MOON_ERR_REFUSED:
    case MOON_ERR_DNS:
    case MOON_ERR_UPSTREAM_CLOSED:
    case MOON_ERR_UPSTREAM_RESET:
    case MOON_ERR_UPSTREAM_PROTOCOL:
    case MOON_ERR_UPSTREAM_TRUNCATED:
    case MOON_ERR_UPSTREAM_TLS:
    case MOON_ERR_NO_TARGET:
        return MOON_S("BackendConnectionFailure");
    case MOON_ERR_SINK:
        return MOON_S("Sinkpool");
    default:
        return moon_slice_text(moon_rc_name(rc));
    }
}

// Empty when there is no memory for it.
static struct moon_slice forward_problem(struct moon_exchange *x, int status)
{
    struct moon_json json;
    struct moon_slice title = moon_status_reason(status);
    const struct moon_ctx_error *error = &x->ctx.error;
    bool is_refusal = x->failure == MOON_ERR_POLICY_REFUSED;
    size_t cap = 512 + 6 * (error->message.len + error->reason.len); // each byte as \u00xx
    char *into = moon_arena_alloc(&x->arena, cap);
    if (into == NULL)
        return (struct moon_slice){0};
    moon_json_init(&json, into, cap);
    moon_json_object(&json);
    moon_json_number(&json, "status", status);
    moon_json_text(&json, "title", title.len > 0 ? title : MOON_S("Error"));
    if (is_refusal && error->message.len > 0)
        moon_json_text(&json, "detail", error->message);
    if (is_refusal || error->source.len == 0 || moon_slice_is(error->source, MOON_S("gateway")))
        moon_json_text(&json, "reason", error->reason);
    moon_json_text(&json, "request_id", x->ctx.id);
    moon_json_end(&json);
    return moon_slice(into, moon_json_len(&json));
}

// When the breaker lets a call through again, at the earliest; who is overrun asks for a second.
static enum moon_rc forward_retry_after(struct moon_exchange *x)
{
    int64_t after_s = (x->call.retry_after_ms + 999) / 1000;
    struct moon_slice seconds =
        moon_arena_printf(&x->arena, "%lld", (long long)(after_s > 0 ? after_s : 1));
    return seconds.len == 0
               ? MOON_ERR_MEMORY
               : moon_fields_add_id(&x->response.fields, MOON_FIELD_RETRY_AFTER, seconds);
}

void moon_forward_default_error(struct moon_exchange *x)
{
    int status = x->ctx.error.status != 0 ? x->ctx.error.status : 500;
    struct moon_reply reply = x->ctx.reply;
    bool has_reply = x->failure == MOON_ERR_POLICY_REFUSED && reply.is_refusal;
    forward_new_response(x, status);
    bool is_good = true;
    for (size_t i = 0; has_reply && i < reply.fields.count; i++)
        is_good = is_good && moon_fields_add(&x->response.fields, reply.fields.items[i].name,
                                             reply.fields.items[i].value) == MOON_OK;
    if (has_reply && reply.body.len > 0) {
        is_good = is_good && forward_set_body(x, reply.body);
    } else {
        struct moon_slice problem = forward_problem(x, status);
        is_good = is_good && problem.len > 0 && forward_set_body(x, problem) &&
                  moon_fields_set(&x->response.fields, MOON_S("Content-Type"),
                                  MOON_S("application/problem+json")) == MOON_OK;
    }
    if (x->failure == MOON_ERR_BREAKER_OPEN || x->failure == MOON_ERR_OVERLOAD)
        is_good = is_good && forward_retry_after(x) == MOON_OK;
    if (x->failure == MOON_ERR_TUNNEL) // RFC 9110 §15.5.6 wants them named
        is_good = is_good && moon_fields_set(&x->response.fields, MOON_S("Allow"),
                                             MOON_S("GET, HEAD, POST, PUT, PATCH, DELETE, "
                                                    "OPTIONS")) == MOON_OK;
    if (!is_good)
        moon_log_warn("no memory for the body of an error request=%.*s", MOON_SLICE_ARG(x->ctx.id));
}

void moon_forward_log_failure(struct moon_exchange *x)
{
    switch ((int)x->failure) {
    case MOON_ERR_POLICY_REFUSED:
    case MOON_ERR_NO_ROUTE:
    case MOON_ERR_NO_OPERATION:
    case MOON_ERR_UNKNOWN_HOST:
    case MOON_ERR_SINK:
    case MOON_ERR_POLICY:
        return; // the access log says it
    default:
        moon_log_debug("request failed: %s client=%.*s request=%.*s", moon_rc_text(x->failure),
                       (int)x->client->ip_len, x->client->ip_text, MOON_SLICE_ARG(x->ctx.id));
    }
}
