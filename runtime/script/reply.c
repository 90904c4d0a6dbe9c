/* SPDX-License-Identifier: Apache-2.0 */

/// Reads what lua/moongate/reply.lua makes: { status=, headers=, body=, refuse= }.

#include "base/log.h"
#include "script/internal.h"

static bool reply_fail(lua_State *L, const char *why)
{
    lua_pushfstring(L, "a policy returned no valid reply: %s", why);
    return false;
}

static bool reply_fail_full(lua_State *L)
{
    return reply_fail(L, "it does not fit into the request's memory");
}

// What a value is, for people: `"a"`, `7`, `a table`.
static const char *reply_show(lua_State *L, int index)
{
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return "nothing";
    case LUA_TNUMBER:
        return lua_tostring(L, index);
    case LUA_TSTRING:
        return lua_pushfstring(L, "\"%s\"", lua_tostring(L, index));
    default:
        return lua_pushfstring(L, "a %s", luaL_typename(L, index));
    }
}

static bool reply_add_field(lua_State *L, struct moon_ctx *x, struct moon_slice name, int index)
{
    struct moon_slice value, name_copy;
    size_t len;
    if (!moon_field_name_is_valid(name))
        return reply_fail(L, lua_pushfstring(L, "\"%s\" is no field name", name.data));
    if (!lua_isstring(L, index))
        return reply_fail(L, lua_pushfstring(L, "header %s must be a text, got %s", name.data,
                                             reply_show(L, index)));
    const char *text = lua_tolstring(L, index, &len);
    if (!moon_field_value_is_valid(moon_slice_trim(moon_slice(text, len))))
        return reply_fail(L, lua_pushfstring(L, "header %s holds control characters", name.data));
    return (moon_arena_copy(x->arena, moon_slice_trim(moon_slice(text, len)), &value) &&
            moon_arena_copy(x->arena, name, &name_copy) &&
            moon_fields_add(&x->reply.fields, name_copy, value) == MOON_OK) ||
           reply_fail_full(L);
}

static bool reply_is_framing(struct moon_slice name)
{
    enum moon_field_id id = moon_field_id(name);
    return id == MOON_FIELD_CONTENT_LENGTH || (moon_field_flags(id) & MOON_FIELD_HOP) != 0;
}

// One member of `headers`: its name lies at -2, its value or list of values on top.
static bool reply_read_field(lua_State *L, struct moon_ctx *x)
{
    if (lua_type(L, -2) != LUA_TSTRING)
        return reply_fail(
            L, lua_pushfstring(L, "headers must be named by texts, got %s", reply_show(L, -2)));
    struct moon_slice name = moon_check_slice(L, -2);
    if (reply_is_framing(name))
        return true; // the gateway frames its own answers
    if (!lua_istable(L, -1))
        return reply_add_field(L, x, name, lua_gettop(L));
    size_t n = lua_objlen(L, -1);
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, (int)i);
        if (!reply_add_field(L, x, name, lua_gettop(L)))
            return false;
        lua_pop(L, 1);
    }
    return true;
}

// A reply is read when its section is over, and nothing catches what raises then: metamethods are passed
// over.
static void reply_get(lua_State *L, int table, const char *name)
{
    lua_pushstring(L, name);
    lua_rawget(L, table);
}

static bool reply_read_fields(lua_State *L, struct moon_ctx *x, int table)
{
    reply_get(L, table, "headers");
    if (!lua_istable(L, -1) && !lua_isnil(L, -1))
        return reply_fail(L,
                          lua_pushfstring(L, "headers must be a table, got %s", reply_show(L, -1)));
    int headers = lua_gettop(L);
    lua_pushnil(L);
    while (lua_istable(L, headers) && lua_next(L, headers) != 0) {
        if (!reply_read_field(L, x))
            return false;
        lua_pop(L, 1);
    }
    lua_settop(L, headers - 1);
    return true;
}

static bool reply_read_text(lua_State *L, struct moon_ctx *x, int table, const char *name,
                            struct moon_slice *out)
{
    reply_get(L, table, name);
    if (lua_isstring(L, -1)) {
        if (!moon_arena_copy(x->arena, moon_check_slice(L, -1), out))
            return reply_fail_full(L);
    } else if (!lua_isnil(L, -1)) {
        return reply_fail(L,
                          lua_pushfstring(L, "%s must be a text, got %s", name, reply_show(L, -1)));
    }
    lua_pop(L, 1);
    return true;
}

// What a table that a policy made by itself may hold: reply.text and its kin make no others.
static bool reply_check_names(lua_State *L, int table)
{
    static const char *const names[] = {"status", "headers", "body", "refuse", "chain", "line"};
    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        bool is_known = false;
        for (size_t i = 0; !is_known && i < MOON_COUNT(names); i++) {
            is_known = lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), names[i]) == 0;
        }
        lua_pop(L, 1);
        if (is_known)
            continue;
        lua_createtable(L, 0, 3);
        for (size_t i = 0; i < 3; i++) {
            lua_pushboolean(L, 1);
            lua_setfield(L, -2, names[i]);
        }
        return reply_fail(L, moon_ctx_push_unknown(L, "it", -2, -1));
    }
    return true;
}

bool moon_reply_read(lua_State *L, int index, struct moon_ctx *x)
{
    if (!lua_istable(L, index)) {
        lua_pushfstring(L, "expected a reply (moongate.reply) or nothing, got a %s",
                        luaL_typename(L, index));
        return false;
    }
    if (!reply_check_names(L, index))
        return false;
    x->reply = (struct moon_reply){0};
    moon_fields_init(&x->reply.fields, x->arena);
    reply_get(L, index, "status");
    x->reply.status = (int)lua_tointeger(L, -1);
    if (x->reply.status < 200 || x->reply.status > 599)
        return reply_fail(
            L, lua_pushfstring(L, "status must be 200 to 599, got %s", reply_show(L, -1)));
    lua_pop(L, 1);
    if (!reply_read_fields(L, x, index) || !reply_read_text(L, x, index, "body", &x->reply.body))
        return false;
    reply_get(L, index, "refuse");
    if (lua_istable(L, -1)) {
        int refuse = lua_gettop(L);
        x->reply.is_refusal = true;
        if (!reply_read_text(L, x, refuse, "reason", &x->reply.reason) ||
            !reply_read_text(L, x, refuse, "message", &x->reply.message))
            return false;
    }
    lua_pop(L, 1);
    return true;
}

/// made(): moongate.reply has made one. Where that is returned at once, its caller is gone from the
/// stack, and a chain or C is next.
static int reply_made(lua_State *L)
{
    struct moon_ctx *x = moon_script_of(L)->current;
    lua_Debug at;
    if (x == NULL || lua_getstack(L, 2, &at) != 1 || lua_getinfo(L, "Sl", &at) == 0 ||
        at.currentline <= 0 || at.source[0] != '@')
        return 0;
    if (moon_arena_copy(x->arena, moon_slice_text(at.source + 1), &x->reply_source))
        x->reply_line = at.currentline;
    return 0;
}

void moon_reply_warn_lost(struct moon_ctx *x)
{
    lua_State *L = x->script->L;
    int top = lua_gettop(L);
    lua_pushfstring(L, "%s:%d", x->reply_source.data, x->reply_line);
    x->reply_line = 0;
    if (luaL_newmetatable(L, "moongate.lost_replies") == 0) {
        lua_pushvalue(L, -2);
        lua_rawget(L, -2);
        if (!lua_isnil(L, -1)) {
            lua_settop(L, top);
            return;
        }
        lua_pop(L, 1);
    }
    lua_pushvalue(L, -2);
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
    moon_log_warn(
        "%s: a reply was made and not returned, so it does nothing; is a \"return\" missing?",
        lua_tostring(L, top + 1));
    lua_settop(L, top);
}

static int reply_open(lua_State *L)
{
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, reply_made);
    lua_setfield(L, -2, "made");
    return 1;
}

void moon_script_open_reply(lua_State *L)
{
    moon_preload(L, "moongate.reply.core", reply_open);
}
