/* SPDX-License-Identifier: Apache-2.0 */

/// Origins of specs: an HTTP/1.1 server whose answers a Lua function gives. Requests are read whole;
/// the function gets { method=, path=, query=, headers= (lower-case names), body= } and returns
/// status, headers, body; or a table { raw = bytes } that is sent as it is, before the connection
/// is closed; or nothing, and the connection is closed without an answer.

#include "http/h1.h"
#include "process/testkit.h"

#include <lauxlib.h>
#include <netinet/in.h>
#include <unistd.h>

enum { ORIGIN_BYTES = 64 << 20 };

struct moon_test_origin {
    struct moon_list link;
    struct moon_testkit *kit;
    lua_State *L;
    int function_ref;
    int fd;
    uint16_t port;
    struct moon_acceptor *acceptor;
    struct moon_list conns;
};

struct origin_conn {
    struct moon_list link;
    struct moon_test_origin *origin;
    struct moon_stream *stream;
    struct moon_buf in, body;
    struct moon_arena arena;
    struct moon_request request;
    struct moon_h1_scan scan;
    struct moon_h1_body decoder;
    bool has_head;
    bool is_closing;
};

static const struct moon_h1_limits origin_limits = {65536, 65536, 256};

static void origin_conn_free(struct origin_conn *conn)
{
    moon_list_remove(&conn->link);
    moon_stream_free(conn->stream);
    moon_buf_fini(&conn->in);
    moon_buf_fini(&conn->body);
    moon_h1_body_fini(&conn->decoder);
    moon_arena_reset(&conn->arena);
    free(conn);
}

static void origin_push_request(lua_State *L, const struct origin_conn *conn)
{
    const struct moon_request *request = &conn->request;
    lua_newtable(L);
    lua_pushlstring(L, request->method_name.data, request->method_name.len);
    lua_setfield(L, -2, "method");
    lua_pushlstring(L, request->path_raw.data, request->path_raw.len);
    lua_setfield(L, -2, "path");
    if (request->query.data != NULL) {
        lua_pushlstring(L, request->query.data, request->query.len);
        lua_setfield(L, -2, "query");
    }
    lua_newtable(L);
    for (size_t i = 0; i < request->fields.count; i++) {
        char name[256];
        size_t n = moon_min_size(request->fields.items[i].name.len, sizeof(name));
        for (size_t k = 0; k < n; k++)
            name[k] = moon_lower(request->fields.items[i].name.data[k]);
        lua_pushlstring(L, name, n);
        lua_pushlstring(L, request->fields.items[i].value.data, request->fields.items[i].value.len);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "headers");
    struct moon_slice body = moon_buf_slice(&conn->body);
    lua_pushlstring(L, body.data == NULL ? "" : body.data, body.len);
    lua_setfield(L, -2, "body");
}

static void origin_write(struct origin_conn *conn, struct moon_buf *out)
{
    struct moon_slice bytes = moon_buf_slice(out);
    struct iovec iov = {(void *)(uintptr_t)bytes.data, bytes.len};
    if (bytes.len > 0) {
        enum moon_rc rc = moon_stream_write(conn->stream, &iov, 1);
        if (rc != MOON_OK && rc != MOON_AGAIN)
            conn->is_closing = true;
    }
}

// Headers of the answer: { name = value | { values } }.
static enum moon_rc origin_put_headers(lua_State *L, int index, struct moon_buf *out)
{
    enum moon_rc rc = MOON_OK;
    for (lua_pushnil(L); rc == MOON_OK && lua_next(L, index) != 0; lua_pop(L, 1)) {
        size_t n = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
        for (size_t i = 1; rc == MOON_OK && i <= n; i++) {
            lua_rawgeti(L, -1, (int)i);
            rc = moon_buf_printf(out, "%s: %s\r\n", lua_tostring(L, -3), lua_tostring(L, -1));
            lua_pop(L, 1);
        }
        if (n == 0)
            rc = moon_buf_printf(out, "%s: %s\r\n", lua_tostring(L, -2), lua_tostring(L, -1));
    }
    lua_settop(L, index + 1);
    return rc;
}

static void origin_put_answer(struct origin_conn *conn, lua_State *L, int first)
{
    struct moon_buf out;
    size_t len = 0;
    int status = (int)luaL_optinteger(L, first, 200);
    const char *body = lua_isstring(L, first + 2) ? lua_tolstring(L, first + 2, &len) : "";
    moon_buf_init(&out, ORIGIN_BYTES);
    enum moon_rc rc = moon_buf_printf(&out, "HTTP/1.1 %d X\r\n", status);
    if (rc == MOON_OK && lua_istable(L, first + 1))
        rc = origin_put_headers(L, first + 1, &out);
    bool has_length = status >= 200 && status != 204 && status != 304;
    if (rc == MOON_OK && has_length)
        rc = moon_buf_printf(&out, "Content-Length: %zu\r\n", len);
    if (rc == MOON_OK)
        rc = moon_buf_append(&out, MOON_S("\r\n"));
    if (rc == MOON_OK && conn->request.method != MOON_METHOD_HEAD)
        rc = moon_buf_append(&out, moon_slice(body, len));
    MOON_ASSERT(rc == MOON_OK);
    origin_write(conn, &out);
    moon_buf_fini(&out);
}

static void origin_put_raw(struct origin_conn *conn, lua_State *L, int table)
{
    struct moon_buf out;
    size_t len = 0;
    moon_buf_init(&out, ORIGIN_BYTES);
    lua_getfield(L, table, "raw");
    const char *bytes = lua_tolstring(L, -1, &len);
    if (bytes != NULL && moon_buf_append(&out, moon_slice(bytes, len)) == MOON_OK)
        origin_write(conn, &out);
    moon_buf_fini(&out);
    lua_getfield(L, table, "keep");
    conn->is_closing = !lua_toboolean(L, -1);
}

static void origin_answer(struct origin_conn *conn)
{
    lua_State *L = conn->origin->L;
    int top = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, conn->origin->function_ref);
    origin_push_request(L, conn);
    if (lua_pcall(L, 1, 3, 0) != 0) {
        (void)fprintf(stderr, "origin: %s\n", lua_tostring(L, -1));
        lua_settop(L, top);
        conn->is_closing = true;
        return;
    }
    if (lua_istable(L, top + 1))
        origin_put_raw(conn, L, top + 1);
    else if (lua_isnil(L, top + 1))
        conn->is_closing = true;
    else
        origin_put_answer(conn, L, top + 1);
    lua_settop(L, top);
}

static enum moon_rc origin_read_head(struct origin_conn *conn)
{
    size_t head_len;
    struct moon_slice head;
    enum moon_rc rc =
        moon_h1_scan(&conn->scan, moon_buf_slice(&conn->in), &origin_limits, &head_len);
    if (rc != MOON_OK)
        return rc;
    if (!moon_arena_copy(&conn->arena, moon_slice(moon_buf_slice(&conn->in).data, head_len), &head))
        return MOON_ERR_MEMORY;
    moon_request_init(&conn->request, &conn->arena);
    conn->request.keeps_escaped_slash = true;
    rc = moon_h1_parse_request(&conn->request, head, &origin_limits, false);
    moon_buf_consume(&conn->in, head_len);
    if (rc != MOON_OK)
        return rc;
    conn->has_head = true;
    moon_h1_body_init(&conn->decoder, conn->request.framing, conn->request.content_length,
                      &conn->request.trailers, false);
    return MOON_OK;
}

static enum moon_rc origin_read_body(struct origin_conn *conn)
{
    while (!conn->decoder.is_done) {
        struct moon_slice data = {NULL, 0};
        size_t used = 0;
        enum moon_rc rc =
            moon_h1_body_next(&conn->decoder, moon_buf_slice(&conn->in), &used, &data);
        if (rc == MOON_OK)
            rc = moon_buf_append(&conn->body, data);
        moon_buf_consume(&conn->in, used);
        if (rc != MOON_OK)
            return rc;
    }
    return MOON_OK;
}

static void origin_next(struct origin_conn *conn)
{
    conn->has_head = false;
    conn->scan = (struct moon_h1_scan){0};
    moon_buf_clear(&conn->body);
    moon_h1_body_fini(&conn->decoder);
    moon_arena_reset(&conn->arena);
}

static enum moon_rc origin_progress(struct origin_conn *conn)
{
    enum moon_rc rc = conn->has_head ? MOON_OK : origin_read_head(conn);
    if (rc == MOON_OK)
        rc = origin_read_body(conn);
    if (rc == MOON_OK) {
        origin_answer(conn);
        origin_next(conn);
    }
    return rc;
}

static void origin_readable(void *owner)
{
    struct origin_conn *conn = owner;
    for (;;) {
        size_t n = 0;
        enum moon_rc rc = moon_stream_read(conn->stream, &conn->in, 65536, &n);
        if (rc == MOON_AGAIN)
            return;
        if (rc != MOON_OK)
            break;
        do {
            rc = origin_progress(conn);
        } while (rc == MOON_OK && !conn->is_closing && moon_buf_len(&conn->in) > 0);
        if ((rc != MOON_OK && rc != MOON_AGAIN) || conn->is_closing)
            break;
    }
    origin_conn_free(conn);
}

static void origin_writable(void *owner)
{
    (void)owner;
}

static const struct moon_stream_events origin_events = {origin_readable, origin_writable};

static void origin_accept(void *owner, int fd, const struct sockaddr *peer, socklen_t peer_len)
{
    struct moon_test_origin *origin = owner;
    (void)peer;
    (void)peer_len;
    struct origin_conn *conn = calloc(1, sizeof(*conn));
    MOON_ASSERT(conn != NULL);
    conn->origin = origin;
    conn->stream = moon_stream_accept(origin->kit->worker.loop, fd, NULL, &origin_events, conn);
    MOON_ASSERT(conn->stream != NULL);
    moon_buf_init(&conn->in, ORIGIN_BYTES);
    moon_buf_init(&conn->body, ORIGIN_BYTES);
    moon_arena_init(&conn->arena, 1 << 20);
    moon_list_push_back(&origin->conns, &conn->link);
}

struct moon_test_origin *moon_test_origin_new(struct moon_testkit *kit, lua_State *L,
                                              int function_index)
{
    struct moon_listen_address address;
    char error[256];
    struct moon_test_origin *origin = calloc(1, sizeof(*origin));
    if (origin == NULL)
        return NULL;
    origin->kit = kit;
    origin->L = L;
    moon_list_init(&origin->conns);
    if (moon_listen_address_parse("127.0.0.1:0", &address) != MOON_OK ||
        moon_listen_bind(&address, 1024, false, error, sizeof(error), &origin->fd) != MOON_OK) {
        free(origin);
        return NULL;
    }
    origin->port = moon_listen_port(origin->fd);
    origin->acceptor = moon_acceptor_new(kit->worker.loop, origin->fd, origin_accept, origin);
    lua_pushvalue(L, function_index);
    origin->function_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    moon_list_push_back(&kit->origins, &origin->link);
    return origin;
}

void moon_test_origin_free(struct moon_test_origin *origin)
{
    MOON_LIST_EACH(at, after, &origin->conns)
    origin_conn_free(MOON_LIST_ENTRY(at, struct origin_conn, link));
    moon_acceptor_free(origin->acceptor);
    (void)close(origin->fd);
    luaL_unref(origin->L, LUA_REGISTRYINDEX, origin->function_ref);
    moon_list_remove(&origin->link);
    free(origin);
}

uint16_t moon_test_origin_port(const struct moon_test_origin *origin)
{
    return origin->port;
}

struct moon_test_origin *moon_test_origin_of(struct moon_list *link)
{
    return MOON_LIST_ENTRY(link, struct moon_test_origin, link);
}
