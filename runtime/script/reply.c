/* SPDX-License-Identifier: Apache-2.0 */

/// Reads what lua/moongate/reply.lua makes: { status=, headers=, body=, refuse= }.

#include "script/internal.h"

static bool reply_fail(lua_State *L, const char *why)
{
    lua_pushfstring(L, "a policy returned no valid reply: %s", why);
    return false;
}

static bool reply_add_field(lua_State *L, struct moon_ctx *x, struct moon_slice name, int index)
{
    struct moon_slice value, name_copy;
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    if (text == NULL || !moon_field_name_is_valid(name) ||
        !moon_field_value_is_valid(moon_slice_trim(moon_slice(text, len))))
        return false;
    return moon_arena_copy(x->arena, moon_slice_trim(moon_slice(text, len)), &value) &&
           moon_arena_copy(x->arena, name, &name_copy) &&
           moon_fields_add(&x->reply.fields, name_copy, value) == MOON_OK;
}

static bool reply_is_framing(struct moon_slice name)
{
    enum moon_field_id id = moon_field_id(name);
    return id == MOON_FIELD_CONTENT_LENGTH || (moon_field_flags(id) & MOON_FIELD_HOP) != 0;
}

static bool reply_read_fields(lua_State *L, struct moon_ctx *x)
{
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING)
            return false;
        size_t len;
        const char *text = lua_tolstring(L, -2, &len);
        struct moon_slice name = moon_slice(text, len);
        bool is_good = true;
        if (reply_is_framing(name)) {
            // The gateway frames its own answers.
        } else if (lua_istable(L, -1)) {
            size_t n = lua_objlen(L, -1);
            for (size_t i = 1; is_good && i <= n; i++) {
                lua_rawgeti(L, -1, (int)i);
                is_good = reply_add_field(L, x, name, lua_gettop(L));
                lua_pop(L, 1);
            }
        } else {
            lua_pushvalue(L, -1);
            is_good = reply_add_field(L, x, name, lua_gettop(L));
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
        if (!is_good)
            return false;
    }
    return true;
}

static bool reply_read_text(lua_State *L, struct moon_ctx *x, int table, const char *name,
                            struct moon_slice *out)
{
    bool is_good = true;
    lua_getfield(L, table, name);
    if (lua_isstring(L, -1)) {
        size_t len;
        const char *text = lua_tolstring(L, -1, &len);
        is_good = moon_arena_copy(x->arena, moon_slice(text, len), out);
    }
    lua_pop(L, 1);
    return is_good;
}

bool moon_reply_read(lua_State *L, int index, struct moon_ctx *x)
{
    if (!lua_istable(L, index)) {
        lua_pushfstring(L, "expected a reply (moongate.reply) or nothing, got a %s",
                        luaL_typename(L, index));
        return false;
    }
    x->reply = (struct moon_reply){0};
    moon_fields_init(&x->reply.fields, x->arena);
    lua_getfield(L, index, "status");
    x->reply.status = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    if (x->reply.status < 200 || x->reply.status > 599)
        return reply_fail(L, "status must be 200 to 599");
    lua_getfield(L, index, "headers");
    if (lua_istable(L, -1) && !reply_read_fields(L, x))
        return reply_fail(L, "headers must be texts without control characters");
    lua_pop(L, 1);
    if (!reply_read_text(L, x, index, "body", &x->reply.body))
        return reply_fail(L, "the body does not fit into the request's memory");
    lua_getfield(L, index, "refuse");
    if (lua_istable(L, -1)) {
        int refuse = lua_gettop(L);
        x->reply.is_refusal = true;
        if (!reply_read_text(L, x, refuse, "reason", &x->reply.reason) ||
            !reply_read_text(L, x, refuse, "message", &x->reply.message))
            return reply_fail(L, "the message does not fit into the request's memory");
    }
    lua_pop(L, 1);
    return true;
}
