/* SPDX-License-Identifier: Apache-2.0 */

/// The client of specs: requests by the runtime's own client codec, and raw bytes for what no
/// client would send.

#include "base/clock.h"
#include "process/testkit.h"
#include "upstream/call.h"

#include <lauxlib.h>
#include <netinet/in.h>

enum {
    CLIENT_REAL_SECONDS = 20, // a request that takes longer in real time has failed
    CLIENT_BODY_BYTES = 256 << 20,
    CLIENT_TURN_MS = 5,
};

struct client_request {
    struct moon_arena arena;
    struct moon_request request;
    struct moon_backend_conf conf;
    struct moon_target_conf target;
    struct moon_backend *backend;
    struct moon_call call;
    struct moon_buf answer;
    bool is_over;
    enum moon_rc failure;
};

static void client_on_body(void *owner)
{
    struct client_request *r = owner;
    while (!r->is_over) {
        struct moon_slice data = {NULL, 0};
        bool is_done = false;
        enum moon_rc rc = moon_call_read(&r->call, &data, &is_done);
        if (rc == MOON_AGAIN)
            return;
        if (rc == MOON_OK)
            rc = moon_buf_append(&r->answer, data);
        r->is_over = rc != MOON_OK || is_done;
        r->failure = rc;
    }
}

static void client_on_writable(void *owner)
{
    (void)owner;
}

static void client_on_failed(void *owner, enum moon_rc rc)
{
    struct client_request *r = owner;
    r->is_over = true;
    r->failure = rc;
}

static const struct moon_call_events client_events = {client_on_body, client_on_body,
                                                      client_on_writable, client_on_failed, NULL};

static struct moon_slice client_text(lua_State *L, struct client_request *r, const char *name,
                                     const char *absent)
{
    struct moon_slice copy = moon_slice_text(absent);
    size_t len;
    lua_getfield(L, 2, name);
    const char *text = lua_isstring(L, -1) ? lua_tolstring(L, -1, &len) : NULL;
    if (text != NULL && !moon_arena_copy(&r->arena, moon_slice(text, len), &copy))
        copy = moon_slice(NULL, 0);
    lua_pop(L, 1);
    return copy;
}

static void client_add_field(struct client_request *r, lua_State *L, int value)
{
    size_t name_len, value_len;
    struct moon_slice name, copy;
    const char *name_text = lua_tolstring(L, -2, &name_len);
    const char *value_text = lua_tolstring(L, value, &value_len);
    bool is_added = value_text != NULL &&
                    moon_arena_copy(&r->arena, moon_slice(name_text, name_len), &name) &&
                    moon_arena_copy(&r->arena, moon_slice(value_text, value_len), &copy) &&
                    moon_fields_add(&r->request.fields, name, copy) == MOON_OK;
    MOON_ASSERT(is_added);
}

static void client_add_fields(struct client_request *r, lua_State *L)
{
    lua_getfield(L, 2, "headers");
    if (lua_istable(L, -1)) {
        for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
            size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
            for (size_t i = 1; i <= n; i++) {
                lua_rawgeti(L, -1, (int)i);
                lua_insert(L, -2); // value, table -> keep the name at -2 of the value
                lua_pushvalue(L, -3);
                lua_pushvalue(L, -3);
                client_add_field(r, L, -1);
                lua_pop(L, 2);
                lua_remove(L, -2);
            }
            if (n == 0 && !lua_istable(L, -1))
                client_add_field(r, L, -1);
        }
    }
    lua_pop(L, 1);
}

static enum moon_rc client_start(struct client_request *r, struct moon_testkit *kit, lua_State *L)
{
    char error[256] = "";
    lua_getfield(L, 2, "listener");
    uint16_t port = moon_testkit_port(kit, lua_tostring(L, -1));
    lua_getfield(L, 2, "tls");
    bool is_tls = lua_toboolean(L, -1) != 0;
    lua_pop(L, 2);
    struct moon_slice host = client_text(L, r, "host", "localhost");
    r->target = (struct moon_target_conf){.host = MOON_S("127.0.0.1"),
                                          .port = port,
                                          .is_tls = is_tls,
                                          .weight = 1,
                                          .authority = host};
    r->target.identity =
        moon_arena_printf(&r->arena, "%s://127.0.0.1:%d", is_tls ? "https" : "http", port);
    r->conf = (struct moon_backend_conf){.name = MOON_S("spec"),
                                         .targets = &r->target,
                                         .target_count = 1,
                                         .idle_connections = 16,
                                         .idle_timeout_ms = 60000};
    r->conf.tls.server_name = host;
    r->request.method_name = client_text(L, r, "method", "GET");
    r->request.method = moon_method_parse(r->request.method_name);
    struct moon_slice body = client_text(L, r, "body", NULL);
    if (body.data != NULL) {
        r->request.framing = MOON_FRAMING_LENGTH;
        r->request.content_length = (int64_t)body.len;
    }
    r->request.authority = host;
    client_add_fields(r, L);
    enum moon_rc rc = moon_fields_find_id(&r->request.fields, MOON_FIELD_HOST) != NULL
                          ? MOON_OK
                          : moon_fields_add_id(&r->request.fields, MOON_FIELD_HOST, host);
    if (rc == MOON_OK)
        rc = moon_backend_new(&kit->clients, &r->conf, error, sizeof(error), &r->backend);
    if (rc == MOON_OK)
        rc = moon_call_start(&r->call, r->backend, &r->request, client_text(L, r, "path", "/"),
                             body, true);
    return rc;
}

static void client_push_answer(lua_State *L, const struct client_request *r)
{
    const struct moon_fields *fields = &r->call.response.fields;
    lua_newtable(L);
    lua_pushinteger(L, r->call.response.status);
    lua_setfield(L, -2, "status");
    lua_newtable(L);
    for (size_t i = 0; i < fields->count; i++) {
        char name[256];
        size_t n = moon_min_size(fields->items[i].name.len, sizeof(name));
        for (size_t k = 0; k < n; k++)
            name[k] = moon_lower(fields->items[i].name.data[k]);
        lua_pushlstring(L, name, n);
        struct moon_slice joined = moon_fields_joined(fields, fields->items[i].name);
        lua_pushlstring(L, joined.data, joined.len);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "headers");
    struct moon_slice body = moon_buf_slice(&r->answer);
    lua_pushlstring(L, body.data == NULL ? "" : body.data, body.len);
    lua_setfield(L, -2, "body");
    if (r->failure != MOON_OK) {
        lua_pushstring(L, moon_rc_name(r->failure));
        lua_setfield(L, -2, "broken");
    }
}

/// gw:request{ method=, path=, host=, headers=, body=, listener=, tls= }
///   -> { status=, headers=, body= } | nil, reason
int moon_test_request(lua_State *L)
{
    struct moon_testkit *kit = moon_testkit_check(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct client_request *r = calloc(1, sizeof(*r));
    MOON_ASSERT(r != NULL);
    moon_arena_init(&r->arena, CLIENT_BODY_BYTES);
    moon_request_init(&r->request, &r->arena);
    moon_buf_init(&r->answer, CLIENT_BODY_BYTES);
    moon_call_init(&r->call, &kit->clients, &r->arena, &client_events, r);
    r->failure = client_start(r, kit, L);
    r->is_over = r->failure != MOON_OK;
    int64_t give_up = moon_clock_real_us() + CLIENT_REAL_SECONDS * INT64_C(1000000);
    while (!r->is_over && moon_clock_real_us() < give_up)
        moon_testkit_turn(5);
    if (!r->is_over)
        r->failure = MOON_ERR_TIMEOUT;
    bool has_head = r->call.response.status != 0;
    if (has_head) {
        client_push_answer(L, r);
    } else {
        lua_pushnil(L);
        lua_pushstring(L, moon_rc_name(r->failure));
    }
    moon_call_end(&r->call);
    moon_backend_free(r->backend);
    moon_buf_fini(&r->answer);
    moon_arena_reset(&r->arena);
    free(r);
    moon_testkit_turn(0); // the gateway's own end of the exchange: its log line
    return has_head ? 1 : 2;
}

struct client_raw {
    struct moon_stream *stream;
    struct moon_buf in;
    bool is_over;
};

static void raw_readable(void *owner)
{
    struct client_raw *raw = owner;
    size_t n;
    enum moon_rc rc;
    do {
        rc = moon_stream_read(raw->stream, &raw->in, 65536, &n);
    } while (rc == MOON_OK);
    raw->is_over = rc != MOON_AGAIN;
}

static void raw_writable(void *owner)
{
    (void)owner;
}

static const struct moon_stream_events raw_events = {raw_readable, raw_writable};

struct raw_options {
    const char *listener;
    double wait;
    bool is_half_closed, is_tls;
};

static struct raw_options raw_read_options(lua_State *L)
{
    struct raw_options options = {.wait = 0.1};
    if (!lua_istable(L, 3))
        return options;
    lua_getfield(L, 3, "listener");
    options.listener = lua_tostring(L, -1);
    lua_getfield(L, 3, "wait");
    options.wait = luaL_optnumber(L, -1, options.wait);
    lua_getfield(L, 3, "half_close");
    options.is_half_closed = lua_toboolean(L, -1) != 0;
    lua_getfield(L, 3, "tls");
    options.is_tls = lua_toboolean(L, -1) != 0;
    return options;
}

static void raw_connect(lua_State *L, struct client_raw *raw, struct moon_testkit *kit,
                        const struct raw_options *options)
{
    static const struct moon_tls_client_conf conf = {.is_http2 = true};
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct moon_tls_client *tls = NULL;
    char error[256];
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(moon_testkit_port(kit, options->listener));
    if (options->is_tls && moon_tls_client_new(&conf, error, sizeof(error), &tls) != MOON_OK)
        luaL_error(L, "no TLS: %s", error);
    enum moon_rc rc =
        moon_stream_connect(kit->worker.loop, (struct sockaddr *)&address, sizeof(address), tls,
                            NULL, &raw_events, raw, &raw->stream);
    moon_tls_client_release(tls); // the stream has its own
    if (rc != MOON_OK)
        luaL_error(L, "cannot connect to the gateway");
    while (moon_stream_state(raw->stream) == MOON_AGAIN)
        moon_testkit_turn(5);
}

// Sends the text at `index`, and waits until the gateway has closed, or nothing has come for a while: a
// turn counts as no longer than it may wait, or a loaded machine would take the gateway's time to answer.
static void raw_exchange(lua_State *L, int index, struct client_raw *raw,
                         const struct raw_options *options, bool is_last)
{
    struct iovec iov = {.iov_len = 0};
    iov.iov_base = (void *)(uintptr_t)luaL_checklstring(L, index, &iov.iov_len);
    enum moon_rc rc = moon_stream_write(raw->stream, &iov, 1);
    if (is_last && options->is_half_closed)
        moon_stream_shutdown_write(raw->stream);
    int64_t quiet_us = 0, before_us = moon_clock_real_us();
    size_t seen = moon_buf_len(&raw->in);
    raw->is_over = raw->is_over || (rc != MOON_OK && rc != MOON_AGAIN);
    while (!raw->is_over && quiet_us < (int64_t)(options->wait * 1e6)) {
        moon_testkit_turn(CLIENT_TURN_MS);
        int64_t now_us = moon_clock_real_us(), took_us = now_us - before_us;
        quiet_us += took_us < CLIENT_TURN_MS * 1000 ? took_us : CLIENT_TURN_MS * 1000;
        if (moon_buf_len(&raw->in) != seen)
            quiet_us = 0;
        before_us = now_us;
        seen = moon_buf_len(&raw->in);
    }
}

/// gw:raw(bytes, { listener=, wait=, half_close=, tls= }) -> everything that came until the gateway
///   closed, or nothing came for `wait` (0.1) real seconds; true when it closed. TLS offers h2. A
///   list of texts is sent one after the other, each when nothing more comes for the one before
int moon_test_raw(lua_State *L)
{
    struct moon_testkit *kit = moon_testkit_check(L, 1);
    struct client_raw raw = {.is_over = false};
    bool is_list = lua_istable(L, 2);
    int pieces = is_list ? (int)lua_objlen(L, 2) : 1;
    const struct raw_options options = raw_read_options(L);
    moon_buf_init(&raw.in, CLIENT_BODY_BYTES);
    raw_connect(L, &raw, kit, &options);
    for (int i = 1; i <= pieces; i++) {
        if (is_list)
            lua_rawgeti(L, 2, i);
        raw_exchange(L, is_list ? -1 : 2, &raw, &options, i == pieces);
    }
    struct moon_slice got = moon_buf_slice(&raw.in);
    lua_pushlstring(L, got.data == NULL ? "" : got.data, got.len);
    lua_pushboolean(L, raw.is_over);
    moon_stream_free(raw.stream);
    moon_buf_fini(&raw.in);
    moon_testkit_turn(0);
    return 2;
}
