/* SPDX-License-Identifier: Apache-2.0 */

/// `headers`, `cookies` and `params`: read by name without building anything else.

#include "http/cookies.h"
#include "script/ctx_internal.h"

/// headers[name] -> value | nil; several lines are joined by ", " (RFC 9110 §5.3).
static int fields_push(lua_State *L, const struct moon_fields *fields)
{
    struct moon_slice value = moon_fields_joined(fields, moon_check_slice(L, 2));
    if (value.data == NULL)
        return 0;
    moon_push_slice(L, value);
    return 1;
}

bool moon_ctx_field_is_fixed(enum moon_field_id id)
{
    switch ((int)id) {
    case MOON_FIELD_CONTENT_LENGTH:
    case MOON_FIELD_TRANSFER_ENCODING:
    case MOON_FIELD_CONNECTION:
    case MOON_FIELD_KEEP_ALIVE:
    case MOON_FIELD_TRAILER:
    case MOON_FIELD_UPGRADE:
        return true;
    default:
        return false;
    }
}

/// The name of a field that may be set: its bytes live as long as the exchange.
struct fields_name {
    enum moon_field_id id;
    struct moon_slice text;
};

static struct moon_name_memo *fields_memo_of(struct moon_script *script, struct moon_slice name)
{
    unsigned first = (unsigned char)name.data[0], last = (unsigned char)name.data[name.len - 1];
    unsigned middle = (unsigned char)name.data[name.len / 2];
    return &script->name_memo[(first * 45 + middle * 125 + last * 91 + (unsigned)name.len * 69) %
                              MOON_NAME_MEMOS];
}

// Checks the name at index 2; raises. The names that a configuration's policies set are few, and the
// same for each request: the first of a slot stays there.
static struct fields_name fields_check_name(lua_State *L, struct moon_ctx *x, bool is_kept)
{
    struct moon_slice name = moon_check_slice(L, 2);
    struct moon_name_memo *memo = NULL;
    if (MOON_LIKELY(name.len > 0 && name.len <= MOON_NAME_MEMO_BYTES)) {
        memo = fields_memo_of(x->script, name);
        if (memo->len == name.len && memcmp(memo->text, name.data, name.len) == 0)
            return (struct fields_name){(enum moon_field_id)memo->id,
                                        moon_slice(memo->text, memo->len)};
    }
    if (!moon_field_name_is_valid(name))
        luaL_error(L, "headers: \"%s\" is no field name", name.data);
    enum moon_field_id id = moon_field_id(name);
    if (moon_ctx_field_is_fixed(id))
        luaL_error(L, "headers: %s is the gateway's own and cannot be set", name.data);
    if (memo != NULL && memo->len == 0) {
        memo->len = (uint8_t)name.len;
        memo->id = (uint8_t)id;
        memcpy(memo->text, name.data, name.len);
        return (struct fields_name){id, moon_slice(memo->text, memo->len)};
    }
    return (struct fields_name){id, is_kept ? moon_check_copy(L, 2, x) : name};
}

static struct moon_slice fields_check_value(lua_State *L, int index, struct moon_ctx *x)
{
    struct moon_slice value = moon_slice_trim(moon_check_copy(L, index, x));
    if (!moon_field_value_is_valid(value))
        luaL_error(L, "headers: the value of %s holds control characters", lua_tostring(L, 2));
    return value;
}

static void fields_store(lua_State *L, struct moon_ctx *x, struct moon_fields *fields,
                         enum moon_field_id id, struct moon_slice name)
{
    enum moon_rc rc = MOON_OK;
    if (!lua_istable(L, 3)) {
        rc = moon_fields_set_known(fields, id, name, fields_check_value(L, 3, x));
    } else {
        moon_fields_remove_known(fields, id, name);
        size_t n = lua_objlen(L, 3);
        for (size_t i = 1; rc == MOON_OK && i <= n; i++) {
            lua_rawgeti(L, 3, (int)i);
            rc = moon_fields_add(fields, name, fields_check_value(L, lua_gettop(L), x));
            lua_pop(L, 1);
        }
    }
    if (rc != MOON_OK)
        moon_raise_full(L);
}

/// headers[name] = value | { values } | nil
/// @lua-raises "headers: Content-Length is the gateway's own and cannot be set"
static int fields_set(lua_State *L, struct moon_ctx *x, struct moon_fields *fields)
{
    bool is_removal = lua_isnil(L, 3);
    struct fields_name name = fields_check_name(L, x, !is_removal);
    if (is_removal)
        moon_fields_remove_known(fields, name.id, name.text);
    else
        fields_store(L, x, fields, name.id, name.text);
    return 0;
}

static int request_headers_index(lua_State *L)
{
    return fields_push(L, &moon_handle_own(L, 1, MOON_HANDLE_REQUEST_HEADERS)->request->fields);
}

static int request_headers_newindex(lua_State *L)
{
    struct moon_ctx *x = moon_handle_own(L, 1, MOON_HANDLE_REQUEST_HEADERS);
    return fields_set(L, x, &x->request->fields);
}

static struct moon_ctx *response_headers_check(lua_State *L)
{
    struct moon_ctx *x = moon_handle_own(L, 1, MOON_HANDLE_RESPONSE_HEADERS);
    if (x->response == NULL)
        luaL_error(L, "ctx.response.headers: there is no response yet");
    return x;
}

static int response_headers_index(lua_State *L)
{
    return fields_push(L, &response_headers_check(L)->response->fields);
}

static int response_headers_newindex(lua_State *L)
{
    struct moon_ctx *x = response_headers_check(L);
    return fields_set(L, x, &x->response->fields);
}

/// cookies[name] -> value | nil
static int cookies_index(lua_State *L)
{
    struct moon_ctx *x = moon_handle_own(L, 1, MOON_HANDLE_COOKIES);
    struct moon_slice wanted = moon_check_slice(L, 2), name, value;
    size_t at = 0;
    const struct moon_field *field;
    while ((field = moon_fields_next(&x->request->fields, MOON_S("cookie"), &at)) != NULL) {
        struct moon_slice rest = field->value;
        while (moon_cookies_next(&rest, &name, &value)) {
            if (moon_slice_is(name, wanted)) {
                moon_push_slice(L, value);
                return 1;
            }
        }
    }
    return 0;
}

const struct moon_param *moon_ctx_find_param(const struct moon_ctx *x, struct moon_slice name)
{
    for (size_t i = 0; i < x->param_count; i++) {
        if (moon_slice_is(x->params[i].name, name))
            return &x->params[i];
    }
    return NULL;
}

/// params[name] -> value, decoded | nil
static int params_index(lua_State *L)
{
    const struct moon_ctx *x = moon_handle_own(L, 1, MOON_HANDLE_PARAMS);
    const struct moon_param *param = moon_ctx_find_param(x, moon_check_slice(L, 2));
    if (param == NULL)
        return 0;
    moon_push_slice(L, param->value);
    return 1;
}

static int fields_read_only(lua_State *L)
{
    return luaL_error(L, "cookies and params cannot be set");
}

/// ctx.request.tls.client: a table of the client certificate's facts, or nil.
static int tls_client(lua_State *L, const struct moon_client *client)
{
    const struct moon_tls_info *tls = client->tls;
    const struct {
        const char *name;
        struct moon_slice value;
    } texts[] = {
        {"subject", tls->client_subject},
        {"issuer", tls->client_issuer},
        {"serial", tls->client_serial},
        {"fingerprint", tls->client_fingerprint},
        {"common_name", tls->client_common_name},
        {"not_before", tls->client_not_before},
        {"not_after", tls->client_not_after},
        {"dns_names", tls->client_dns_names},
        {"verify_error", tls->client_verify_error},
        {"pem", moon_stream_client_pem(client->stream)},
    };
    lua_createtable(L, 0, (int)MOON_COUNT(texts) + 1);
    for (size_t i = 0; i < MOON_COUNT(texts); i++) {
        moon_push_slice(L, texts[i].value);
        lua_setfield(L, -2, texts[i].name);
    }
    lua_pushboolean(L, tls->is_client_verified);
    lua_setfield(L, -2, "verified");
    return 1;
}

enum tls_key { TLS_VERSION = 1, TLS_CIPHER, TLS_SNI, TLS_ALPN, TLS_JA4, TLS_RESUMED, TLS_CLIENT };

static const struct ctx_name tls_names[] = {
    {"version", TLS_VERSION}, {"cipher", TLS_CIPHER},   {"sni", TLS_SNI},       {"alpn", TLS_ALPN},
    {"ja4", TLS_JA4},         {"resumed", TLS_RESUMED}, {"client", TLS_CLIENT}, {NULL, 0},
};

static int tls_index(lua_State *L)
{
    struct moon_ctx *x = moon_handle_own(L, 1, MOON_HANDLE_TLS);
    const struct moon_tls_info *tls = x->client->tls;
    int key = moon_ctx_key(L);
    if (key == 0)
        return moon_ctx_method(L, MOON_HANDLE_TLS);
    if (tls == NULL)
        return 0;
    switch ((enum tls_key)key) {
    case TLS_VERSION:
        lua_pushstring(L, tls->version);
        return 1;
    case TLS_CIPHER:
        lua_pushstring(L, tls->cipher);
        return 1;
    case TLS_SNI:
        moon_push_slice(L, tls->sni);
        return 1;
    case TLS_ALPN:
        moon_push_slice(L, tls->alpn);
        return 1;
    case TLS_JA4:
        moon_push_slice(L, tls->ja4);
        return 1;
    case TLS_RESUMED:
        lua_pushboolean(L, tls->is_resumed);
        return 1;
    case TLS_CLIENT:
        return tls->has_client_certificate ? tls_client(L, x->client) : 0;
    }
    return 0;
}

void moon_ctx_open_fields(lua_State *L, struct moon_script *script)
{
    moon_ctx_new_class(L, script, MOON_HANDLE_REQUEST_HEADERS, NULL, NULL, request_headers_index,
                       request_headers_newindex);
    moon_ctx_new_class(L, script, MOON_HANDLE_RESPONSE_HEADERS, NULL, NULL, response_headers_index,
                       response_headers_newindex);
    moon_ctx_open_query(L, script);
    moon_ctx_new_class(L, script, MOON_HANDLE_COOKIES, NULL, NULL, cookies_index, fields_read_only);
    moon_ctx_new_class(L, script, MOON_HANDLE_PARAMS, NULL, NULL, params_index, fields_read_only);
    moon_ctx_new_class(L, script, MOON_HANDLE_TLS, tls_names, NULL, tls_index, fields_read_only);
}
