/* SPDX-License-Identifier: Apache-2.0 */

/// ctx:forward: the call of the backend in the hands of a policy.

#include "script/ctx_internal.h"

static int forward_push(struct moon_ctx *x, lua_State *L, void *op)
{
    (void)op;
    if (x->forward_rc == MOON_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    moon_push_slice(L, x->error.reason);
    moon_push_slice(L, x->error.message);
    lua_pushinteger(L, x->error.status);
    return 4;
}

static void forward_cancel(void *op)
{
    (void)op; // the exchange ends its call by itself
}

void moon_ctx_forward_done(struct moon_ctx *x, enum moon_rc rc)
{
    x->forward_rc = rc;
    moon_async_done(x, forward_push, x->op);
}

/// ctx:forward(timeout_s = 0) -> true | nil, reason, message, status
///
/// Calls the backend and waits for the head of its answer, which is ctx.response then. Without a
/// timeout the backend's own deadlines hold. Again: an earlier answer is forgotten.
/// @lua-raises "ctx:forward can be used in the backend section only"
int moon_ctx_forward(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_CTX);
    double timeout = luaL_optnumber(L, 2, 0);
    if (!(timeout >= 0 && timeout <= 86400))
        return luaL_error(L, "ctx:forward: timeout must be 0 to 86400 seconds, got %f", timeout);
    if (x->section != MOON_SECTION_BACKEND || x->branches != NULL)
        return luaL_error(L, "ctx:forward can be used in the backend section only");
    (void)moon_async_ctx(L);
    enum moon_rc rc = x->ops->forward(x, (int64_t)(timeout * 1000.0));
    if (rc == MOON_AGAIN)
        return moon_async_wait(L, x, forward_cancel, x);
    return forward_push(x, L, NULL);
}

/// ctx:drop_response(): forgets the answer of a ctx:forward, so that the request can be changed and
/// sent again
int moon_ctx_drop_response(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_CTX);
    if (x->section != MOON_SECTION_BACKEND)
        return luaL_error(L, "ctx:drop_response can be used in the backend section only");
    x->ops->drop_response(x);
    return 0;
}
