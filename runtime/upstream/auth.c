/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/auth.h"

#include "base/json_read.h"
#include "base/log.h"
#include "http/uri.h"

enum {
    AUTH_ANSWER_BYTES = 65536,
    AUTH_ARENA_BYTES = 256 << 10,
    AUTH_TIMEOUT_MS = 10000,
    AUTH_PAUSE_MS = 1000,      // after a failure
    AUTH_LIFE_MS = 300 * 1000, // where the server does not say
    AUTH_LIFE_MOST_S = 86400,
    AUTH_EARLY_MOST_MS = 60000, // renewed this long before the end, or a fifth of its life
};

struct moon_auth {
    struct moon_backend *backend; // that wants tokens
    struct moon_backend_conf conf;
    struct moon_target_conf target;
    struct moon_backend *server; // that gives them
    struct moon_arena lasting;   // of conf and target
    struct moon_slice path;
    struct moon_list waiting; // struct moon_waiter of calls
    struct moon_buf token;    // "Bearer ..."; empty: none
    int64_t expires_ms, renew_ms, paused_ms;
    bool is_fetching;
    struct moon_call call;
    struct moon_arena arena; // of the request under way
    struct moon_request request;
    struct moon_buf answer;
};

static int64_t auth_now(const struct moon_auth *auth)
{
    return moon_loop_now_ms(auth->backend->upstreams->loop);
}

static void auth_finish(struct moon_auth *auth, enum moon_rc rc)
{
    moon_call_end(&auth->call);
    moon_arena_reset(&auth->arena);
    moon_arena_init(&auth->arena, AUTH_ARENA_BYTES);
    moon_buf_clear(&auth->answer);
    auth->is_fetching = false;
    if (rc != MOON_OK)
        auth->paused_ms = auth_now(auth) + AUTH_PAUSE_MS;
    struct moon_list ready; // whoever is called may come back at once
    moon_list_init(&ready);
    while (!moon_list_is_empty(&auth->waiting)) {
        struct moon_list *first = auth->waiting.next;
        moon_list_remove(first);
        moon_list_push_back(&ready, first);
    }
    while (!moon_list_is_empty(&ready)) {
        struct moon_waiter *waiter = MOON_LIST_ENTRY(ready.next, struct moon_waiter, link);
        moon_list_remove(&waiter->link);
        moon_call_prepared(MOON_CONTAINER_OF(waiter, struct moon_call, waiter), rc);
    }
}

static void auth_fail(struct moon_auth *auth, const char *why)
{
    moon_log_warn("backend %.*s: no token from %.*s: %s", MOON_SLICE_ARG(auth->backend->conf->name),
                  MOON_SLICE_ARG(auth->backend->conf->auth.token_url), why);
    // A token that is still good serves on.
    bool is_good = moon_buf_len(&auth->token) > 0 && auth_now(auth) < auth->expires_ms;
    auth_finish(auth, is_good ? MOON_OK : MOON_ERR_UPSTREAM_AUTH);
}

static void auth_failed(void *owner, enum moon_rc rc)
{
    auth_fail(owner, moon_rc_text(rc));
}

// access_token and expires_in of the answer's outermost object (RFC 6749 §5.1).
static bool auth_parse(struct moon_auth *auth, struct moon_slice *token, int64_t *life_s)
{
    struct moon_json_reader reader;
    struct moon_slice raw, key = {"", 0};
    moon_json_read_init(&reader, moon_buf_slice(&auth->answer), 16);
    *token = moon_slice("", 0);
    for (;;) {
        enum moon_json_event event = moon_json_read_next(&reader, &raw);
        if (event == MOON_JSON_READ_ERROR)
            return false;
        if (event == MOON_JSON_READ_END)
            return token->len > 0 && moon_field_value_is_valid(*token);
        if (reader.depth != 1)
            continue;
        if (event == MOON_JSON_READ_KEY)
            key = raw;
        else if (event == MOON_JSON_READ_STRING && moon_slice_is(key, MOON_S("access_token")) &&
                 !moon_json_read_text(&auth->arena, raw, token))
            return false;
        else if (event == MOON_JSON_READ_NUMBER && moon_slice_is(key, MOON_S("expires_in")) &&
                 !moon_json_read_integer(raw, life_s))
            *life_s = AUTH_LIFE_MS / 1000;
    }
}

static void auth_take(struct moon_auth *auth)
{
    struct moon_slice token;
    int64_t life_s = AUTH_LIFE_MS / 1000;
    if (auth->call.response.status != 200 || !auth_parse(auth, &token, &life_s)) {
        char why[64];
        (void)snprintf(why, sizeof(why), "status %d%s", auth->call.response.status,
                       auth->call.response.status == 200 ? ", not a token" : "");
        auth_fail(auth, why);
        return;
    }
    life_s = life_s < 1 ? 1 : life_s > AUTH_LIFE_MOST_S ? AUTH_LIFE_MOST_S : life_s;
    int64_t early_ms = life_s * 1000 / 5;
    early_ms = early_ms > AUTH_EARLY_MOST_MS ? AUTH_EARLY_MOST_MS : early_ms;
    moon_buf_clear(&auth->token);
    if (moon_buf_append(&auth->token, MOON_S("Bearer ")) != MOON_OK ||
        moon_buf_append(&auth->token, token) != MOON_OK) {
        moon_buf_clear(&auth->token);
        auth_fail(auth, "the token is too long");
        return;
    }
    auth->expires_ms = auth_now(auth) + life_s * 1000;
    auth->renew_ms = auth->expires_ms - early_ms;
    auth_finish(auth, MOON_OK);
}

static void auth_body(void *owner)
{
    struct moon_auth *auth = owner;
    for (;;) {
        struct moon_slice data = {NULL, 0};
        bool is_done = false;
        enum moon_rc rc = moon_call_read(&auth->call, &data, &is_done);
        if (rc == MOON_AGAIN)
            return;
        if (rc == MOON_OK)
            rc = moon_buf_append(&auth->answer, data);
        if (rc != MOON_OK) {
            auth_fail(auth, moon_rc_text(rc));
            return;
        }
        if (is_done) {
            auth_take(auth);
            return;
        }
    }
}

static void auth_writable(void *owner)
{
    (void)owner; // the form went out with the head
}

static const struct moon_call_events auth_events = {auth_body, auth_body, auth_writable,
                                                    auth_failed, NULL};

static enum moon_rc auth_fetch(struct moon_auth *auth)
{
    const struct moon_auth_conf *conf = &auth->backend->conf->auth;
    struct moon_request *request = &auth->request;
    moon_request_init(request, &auth->arena);
    request->method = MOON_METHOD_POST;
    request->method_name = MOON_S("POST");
    request->scheme = auth->target.is_tls ? MOON_S("https") : MOON_S("http");
    request->framing = MOON_FRAMING_LENGTH;
    request->content_length = (int64_t)conf->token_body.len;
    enum moon_rc rc = moon_fields_add(&request->fields, MOON_S("Content-Type"),
                                      MOON_S("application/x-www-form-urlencoded"));
    if (rc == MOON_OK)
        rc = moon_fields_add(&request->fields, MOON_S("Authorization"), conf->token_basic);
    if (rc == MOON_OK)
        rc = moon_fields_add(&request->fields, MOON_S("Accept"), MOON_S("application/json"));
    moon_call_init(&auth->call, auth->backend->upstreams, &auth->arena, &auth_events, auth);
    auth->call.is_retry_allowed = true; // asking twice does no harm
    if (rc == MOON_OK)
        rc =
            moon_call_start(&auth->call, auth->server, request, auth->path, conf->token_body, true);
    auth->is_fetching = rc == MOON_OK;
    return rc;
}

enum moon_rc moon_auth_wait(struct moon_auth *auth, struct moon_call *call)
{
    int64_t now = auth_now(auth);
    bool is_good = moon_buf_len(&auth->token) > 0 && now < auth->expires_ms;
    bool must_ask = !is_good || now >= auth->renew_ms;
    if (must_ask && !auth->is_fetching && now >= auth->paused_ms) {
        enum moon_rc rc = auth_fetch(auth);
        if (rc != MOON_OK) {
            auth_fail(auth, moon_rc_text(rc));
            return is_good ? MOON_OK : MOON_ERR_UPSTREAM_AUTH;
        }
    }
    if (is_good)
        return MOON_OK;
    if (!auth->is_fetching)
        return MOON_ERR_UPSTREAM_AUTH;
    moon_list_push_back(&auth->waiting, &call->waiter.link);
    return MOON_AGAIN;
}

void moon_auth_forget(struct moon_auth *auth)
{
    auth->expires_ms = 0;
}

static enum moon_rc auth_set_fields(struct moon_request *own, const struct moon_request *given,
                                    const struct moon_auth_conf *conf, struct moon_slice token)
{
    enum moon_rc rc = MOON_OK;
    for (size_t i = 0; rc == MOON_OK && i < given->fields.count; i++)
        rc = moon_fields_add_known(&own->fields, (enum moon_field_id)given->fields.ids[i],
                                   given->fields.items[i].name, given->fields.items[i].value);
    for (size_t i = 0; rc == MOON_OK && i < conf->field_count; i++)
        rc = moon_fields_set(&own->fields, conf->fields[i].name, conf->fields[i].value);
    if (rc == MOON_OK && token.len > 0)
        rc = moon_fields_set(&own->fields, MOON_S("Authorization"), token);
    return rc;
}

enum moon_rc moon_auth_apply(struct moon_call *call)
{
    const struct moon_auth_conf *conf = &call->backend->conf->auth;
    struct moon_request *own = moon_arena_alloc(call->arena, sizeof(*own));
    struct moon_slice token = {NULL, 0};
    if (own == NULL)
        return MOON_ERR_MEMORY;
    *own = *call->request;
    moon_fields_init(&own->fields, call->arena);
    if (call->backend->auth != NULL &&
        !moon_arena_copy(call->arena, moon_buf_slice(&call->backend->auth->token), &token))
        return MOON_ERR_MEMORY;
    enum moon_rc rc = auth_set_fields(own, call->request, conf, token);
    if (rc != MOON_OK)
        return rc;
    call->request = own;
    if (conf->query.len == 0)
        return MOON_OK;
    bool has_query = moon_slice_find(call->target_path, '?') < call->target_path.len;
    struct moon_slice parts[3] = {call->target_path, has_query ? MOON_S("&") : MOON_S("?"),
                                  conf->query};
    return moon_arena_join(call->arena, parts, 3, &call->target_path) ? MOON_OK : MOON_ERR_MEMORY;
}

static bool auth_make_conf(struct moon_auth *auth, const struct moon_url *url)
{
    struct moon_target_conf *target = &auth->target;
    bool is_tls = moon_slice_is(url->scheme, MOON_S("https"));
    bool is_v6 = url->authority.is_ip_literal;
    struct moon_slice identity = moon_arena_printf(
        &auth->lasting, "%s://%s%.*s%s:%d", is_tls ? "https" : "http", is_v6 ? "[" : "",
        MOON_SLICE_ARG(url->authority.host), is_v6 ? "]" : "", url->port);
    *target = (struct moon_target_conf){.url = identity,
                                        .identity = identity,
                                        .authority = url->authority_text,
                                        .host = url->authority.host,
                                        .port = url->port,
                                        .is_tls = is_tls,
                                        .weight = 1};
    auth->conf = (struct moon_backend_conf){.connect_ms = AUTH_TIMEOUT_MS / 2,
                                            .send_ms = AUTH_TIMEOUT_MS,
                                            .first_byte_ms = AUTH_TIMEOUT_MS,
                                            .idle_ms = AUTH_TIMEOUT_MS,
                                            .total_ms = AUTH_TIMEOUT_MS,
                                            .retries = 1,
                                            .retry = moon_retry_defaults,
                                            .idle_connections = 1,
                                            .idle_timeout_ms = 4000,
                                            .tls = auth->backend->conf->tls,
                                            .targets = target,
                                            .target_count = 1};
    auth->conf.tls.server_name = moon_slice(NULL, 0);
    struct moon_slice parts[3] = {url->path.len > 0 ? url->path : MOON_S("/"),
                                  url->query.data != NULL ? MOON_S("?") : MOON_S(""), url->query};
    return identity.len > 0 && moon_arena_join(&auth->lasting, parts, 3, &auth->path);
}

enum moon_rc moon_auth_start(struct moon_backend *backend, char *error, size_t error_cap)
{
    struct moon_url url;
    if (backend->conf->auth.token_url.len == 0)
        return MOON_OK;
    if (!moon_url_parse(backend->conf->auth.token_url, &url)) {
        (void)snprintf(error, error_cap, "auth.oauth2.token_url is no URL");
        return MOON_ERR_CONFIG;
    }
    struct moon_auth *auth = calloc(1, sizeof(*auth));
    if (auth == NULL)
        return MOON_ERR_MEMORY;
    auth->backend = backend;
    backend->auth = auth;
    moon_list_init(&auth->waiting);
    moon_arena_init(&auth->lasting, AUTH_ARENA_BYTES);
    moon_arena_init(&auth->arena, AUTH_ARENA_BYTES);
    moon_buf_init(&auth->token, AUTH_ANSWER_BYTES);
    moon_buf_init(&auth->answer, AUTH_ANSWER_BYTES);
    moon_call_init(&auth->call, backend->upstreams, &auth->arena, &auth_events, auth);
    if (!auth_make_conf(auth, &url))
        return MOON_ERR_MEMORY;
    return moon_backend_new(backend->upstreams, &auth->conf, error, error_cap, &auth->server);
}

void moon_auth_stop(struct moon_backend *backend)
{
    struct moon_auth *auth = backend->auth;
    if (auth == NULL)
        return;
    moon_call_end(&auth->call);
    moon_backend_free(auth->server);
    moon_buf_fini(&auth->token);
    moon_buf_fini(&auth->answer);
    moon_arena_reset(&auth->arena);
    moon_arena_reset(&auth->lasting);
    free(auth);
    backend->auth = NULL;
}
