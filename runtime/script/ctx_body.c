/* SPDX-License-Identifier: Apache-2.0 */

/// What `ctx.request` and `ctx.response` have in common: reading bodies, walking field lines.

#include "script/ctx_internal.h"

static int body_push(struct moon_ctx *x, lua_State *co, void *op)
{
    struct moon_slice body = {NULL, 0};
    enum moon_rc (*read_body)(struct moon_ctx *, struct moon_slice *) =
        op == &x->ops->request_body ? x->ops->request_body : x->ops->response_body;
    enum moon_rc rc = read_body(x, &body);
    MOON_ASSERT(rc == MOON_OK);
    moon_push_slice(co, body);
    return 1;
}

void moon_ctx_cancel_body(void *op)
{
    (void)op; // what was begun goes on: nobody may wait for it when it is whole
}

int moon_ctx_body_raise(lua_State *L, struct moon_ctx *x, const char *what, enum moon_rc rc)
{
    if (rc != MOON_ERR_INTERNAL) // it was streamed already: the policy's mistake
        x->body_rc = rc;
    return luaL_error(L, "%s: %s", what, moon_rc_text(rc));
}

void moon_ctx_body_ready(struct moon_ctx *x, bool is_request)
{
    const void *op = is_request ? (const void *)&x->ops->request_body : &x->ops->response_body;
    if (moon_parallel_resume(x, body_push, (void *)(uintptr_t)op))
        return;
    if (x->op == op) // else who waited for it has been cancelled: ctx:parallel was over before
        moon_async_done(x, body_push, x->op);
}

int moon_ctx_fields_push_names(lua_State *L, const struct moon_fields *fields)
{
    lua_createtable(L, (int)fields->count, 0);
    for (size_t i = 0; i < fields->count; i++) {
        moon_push_slice(L, fields->items[i].name);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

int moon_ctx_fields_push_values(lua_State *L, const struct moon_fields *fields)
{
    struct moon_slice name = moon_check_slice(L, 2);
    const struct moon_field *field;
    size_t at = 0;
    int n = 0;
    lua_newtable(L);
    while ((field = moon_fields_next(fields, name, &at)) != NULL) {
        moon_push_slice(L, field->value);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

enum moon_rc moon_ctx_fields_add(lua_State *L, struct moon_ctx *x, struct moon_fields *fields)
{
    struct moon_slice name = moon_check_copy(L, 2, x);
    struct moon_slice value = moon_slice_trim(moon_check_copy(L, 3, x));
    if (!moon_field_name_is_valid(name) || !moon_field_value_is_valid(value))
        luaL_error(L, "add_header: %s is no valid field", name.data);
    return moon_fields_add(fields, name, value);
}

enum { REPLACE_RULES = 256 };

// A list of { from, to }, copied. Raises where it is none.
static size_t body_check_rules(lua_State *L, struct moon_ctx *x, struct moon_replace_rule **out)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    bool is_link = lua_toboolean(L, 3) != 0;
    size_t n = lua_objlen(L, 2);
    luaL_argcheck(L, n >= 1 && n <= REPLACE_RULES, 2, "must have 1 to 256 rules");
    struct moon_replace_rule *rules = moon_arena_zalloc(x->arena, n * sizeof(*rules));
    if (rules == NULL)
        return (size_t)moon_raise_full(L);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        rules[i].from = moon_check_copy(L, -2, x);
        rules[i].to = moon_check_copy(L, -1, x);
        rules[i].is_link = is_link;
        luaL_argcheck(L, rules[i].from.len >= 1 && rules[i].from.len <= MOON_REPLACE_TEXT_BYTES, 2,
                      "a text to be replaced must have 1 to 1024 bytes");
        lua_pop(L, 3);
    }
    *out = rules;
    return n;
}

int moon_ctx_body_replace(lua_State *L, struct moon_ctx *x, bool is_request)
{
    struct moon_replace_rule *rules = NULL;
    size_t n = body_check_rules(L, x, &rules);
    enum moon_rc rc =
        is_request ? x->ops->replace_request(x, rules, n) : x->ops->replace_response(x, rules, n);
    if (rc == MOON_OK)
        return 0;
    return luaL_error(L, "ctx.%s:replace: %s", is_request ? "request" : "response",
                      moon_rc_text(rc));
}

// `json` and `form` wait by way of `body`, so they are Lua functions: a C function cannot be
// resumed in its middle.
static const char body_lua_methods[] = "local function json(self)\n"
                                       "  return require('moongate.json').decode(self:body())\n"
                                       "end\n"
                                       "local function form(self)\n"
                                       "  return self:parse_form(self:body())\n"
                                       "end\n"
                                       "return json, form\n";

// Adds json (and form) to the methods of a class.
void moon_ctx_add_body_methods(lua_State *L, struct moon_script *script, enum moon_handle_kind kind)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->handle_metatables[kind]);
    lua_getfield(L, -1, "methods");
    int loaded = luaL_loadbuffer(L, body_lua_methods, sizeof(body_lua_methods) - 1, "=ctx.request");
    MOON_ASSERT(loaded == 0);
    lua_call(L, 0, 2);
    if (kind == MOON_HANDLE_REQUEST)
        lua_setfield(L, -3, "form");
    else
        lua_pop(L, 1);
    lua_setfield(L, -2, "json");
    lua_pop(L, 2);
}
