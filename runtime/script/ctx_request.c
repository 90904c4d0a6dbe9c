/* SPDX-License-Identifier: Apache-2.0 */

/// `ctx.request`.

#include "http/uri.h"
#include "script/ctx_internal.h"

enum request_key {
    REQUEST_METHOD = 1,
    REQUEST_SCHEME,
    REQUEST_HOST,
    REQUEST_PATH,
    REQUEST_RAW_PATH,
    REQUEST_QUERY_STRING,
    REQUEST_URL,
    REQUEST_VERSION,
    REQUEST_CLIENT_IP,
    REQUEST_CLIENT_PORT,
    REQUEST_PEER_IP,
    REQUEST_HEADERS,
    REQUEST_QUERY,
    REQUEST_COOKIES,
    REQUEST_PARAMS,
    REQUEST_TLS,
};

static const struct ctx_name request_names[] = {
    {"method", REQUEST_METHOD},
    {"scheme", REQUEST_SCHEME},
    {"host", REQUEST_HOST},
    {"path", REQUEST_PATH},
    {"raw_path", REQUEST_RAW_PATH},
    {"query_string", REQUEST_QUERY_STRING},
    {"url", REQUEST_URL},
    {"version", REQUEST_VERSION},
    {"client_ip", REQUEST_CLIENT_IP},
    {"client_port", REQUEST_CLIENT_PORT},
    {"peer_ip", REQUEST_PEER_IP},
    {"headers", REQUEST_HEADERS},
    {"query", REQUEST_QUERY},
    {"cookies", REQUEST_COOKIES},
    {"params", REQUEST_PARAMS},
    {"tls", REQUEST_TLS},
    {NULL, 0},
};

static int request_push_url(lua_State *L, const struct moon_ctx *x)
{
    const struct moon_request *request = x->request;
    struct moon_slice parts[6] = {request->scheme,
                                  MOON_S("://"),
                                  request->authority,
                                  request->path,
                                  request->query.data != NULL ? MOON_S("?") : MOON_S(""),
                                  request->query};
    struct moon_slice url;
    if (!moon_arena_join(x->arena, parts, MOON_COUNT(parts), &url))
        return moon_raise_full(L);
    moon_push_slice(L, url);
    return 1;
}

static int request_push_peer(lua_State *L, const struct moon_ctx *x)
{
    char text[MOON_IP_TEXT_BYTES];
    if (x->client->is_unix)
        lua_pushliteral(L, "unix");
    else
        lua_pushlstring(L, text, moon_ip_format(&x->client->peer_ip, text));
    return 1;
}

static int request_push_key(lua_State *L, struct moon_ctx *x, enum request_key key)
{
    const struct moon_request *request = x->request;
    switch (key) {
    case REQUEST_METHOD:
        moon_push_slice(L, request->method_name);
        return 1;
    case REQUEST_SCHEME:
        moon_push_slice(L, request->scheme);
        return 1;
    case REQUEST_HOST:
        moon_push_slice(L, request->host);
        return 1;
    case REQUEST_PATH:
        moon_push_slice(L, request->path);
        return 1;
    case REQUEST_RAW_PATH:
        moon_push_slice(L, request->path_raw);
        return 1;
    case REQUEST_QUERY_STRING:
        moon_push_slice(L, request->query);
        return 1;
    case REQUEST_URL:
        return request_push_url(L, x);
    case REQUEST_VERSION:
        if (request->version_major == 2)
            lua_pushliteral(L, "2");
        else
            lua_pushfstring(L, "%d.%d", request->version_major, request->version_minor);
        return 1;
    case REQUEST_CLIENT_IP:
        lua_pushlstring(L, x->client->ip_text, x->client->ip_len);
        return 1;
    case REQUEST_CLIENT_PORT:
        lua_pushinteger(L, x->client->port);
        return 1;
    case REQUEST_PEER_IP:
        return request_push_peer(L, x);
    case REQUEST_HEADERS:
        moon_ctx_push_part(L, MOON_HANDLE_REQUEST_HEADERS);
        return 1;
    case REQUEST_QUERY:
        moon_ctx_push_part(L, MOON_HANDLE_QUERY);
        return 1;
    case REQUEST_COOKIES:
        moon_ctx_push_part(L, MOON_HANDLE_COOKIES);
        return 1;
    case REQUEST_PARAMS:
        moon_ctx_push_part(L, MOON_HANDLE_PARAMS);
        return 1;
    case REQUEST_TLS:
        if (!x->client->is_tls)
            return 0;
        moon_ctx_push_part(L, MOON_HANDLE_TLS);
        return 1;
    }
    return 0;
}

static int request_index(lua_State *L)
{
    moon_ctx_self(L);
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    int key = moon_ctx_key(L);
    return key == 0 ? moon_ctx_method(L, MOON_HANDLE_REQUEST)
                    : request_push_key(L, x, (enum request_key)key);
}

static void request_set_method(lua_State *L, struct moon_ctx *x)
{
    struct moon_slice name = moon_check_copy(L, 3, x);
    if (!moon_field_name_is_valid(name))
        luaL_error(L, "ctx.request.method: \"%s\" is no method", name.data);
    if (moon_method_parse(name) == MOON_METHOD_CONNECT)
        luaL_error(L, "ctx.request.method: CONNECT asks for a tunnel, and the gateway makes none");
    x->request->method_name = name;
    x->request->method = moon_method_parse(name);
}

static bool request_is_target(struct moon_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.data[i] <= ' ' || (unsigned char)s.data[i] >= 0x7F || s.data[i] == '#')
            return false;
    }
    return true;
}

static void request_set_path(lua_State *L, struct moon_ctx *x)
{
    struct moon_slice path = moon_check_copy(L, 3, x);
    size_t mark = moon_slice_find(path, '?');
    if (path.len == 0 || path.data[0] != '/' || mark < path.len || !request_is_target(path)) {
        luaL_error(L,
                   "ctx.request.path: expected a path that starts with '/', without query, spaces "
                   "or control characters, got \"%s\"",
                   path.data);
    }
    x->request->path = path;
    x->is_path_rewritten = true;
}

static void request_set_query(lua_State *L, struct moon_ctx *x)
{
    struct moon_slice query = {NULL, 0};
    if (!lua_isnil(L, 3))
        query = moon_check_copy(L, 3, x);
    if (!request_is_target(query))
        luaL_error(L, "ctx.request.query_string: spaces and control characters must be encoded");
    x->request->query = query;
    x->is_path_rewritten = true;
}

/// ctx.request.name = value
/// @lua-raises "ctx.request.host cannot be set"
static int request_newindex(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    switch (moon_ctx_key(L)) {
    case REQUEST_METHOD:
        request_set_method(L, x);
        return 0;
    case REQUEST_PATH:
        request_set_path(L, x);
        return 0;
    case REQUEST_QUERY_STRING:
        request_set_query(L, x);
        return 0;
    default:
        return moon_ctx_raise_unset(L, MOON_HANDLE_REQUEST);
    }
}

/// ctx.request:body() -> string; waits until it is whole. Reading never consumes it.
static int request_body(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    struct moon_slice body;
    enum moon_rc rc = x->ops->request_body(x, &body);
    if (rc == MOON_OK) {
        moon_push_slice(L, body);
        return 1;
    }
    if (rc != MOON_AGAIN)
        return moon_ctx_body_raise(L, x, "ctx.request:body", rc);
    (void)moon_async_ctx(L);
    return moon_async_wait(L, x, moon_ctx_cancel_body, (void *)(uintptr_t)&x->ops->request_body);
}

/// ctx.request:set_body(text)
static int request_set_body(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    enum moon_rc rc = x->ops->set_request_body(x, moon_check_copy(L, 2, x));
    return rc == MOON_OK ? 0 : luaL_error(L, "ctx.request:set_body: %s", moon_rc_text(rc));
}

/// ctx.request:replace({ { from, to }, ... }, is_link = false)
static int request_replace(lua_State *L)
{
    return moon_ctx_body_replace(L, moon_handle_check(L, 1, MOON_HANDLE_REQUEST), true);
}

/// ctx.request:header_names() -> names in arrival order, repeated as they came
static int request_header_names(lua_State *L)
{
    return moon_ctx_fields_push_names(
        L, &moon_handle_check(L, 1, MOON_HANDLE_REQUEST)->request->fields);
}

/// ctx.request:header_values(name) -> one string a line
static int request_header_values(lua_State *L)
{
    return moon_ctx_fields_push_values(
        L, &moon_handle_check(L, 1, MOON_HANDLE_REQUEST)->request->fields);
}

/// ctx.request:add_header(name, value): a further line
static int request_add_header(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    return moon_ctx_fields_add(L, x, &x->request->fields) == MOON_OK ? 0 : moon_raise_full(L);
}

/// ctx.request:query_values(name) -> all values of a parameter, decoded
static int request_query_values(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    struct moon_slice wanted = moon_check_slice(L, 2);
    struct moon_slice rest = x->request->query, name, value;
    int n = 0;
    lua_newtable(L);
    while (moon_query_next(&rest, &name, &value)) {
        if (!moon_slice_is(moon_uri_decode(x->arena, name, true), wanted))
            continue;
        moon_push_slice(L, moon_uri_decode(x->arena, value, true));
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/// ctx.request:add_query(name, value): a further parameter; both are encoded as they need
static int request_add_query(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    bool has_query = x->request->query.len > 0;
    struct moon_slice parts[5] = {has_query ? x->request->query : MOON_S(""),
                                  has_query ? MOON_S("&") : MOON_S(""),
                                  moon_uri_encode(x->arena, moon_check_slice(L, 2)), MOON_S("="),
                                  moon_uri_encode(x->arena, moon_check_slice(L, 3))};
    struct moon_slice query;
    if (!moon_arena_join(x->arena, parts, MOON_COUNT(parts), &query))
        return moon_raise_full(L);
    x->request->query = query;
    x->is_path_rewritten = true;
    return 0;
}

/// ctx.request:query_names() -> names in order, decoded, repeated as they came
static int request_query_names(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    struct moon_slice rest = x->request->query, name, value;
    int n = 0;
    lua_newtable(L);
    while (moon_query_next(&rest, &name, &value)) {
        moon_push_slice(L, moon_uri_decode(x->arena, name, true));
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/// ctx.request:parse_form(text) -> { name = first value }
static int request_parse_form(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    struct moon_slice rest = moon_check_slice(L, 2), name, value;
    lua_newtable(L);
    while (moon_query_next(&rest, &name, &value)) {
        moon_push_slice(L, moon_uri_decode(x->arena, name, true));
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        bool is_repeated = !lua_isnil(L, -1);
        lua_pop(L, 1);
        if (is_repeated) {
            lua_pop(L, 1);
            continue;
        }
        moon_push_slice(L, moon_uri_decode(x->arena, value, true));
        lua_rawset(L, -3);
    }
    return 1;
}

/// ctx.request:raw_param(name) -> text as it stands in the path, escapes and all; nil where there is none
static int request_raw_param(lua_State *L)
{
    const struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_REQUEST);
    const struct moon_param *param = moon_ctx_find_param(x, moon_check_slice(L, 2));
    if (param == NULL)
        return 0;
    moon_push_slice(L, param->raw);
    return 1;
}

static const luaL_Reg request_methods[] = {
    {"body", request_body},
    {"set_body", request_set_body},
    {"replace", request_replace},
    {"header_names", request_header_names},
    {"header_values", request_header_values},
    {"add_header", request_add_header},
    {"add_query", request_add_query},
    {"query_values", request_query_values},
    {"query_names", request_query_names},
    {"parse_form", request_parse_form},
    {"raw_param", request_raw_param},
    {NULL, NULL},
};

void moon_ctx_open_request(lua_State *L, struct moon_script *script)
{
    moon_ctx_new_class(L, script, MOON_HANDLE_REQUEST, request_names, request_methods,
                       request_index, request_newindex);
    moon_ctx_add_body_methods(L, script, MOON_HANDLE_REQUEST);
}
