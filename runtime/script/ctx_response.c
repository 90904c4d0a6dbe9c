/* SPDX-License-Identifier: Apache-2.0 */

/// `ctx.response`.

#include "script/ctx_internal.h"

// A policy may have kept ctx.response from before ctx:drop_response.
static struct moon_ctx *response_check(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_RESPONSE);
    if (x->response == NULL)
        luaL_error(L, "ctx.response: there is no response yet");
    return x;
}

/// ctx.response:body() -> string
static int response_body(lua_State *L)
{
    struct moon_ctx *x = response_check(L);
    struct moon_slice body;
    enum moon_rc rc = x->ops->response_body(x, &body);
    if (rc == MOON_OK) {
        moon_push_slice(L, body);
        return 1;
    }
    if (rc != MOON_AGAIN)
        return moon_ctx_body_raise(L, x, "ctx.response:body", rc);
    (void)moon_async_ctx(L);
    return moon_async_wait(L, x, moon_ctx_cancel_body, (void *)(uintptr_t)&x->ops->response_body);
}

/// ctx.response:set_body(text)
static int response_set_body(lua_State *L)
{
    struct moon_ctx *x = response_check(L);
    enum moon_rc rc = x->ops->set_response_body(x, moon_check_copy(L, 2, x));
    return rc == MOON_OK ? 0 : luaL_error(L, "ctx.response:set_body: %s", moon_rc_text(rc));
}

/// ctx.response:replace({ { from, to }, ... }, is_link = false)
static int response_replace(lua_State *L)
{
    return moon_ctx_body_replace(L, response_check(L), false);
}

static int response_header_names(lua_State *L)
{
    return moon_ctx_fields_push_names(L, &response_check(L)->response->fields);
}

static int response_header_values(lua_State *L)
{
    return moon_ctx_fields_push_values(L, &response_check(L)->response->fields);
}

static int response_add_header(lua_State *L)
{
    struct moon_ctx *x = response_check(L);
    return moon_ctx_fields_add(L, x, &x->response->fields) == MOON_OK ? 0 : moon_raise_full(L);
}

static const luaL_Reg response_methods[] = {
    {"body", response_body},
    {"set_body", response_set_body},
    {"replace", response_replace},
    {"header_names", response_header_names},
    {"header_values", response_header_values},
    {"add_header", response_add_header},
    {NULL, NULL},
};

enum response_key { RESPONSE_STATUS = 1, RESPONSE_REASON, RESPONSE_HEADERS };

static const struct ctx_name response_names[] = {{"status", RESPONSE_STATUS},
                                                 {"reason", RESPONSE_REASON},
                                                 {"headers", RESPONSE_HEADERS},
                                                 {NULL, 0}};

static int response_index(lua_State *L)
{
    moon_ctx_self(L);
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_RESPONSE);
    int key = moon_ctx_key(L);
    if (key == 0)
        return moon_ctx_method(L, MOON_HANDLE_RESPONSE);
    if (x->response == NULL)
        return 0;
    switch ((enum response_key)key) {
    case RESPONSE_STATUS:
        lua_pushinteger(L, x->response->status);
        return 1;
    case RESPONSE_REASON:
        moon_push_slice(L, x->response->reason);
        return 1;
    case RESPONSE_HEADERS:
        moon_ctx_push_part(L, MOON_HANDLE_RESPONSE_HEADERS);
        return 1;
    }
    return 0;
}

/// ctx.response.status = 200..599; ctx.response.reason = text
static int response_newindex(lua_State *L)
{
    struct moon_ctx *x = response_check(L);
    int key = moon_ctx_key(L);
    if (key == RESPONSE_STATUS) {
        lua_Integer status = luaL_checkinteger(L, 3);
        if (status < 200 || status > 599)
            return luaL_error(L, "ctx.response.status: must be 200 to 599, got %d", (int)status);
        x->response->status = (int)status;
        x->response->reason = moon_slice(NULL, 0);
        return 0;
    }
    if (key == RESPONSE_REASON) {
        struct moon_slice reason = moon_check_copy(L, 3, x);
        if (!moon_field_value_is_valid(reason))
            return luaL_error(L, "ctx.response.reason: holds control characters");
        x->response->reason = reason;
        return 0;
    }
    return moon_ctx_raise_unset(L, MOON_HANDLE_RESPONSE);
}

void moon_ctx_open_response(lua_State *L, struct moon_script *script)
{
    moon_ctx_new_class(L, script, MOON_HANDLE_RESPONSE, response_names, response_methods,
                       response_index, response_newindex);
    moon_ctx_add_body_methods(L, script, MOON_HANDLE_RESPONSE);
}
