/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.http: requests that policies make. `request` waits for the answer; `send` does not, its
/// queue is bounded and what does not fit is counted.

#include "base/hash.h"
#include "base/log.h"
#include "http/uri.h"
#include "script/internal.h"
#include "upstream/call.h"

enum {
    HTTP_ARENA_BYTES = 1 << 20,
    HTTP_BODY_BYTES = 8 << 20,  // of an answer, unless max_bytes says otherwise
    HTTP_DYNAMIC_BACKENDS = 64, // origins given as URLs, per generation
    HTTP_SENDS = 256,           // requests of `send` under way, per worker
    HTTP_TIMEOUT_MS = 60000,
    HTTP_TIMEOUT_MOST_S = 86400,
    HTTP_BODY_MOST_BYTES = 1 << 30,
};

/// A backend made for a URL's origin.
struct http_backend {
    struct moon_list link;
    struct moon_arena arena;
    struct moon_backend_conf conf;
    struct moon_target_conf target;
    struct moon_backend *backend;
};

struct http_op {
    struct moon_list link;      // of `send`: in http_sends
    struct moon_script *script; // of `send`: kept until it has ended
    struct moon_ctx *x;         // NULL: nobody waits
    struct moon_arena arena;
    struct moon_request request;
    struct moon_slice path, body;
    struct moon_call call;
    struct moon_timer deadline;
    struct moon_buf answer;
    enum moon_rc failure;
};

static struct moon_list http_sends = {&http_sends, &http_sends}; // under way, of this process
static size_t http_send_count;
static uint64_t http_sends_dropped;

static void http_op_free(struct http_op *op)
{
    struct moon_script *script = op->script;
    moon_timer_stop(&op->deadline);
    moon_call_end(&op->call);
    moon_buf_fini(&op->answer);
    moon_arena_reset(&op->arena);
    moon_list_remove(&op->link);
    free(op);
    if (script == NULL)
        return;
    http_send_count--;
    moon_errand_end(script->env.errands);
    script->keep(script->keeper, false); // its backends were the call's
}

// From here on the operation is nobody's but its own.
static void http_op_send(struct http_op *op, struct moon_script *script)
{
    moon_list_push_back(&http_sends, &op->link);
    http_send_count++;
    op->script = script;
    moon_errand_begin(script->env.errands);
    script->keep(script->keeper, true);
}

void moon_script_end_sends(const struct moon_loop *loop)
{
    MOON_LIST_EACH(at, after, &http_sends)
    {
        struct http_op *op = MOON_LIST_ENTRY(at, struct http_op, link);
        if (op->deadline.loop == loop)
            http_op_free(op);
    }
    moon_script_end_entries(loop);
}

static void http_push_headers(lua_State *L, const struct moon_fields *fields)
{
    lua_createtable(L, 0, (int)fields->count);
    for (size_t i = 0; i < fields->count; i++) {
        char name[128];
        struct moon_slice given = fields->items[i].name;
        size_t n = moon_min_size(given.len, sizeof(name));
        for (size_t k = 0; k < n; k++)
            name[k] = moon_lower(given.data[k]);
        lua_pushlstring(L, name, n);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        bool is_repeated = lua_isstring(L, -1) != 0;
        if (is_repeated) {
            lua_pushliteral(L, ", ");
            moon_push_slice(L, fields->items[i].value);
            lua_concat(L, 3);
        } else {
            lua_pop(L, 1);
            moon_push_slice(L, fields->items[i].value);
        }
        lua_rawset(L, -3);
    }
}

/// { status=, headers= (lower-case names), body= } | nil, reason
static int http_push_answer(struct moon_ctx *x, lua_State *L, void *data)
{
    struct http_op *op = data;
    (void)x;
    if (op->failure != MOON_OK) {
        lua_pushnil(L);
        lua_pushstring(L, moon_rc_text(op->failure));
        return 2;
    }
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, op->call.response.status);
    lua_setfield(L, -2, "status");
    http_push_headers(L, &op->call.response.fields);
    lua_setfield(L, -2, "headers");
    moon_push_slice(L, moon_buf_slice(&op->answer));
    lua_setfield(L, -2, "body");
    return 1;
}

static void http_finish(struct http_op *op, enum moon_rc rc)
{
    op->failure = rc;
    if (op->x != NULL)
        moon_async_done(op->x, http_push_answer, op);
    http_op_free(op);
}

static void http_on_body(void *owner)
{
    struct http_op *op = owner;
    for (;;) {
        struct moon_slice data = {NULL, 0};
        bool is_done = false;
        enum moon_rc rc = moon_call_read(&op->call, &data, &is_done);
        if (rc == MOON_AGAIN)
            return;
        if (rc == MOON_OK)
            rc = moon_buf_append(&op->answer, data);
        if (rc != MOON_OK || is_done) {
            http_finish(op, rc);
            return;
        }
    }
}

static void http_on_writable(void *owner)
{
    (void)owner; // the body went out with the head
}

static void http_on_failed(void *owner, enum moon_rc rc)
{
    http_finish(owner, rc);
}

static const struct moon_call_events http_events = {http_on_body, http_on_body, http_on_writable,
                                                    http_on_failed, NULL};

static void http_deadline(struct moon_timer *timer)
{
    http_finish(timer->owner, MOON_ERR_TOTAL_TIMEOUT);
}

static void http_cancel(void *op)
{
    http_op_free(op);
}

// A file's path, as seen from the configuration. Arena.
static bool http_copy_file(struct http_backend *made, const char *dir, struct moon_slice path,
                           struct moon_slice *out)
{
    if (path.len == 0 || path.data[0] == '/')
        return moon_arena_copy(&made->arena, path, out);
    *out = moon_arena_printf(&made->arena, "%s/%.*s", dir, MOON_SLICE_ARG(path));
    return out->len > 0;
}

static bool http_copy_tls(struct http_backend *made, const char *dir,
                          const struct moon_backend_tls_conf *tls)
{
    struct moon_backend_tls_conf *own = &made->conf.tls;
    if (tls == NULL) {
        own->is_verified = true;
        return true;
    }
    own->is_verified = tls->is_verified;
    return http_copy_file(made, dir, tls->ca, &own->ca) &&
           http_copy_file(made, dir, tls->certificate, &own->certificate) &&
           http_copy_file(made, dir, tls->key, &own->key) &&
           moon_arena_copy(&made->arena, tls->server_name, &own->server_name) &&
           moon_arena_copy(&made->arena, tls->min_version, &own->min_version);
}

// The same origin, spoken to in the same way?
static bool http_is_same(const struct http_backend *a, const struct http_backend *b)
{
    const struct moon_backend_tls_conf *s = &a->conf.tls, *t = &b->conf.tls;
    return moon_slice_is(a->target.identity, b->target.identity) &&
           s->is_verified == t->is_verified && moon_slice_is(s->ca, t->ca) &&
           moon_slice_is(s->certificate, t->certificate) && moon_slice_is(s->key, t->key) &&
           moon_slice_is(s->server_name, t->server_name) &&
           moon_slice_is(s->min_version, t->min_version);
}

static bool http_origin_conf(struct http_backend *made, const struct moon_url *url)
{
    struct moon_target_conf *target = &made->target;
    bool is_tls = moon_slice_is(url->scheme, MOON_S("https"));
    bool is_v6 = url->authority.is_ip_literal;
    struct moon_slice identity = moon_arena_printf(
        &made->arena, "%s://%s%.*s%s:%d", is_tls ? "https" : "http", is_v6 ? "[" : "",
        MOON_SLICE_ARG(url->authority.host), is_v6 ? "]" : "", url->port);
    *target = (struct moon_target_conf){
        .url = identity, .identity = identity, .port = url->port, .is_tls = is_tls, .weight = 1};
    made->conf = (struct moon_backend_conf){
        .name = identity,
        .connect_ms = 5000,
        .send_ms = 30000,
        .first_byte_ms = HTTP_TIMEOUT_MS,
        .idle_ms = HTTP_TIMEOUT_MS,
        .retries = 1,
        .retry = moon_retry_defaults,
        .idle_connections = 8,
        .idle_timeout_ms = 4000,
        .targets = target,
        .target_count = 1,
    };
    return identity.len > 0 && moon_arena_copy(&made->arena, url->authority.host, &target->host) &&
           moon_arena_copy(&made->arena, url->authority_text, &target->authority);
}

static void http_backend_free(struct http_backend *made)
{
    moon_backend_free(made->backend);
    moon_arena_reset(&made->arena);
    free(made);
}

struct moon_backend *moon_script_origin(struct moon_script *script, const struct moon_url *url,
                                        const struct moon_backend_tls_conf *tls)
{
    struct http_backend *made = calloc(1, sizeof(*made));
    char error[256] = "";
    size_t count = 0;
    if (made == NULL)
        return NULL;
    moon_list_init(&made->link);
    moon_arena_init(&made->arena, 65536);
    if (!http_origin_conf(made, url) || !http_copy_tls(made, moon_bundle_dir(script->bundle), tls))
        goto fail;
    MOON_LIST_EACH(at, after, &script->dynamic_backends)
    {
        struct http_backend *known = MOON_LIST_ENTRY(at, struct http_backend, link);
        if (http_is_same(known, made)) {
            http_backend_free(made);
            return known->backend;
        }
        count++;
    }
    if (count >= HTTP_DYNAMIC_BACKENDS ||
        moon_backend_new(script->env.upstreams, &made->conf, error, sizeof(error),
                         &made->backend) != MOON_OK)
        goto fail;
    moon_list_push_back(&script->dynamic_backends, &made->link);
    return made->backend;
fail:
    if (error[0] != '\0')
        moon_log_warn("http: " MOON_SLICE_FMT ": %s", MOON_SLICE_ARG(made->target.identity), error);
    http_backend_free(made);
    return NULL;
}

void moon_script_close_http(struct moon_script *script)
{
    MOON_LIST_EACH(at, after, &script->dynamic_backends)
    {
        moon_list_remove(at);
        http_backend_free(MOON_LIST_ENTRY(at, struct http_backend, link));
    }
}

/// What a policy asks for: read whole before anything is begun that an error would leave behind. The
/// texts lie on the Lua stack.
struct http_wish {
    struct moon_slice url, backend, path, method, body; // NULL data: not given
    int headers;                                        // index of a table; 0: none
    int64_t timeout_ms;
    size_t max_bytes;
    bool has_tls;
    struct moon_backend_tls_conf tls;
};

// A text of the table at 1; it stays on the stack, and so alive. Anything else counts as not given.
static struct moon_slice http_text(lua_State *L, const char *name, struct moon_slice absent)
{
    lua_getfield(L, 1, name);
    return lua_isstring(L, -1) ? moon_check_slice(L, lua_gettop(L)) : absent;
}

static double http_number(lua_State *L, const char *name, double absent, double most)
{
    lua_getfield(L, 1, name);
    double value = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : absent;
    lua_pop(L, 1);
    if (!(value >= 0 && value <= most))
        luaL_error(L, "http: %s must be 0 to %f, got %f", name, most, value);
    return value;
}

// Nothing in here raises: the operation would be lost.
static enum moon_rc http_add_header(lua_State *L, struct http_op *op)
{
    struct moon_slice name, value;
    if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
        return MOON_ERR_BAD_FIELD;
    if (!moon_arena_copy(&op->arena, moon_check_slice(L, -2), &name))
        return MOON_ERR_MEMORY;
    if (lua_type(L, -1) == LUA_TNUMBER)
        value = moon_arena_printf(&op->arena, "%.14g", lua_tonumber(L, -1));
    else if (!moon_arena_copy(&op->arena, moon_slice_trim(moon_check_slice(L, -1)), &value))
        return MOON_ERR_MEMORY;
    if (!moon_field_name_is_valid(name) || !moon_field_value_is_valid(value))
        return MOON_ERR_BAD_FIELD;
    return moon_fields_set(&op->request.fields, name, value);
}

// A text among the fields of the table on top of the stack; lent by it.
static struct moon_slice http_tls_text(lua_State *L, const char *name)
{
    size_t len = 0;
    lua_getfield(L, -1, name);
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "http: tls.%s must be a text", name);
    const char *text = lua_tolstring(L, -1, &len);
    lua_pop(L, 1);
    return text == NULL ? moon_slice(NULL, 0) : moon_slice(text, len);
}

/// tls = { ca =, certificate =, key =, sni =, verify = true, min_version = }: as of a backend
/// @lua-raises "http: tls.ca must be a text", "http: tls.certificate and tls.key go together" ...
/// @return false when there is none
static bool http_read_tls(lua_State *L, struct moon_backend_tls_conf *tls)
{
    lua_getfield(L, 1, "tls");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    luaL_checktype(L, -1, LUA_TTABLE);
    lua_getfield(L, -1, "verify");
    bool is_verified = lua_isnil(L, -1) || lua_toboolean(L, -1);
    lua_pop(L, 1);
    *tls = (struct moon_backend_tls_conf){
        .is_verified = is_verified,
        .min_version = http_tls_text(L, "min_version"),
        .ca = http_tls_text(L, "ca"),
        .certificate = http_tls_text(L, "certificate"),
        .key = http_tls_text(L, "key"),
        .server_name = http_tls_text(L, "sni"),
    };
    lua_pop(L, 1);
    if ((tls->certificate.len > 0) != (tls->key.len > 0))
        luaL_error(L, "http: tls.certificate and tls.key go together");
    return true;
}

static void http_read_wish(lua_State *L, struct http_wish *wish)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    wish->has_tls = http_read_tls(L, &wish->tls);
    wish->timeout_ms =
        (int64_t)(http_number(L, "timeout", HTTP_TIMEOUT_MS / 1000.0, HTTP_TIMEOUT_MOST_S) * 1000);
    wish->max_bytes = (size_t)http_number(L, "max_bytes", HTTP_BODY_BYTES, HTTP_BODY_MOST_BYTES);
    wish->url = http_text(L, "url", moon_slice(NULL, 0));
    wish->backend = http_text(L, "backend", moon_slice(NULL, 0));
    wish->path = http_text(L, "path", MOON_S("/"));
    wish->method = http_text(L, "method", MOON_S("GET"));
    wish->body = http_text(L, "body", moon_slice(NULL, 0));
    lua_getfield(L, 1, "headers");
    wish->headers = lua_istable(L, -1) ? lua_gettop(L) : 0;
}

// A policy may have made it of what a client sent.
static bool http_is_target(struct moon_slice path)
{
    for (size_t i = 0; i < path.len; i++) {
        if ((unsigned char)path.data[i] <= ' ' || path.data[i] == 0x7F || path.data[i] == '#')
            return false;
    }
    return path.len > 0 && path.data[0] == '/';
}

static struct moon_backend *http_find_backend(struct moon_script *script, struct http_op *op,
                                              const struct http_wish *wish, enum moon_rc *rc)
{
    struct moon_url url;
    *rc = MOON_ERR_BAD_TARGET;
    if (wish->url.data != NULL) {
        if (!moon_url_parse(wish->url, &url))
            return NULL;
        *rc = MOON_ERR_MEMORY;
        struct moon_slice parts[3] = {url.path.len > 0 ? url.path : MOON_S("/"),
                                      url.query.data != NULL ? MOON_S("?") : MOON_S(""), url.query};
        if (!moon_arena_join(&op->arena, parts, 3, &op->path))
            return NULL;
        return moon_script_origin(script, &url, wish->has_tls ? &wish->tls : NULL);
    }
    if (!http_is_target(wish->path) || !moon_arena_copy(&op->arena, wish->path, &op->path))
        return NULL;
    for (size_t i = 0; script->backends != NULL && i < script->plan->backend_count; i++) {
        if (moon_slice_is(script->plan->backends[i].name, wish->backend))
            return script->backends[i];
    }
    return NULL;
}

static enum moon_rc http_fill(lua_State *L, struct http_op *op, const struct http_wish *wish,
                              const struct moon_backend *backend)
{
    struct moon_request *request = &op->request;
    bool has_body = wish->body.data != NULL;
    if (!moon_field_name_is_valid(wish->method))
        return MOON_ERR_METHOD;
    op->arena.ceiling_bytes += wish->body.len;
    if (!moon_arena_copy(&op->arena, wish->method, &request->method_name) ||
        (has_body && !moon_arena_copy(&op->arena, wish->body, &op->body)))
        return MOON_ERR_MEMORY;
    request->method = moon_method_parse(request->method_name);
    request->framing = has_body ? MOON_FRAMING_LENGTH : MOON_FRAMING_NONE;
    request->content_length = has_body ? (int64_t)wish->body.len : -1;
    request->path = op->path;
    if (backend->conf->sink_status != 0 || backend->target_count == 0)
        return MOON_ERR_NO_TARGET;
    request->authority = backend->conf->targets[0].authority;
    enum moon_rc rc = moon_fields_add_id(&request->fields, MOON_FIELD_HOST, request->authority);
    if (wish->headers == 0)
        return rc;
    lua_pushnil(L);
    for (; rc == MOON_OK && lua_next(L, wish->headers) != 0; lua_pop(L, 1))
        rc = http_add_header(L, op);
    return rc;
}

// Starts a request from the table at index 1. @return NULL with the reason in *rc
static struct http_op *http_start(lua_State *L, struct moon_ctx *x, enum moon_rc *rc)
{
    struct moon_script *script = moon_script_of(L);
    struct http_wish wish;
    http_read_wish(L, &wish);
    *rc = MOON_ERR_MEMORY;
    struct http_op *op = calloc(1, sizeof(*op));
    if (op == NULL)
        return NULL;
    op->x = x;
    moon_list_init(&op->link);
    moon_arena_init(&op->arena, HTTP_ARENA_BYTES);
    moon_request_init(&op->request, &op->arena);
    moon_buf_init(&op->answer, wish.max_bytes);
    moon_call_init(&op->call, script->env.upstreams, &op->arena, &http_events, op);
    moon_timer_init(&op->deadline, script->env.loop, http_deadline, op);
    struct moon_backend *backend = http_find_backend(script, op, &wish, rc);
    if (backend != NULL)
        *rc = http_fill(L, op, &wish, backend);
    if (backend != NULL && *rc == MOON_OK)
        *rc = moon_call_start(&op->call, backend, &op->request, op->path, op->body, true);
    if (*rc != MOON_OK) {
        http_op_free(op);
        return NULL;
    }
    moon_timer_set(&op->deadline, wish.timeout_ms);
    return op;
}

/// http.request{ url= | backend=, path=, method=, headers=, body=, timeout=, max_bytes=, tls= }
///   -> { status=, headers=, body= } | nil, reason
///
/// A backend is spoken to as its own settings say; `tls` is for a URL.
/// @lua-raises "http: timeout must be 0 to 86400, got -1"
static int http_request(lua_State *L)
{
    enum moon_rc rc;
    struct moon_ctx *x = moon_async_ctx(L);
    struct http_op *op = http_start(L, x, &rc);
    if (op == NULL) {
        lua_pushnil(L);
        lua_pushstring(L, moon_rc_text(rc));
        return 2;
    }
    return moon_async_wait(L, x, http_cancel, op);
}

/// http.send{ ... } -> true | nil, reason; the answer is read and dropped
static int http_send(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    enum moon_rc rc = MOON_ERR_QUEUE_FULL;
    struct http_op *op = NULL;
    if (script->current == NULL)
        return luaL_error(L, "http.send can be used only while a request is handled");
    if (http_send_count < HTTP_SENDS)
        op = http_start(L, NULL, &rc);
    else
        http_sends_dropped++;
    if (op == NULL) {
        lua_pushnil(L);
        lua_pushstring(L, moon_rc_text(rc));
        return 2;
    }
    http_op_send(op, script);
    lua_pushboolean(L, 1);
    return 1;
}

/// http.dropped() -> requests of `send` that found the queue full
static int http_dropped(lua_State *L)
{
    lua_pushnumber(L, (double)http_sends_dropped);
    return 1;
}

static const luaL_Reg http_functions[] = {
    {"request", http_request}, {"send", http_send}, {"dropped", http_dropped}, {NULL, NULL}};

static int http_open(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, http_functions);
    return 1;
}

void moon_script_open_http(lua_State *L)
{
    moon_preload(L, "moongate.http", http_open);
}
