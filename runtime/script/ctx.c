/* SPDX-License-Identifier: Apache-2.0 */

/// `ctx` itself: a userdata with the request's parts, and what is made when it is first asked for.

#include "base/clock.h"
#include "base/log.h"
#include "script/ctx_internal.h"

enum ctx_key {
    CTX_REQUEST = 1,
    CTX_RESPONSE,
    CTX_VARS,
    CTX_JWT,
    CTX_GEO,
    CTX_SUBSCRIPTION,
    CTX_SUBSCRIPTION_GIVEN,
    CTX_PRODUCT,
    CTX_USER,
    CTX_API,
    CTX_OPERATION,
    CTX_BACKEND,
    CTX_BACKEND_URL,
    CTX_DEPLOYMENT,
    CTX_ERROR,
    CTX_ID,
    CTX_SECTION,
    CTX_ELAPSED,
    CTX_ROUTE,
    CTX_SITE,
    CTX_BYTES,
    CTX_CLIENT_CERTIFICATE,
};

static const struct ctx_name ctx_names[] = {
    {"request", CTX_REQUEST},
    {"response", CTX_RESPONSE},
    {"vars", CTX_VARS},
    {"jwt", CTX_JWT},
    {"geo", CTX_GEO},
    {"subscription", CTX_SUBSCRIPTION},
    {"subscription_given", CTX_SUBSCRIPTION_GIVEN},
    {"product", CTX_PRODUCT},
    {"user", CTX_USER},
    {"api", CTX_API},
    {"operation", CTX_OPERATION},
    {"backend", CTX_BACKEND},
    {"backend_url", CTX_BACKEND_URL},
    {"client_certificate", CTX_CLIENT_CERTIFICATE},
    {"deployment", CTX_DEPLOYMENT},
    {"error", CTX_ERROR},
    {"id", CTX_ID},
    {"section", CTX_SECTION},
    {"elapsed", CTX_ELAPSED},
    {"route", CTX_ROUTE},
    {"site", CTX_SITE},
    {"bytes", CTX_BYTES},
    {NULL, 0},
};

static const char *const ctx_kind_names[MOON_HANDLE_COUNT] = {
    "ctx",
    "ctx.request",
    "ctx.response",
    "ctx.request.headers",
    "ctx.response.headers",
    "ctx.request.query",
    "ctx.request.cookies",
    "ctx.request.params",
    "ctx.request.tls",
};

const char *moon_handle_name(enum moon_handle_kind kind)
{
    return ctx_kind_names[kind];
}

bool moon_handle_is(lua_State *L, int index, enum moon_handle_kind kind)
{
    // A light userdata has length 0, so one question tells both the type and the size.
    if (lua_objlen(L, index) != sizeof(struct moon_handle))
        return false;
    const struct moon_handle *handle = lua_touserdata(L, index);
    return handle != NULL && handle->magic == (MOON_HANDLE_MAGIC ^ (uint64_t)kind);
}

struct moon_ctx *moon_handle_check(lua_State *L, int index, enum moon_handle_kind kind)
{
    const struct moon_handle *handle =
        MOON_LIKELY(moon_handle_is(L, index, kind)) ? lua_touserdata(L, index) : NULL;
    if (MOON_UNLIKELY(handle == NULL))
        luaL_error(L, "%s expected, got %s (call methods with a colon)", ctx_kind_names[kind],
                   luaL_typename(L, index));
    struct moon_ctx *x = moon_handle_ctx(handle);
    if (MOON_UNLIKELY(x == NULL))
        luaL_error(L, "%s is used after its request has ended", ctx_kind_names[kind]);
    return x;
}

struct moon_ctx *moon_handle_own(lua_State *L, int index, enum moon_handle_kind kind)
{
    const struct moon_handle *handle = lua_touserdata(L, index);
    struct moon_ctx *x = handle == NULL ? NULL : moon_handle_ctx(handle);
    return MOON_LIKELY(x != NULL) ? x : moon_handle_check(L, index, kind); // raises
}

int moon_raise_full(lua_State *L)
{
    return luaL_error(L, "the request's memory is used up");
}

struct moon_slice moon_check_copy(lua_State *L, int index, struct moon_ctx *x)
{
    struct moon_slice copy;
    if (!moon_arena_copy(x->arena, moon_check_slice(L, index), &copy))
        moon_raise_full(L);
    return copy;
}

void moon_ctx_push_part(lua_State *L, int part)
{
    const struct moon_handle *handle = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, handle->runner->part_refs[part]);
}

// What policies read as ctx.NAME lies under its name, the rest under a number.
static void ctx_make_slot_keys(lua_State *L, struct moon_script *script)
{
    static const char *const names[MOON_SLOT_COUNT] = {
        [MOON_SLOT_VARS] = "vars", [MOON_SLOT_JWT] = "jwt", [MOON_SLOT_USER] = "user"};
    for (int slot = 1; slot < MOON_SLOT_COUNT; slot++) {
        if (names[slot] != NULL)
            lua_pushstring(L, names[slot]);
        else
            lua_pushinteger(L, slot);
        script->slot_keys[slot] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
}

static void ctx_push_slot_key(lua_State *L, const struct moon_script *script,
                              enum moon_ctx_slot slot)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->slot_keys[slot]);
}

// A value kept with the ctx until its request ends. @return false (nothing pushed) when not there
static bool ctx_push_cached(lua_State *L, const struct moon_ctx *x, enum moon_ctx_slot slot)
{
    if (!moon_ctx_is_in_lua(x, slot))
        return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, x->runner->slots_ref);
    ctx_push_slot_key(L, x->script, slot);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    return true;
}

// Without an allocation: nothing can raise.
static void ctx_set_hidden(struct moon_script *script, struct moon_runner *runner, bool is_hidden)
{
    lua_State *L = script->L;
    if (runner->is_hidden == is_hidden)
        return;
    runner->is_hidden = is_hidden;
    lua_rawgeti(L, LUA_REGISTRYINDEX, runner->ctx_ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, is_hidden ? runner->hidden_ref : runner->shown_ref);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

void moon_ctx_show(struct moon_script *script, struct moon_runner *runner)
{
    if (script->shown == runner)
        return;
    if (script->shown != NULL && script->shown->used_slots != 0)
        ctx_set_hidden(script, script->shown, true);
    ctx_set_hidden(script, runner, false);
    script->shown = runner;
}

// Keeps the value on top of the stack, which stays there.
static void ctx_cache(lua_State *L, struct moon_ctx *x, enum moon_ctx_slot slot)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, x->runner->slots_ref);
    ctx_push_slot_key(L, x->script, slot);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    x->runner->used_slots |= UINT32_C(1) << slot;
    if (x->script->shown != x->runner) // by C, outside of a section of Lua
        ctx_set_hidden(x->script, x->runner, true);
}

void moon_ctx_forget(lua_State *L, const struct moon_script *script, struct moon_runner *runner)
{
    if (runner->used_slots == 0)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, runner->slots_ref);
    for (int slot = 1; slot < MOON_SLOT_COUNT; slot++) {
        if ((runner->used_slots >> slot & 1) != 0) {
            ctx_push_slot_key(L, script, (enum moon_ctx_slot)slot);
            lua_pushnil(L);
            lua_rawset(L, -3);
        }
    }
    lua_pop(L, 1);
    runner->used_slots = 0;
}

// Sets a field of the table on top.
static void ctx_set_note(lua_State *L, const char *name, const char *text, double number)
{
    if (text != NULL)
        lua_pushstring(L, text);
    else
        lua_pushnumber(L, number);
    lua_setfield(L, -2, name);
}

// The first time a request asks for ctx.vars; from then on it is at hand.
static int ctx_push_vars(lua_State *L, struct moon_ctx *x)
{
    lua_createtable(L, 0, 8);
    for (const struct moon_note *note = x->notes; note != NULL; note = note->next)
        ctx_set_note(L, note->name, note->text, note->number);
    x->notes = NULL;
    ctx_cache(L, x, MOON_SLOT_VARS);
    return 1;
}

static bool ctx_keep_note(struct moon_ctx *x, const char *name, const char *text, double number)
{
    struct moon_note *note = x->notes;
    while (note != NULL && note->name != name)
        note = note->next;
    if (note == NULL) {
        note = moon_arena_alloc(x->arena, sizeof(*note));
        if (note == NULL)
            return false;
        note->next = x->notes;
        note->name = name;
        x->notes = note;
    }
    note->text = text;
    note->number = number;
    return true;
}

void moon_ctx_note(lua_State *L, struct moon_ctx *x, const char *name, const char *text,
                   double number)
{
    if (ctx_push_cached(L, x, MOON_SLOT_VARS)) {
        ctx_set_note(L, name, text, number);
        lua_pop(L, 1);
    } else if (!ctx_keep_note(x, name, text, number)) {
        moon_raise_full(L);
    }
}

bool moon_ctx_keep_note(struct moon_ctx *x, const char *name, const char *text, double number)
{
    if (!moon_ctx_is_in_lua(x, MOON_SLOT_VARS))
        return ctx_keep_note(x, name, text, number);
    if (x->script->acting == NULL)
        return false;
    moon_ctx_note(x->script->acting, x, name, text, number);
    return true;
}

// What an act has accepted becomes a table when a policy asks for it first.
static int ctx_push_jwt(lua_State *L, struct moon_ctx *x)
{
    if (x->claims == NULL)
        return 0;
    x->claims->push(L, x->claims);
    ctx_cache(L, x, MOON_SLOT_JWT);
    return 1;
}

static int ctx_push_geo(lua_State *L, struct moon_ctx *x)
{
    if (ctx_push_cached(L, x, MOON_SLOT_GEO))
        return lua_isboolean(L, -1) ? 0 : 1;
    lua_getfield(L, LUA_REGISTRYINDEX, "moongate.geo_lookup");
    if (!lua_isfunction(L, -1))
        return 0;
    lua_pushlstring(L, x->client->ip_text, x->client->ip_len);
    lua_call(L, 1, 1);
    bool is_known = lua_istable(L, -1);
    if (!is_known) {
        lua_pop(L, 1);
        lua_pushboolean(L, 0);
    }
    ctx_cache(L, x, MOON_SLOT_GEO);
    return is_known ? 1 : 0;
}

// What a policy reads of something that the configuration names, or of an error.
struct ctx_fact {
    const char *name;
    struct moon_slice text; // empty: nil
};

enum { CTX_FACTS = 8 };

// Pushes the facts as a table; it raises for names that are none of them.
static void ctx_push_facts(lua_State *L, const char *what, const struct ctx_fact *facts, size_t n)
{
    const char *names[CTX_FACTS];
    MOON_ASSERT(n <= CTX_FACTS);
    lua_createtable(L, 0, (int)n);
    for (size_t i = 0; i < n; i++) {
        names[i] = facts[i].name;
        if (facts[i].text.len == 0)
            continue;
        moon_push_slice(L, facts[i].text);
        lua_setfield(L, -2, facts[i].name);
    }
    moon_ctx_push_facts_class(L, what, names, n);
    lua_setmetatable(L, -2);
}

static int ctx_fact_newindex(lua_State *L)
{
    return luaL_error(L, "%s belongs to the configuration and cannot be set",
                      lua_tostring(L, 2) == NULL ? "this" : lua_tostring(L, 2));
}

// The same, wrapped so that policies can read and not change it; made once per generation.
static int ctx_ref_facts(lua_State *L, const char *what, const struct ctx_fact *facts, size_t n)
{
    lua_newtable(L);
    lua_createtable(L, 0, 3);
    ctx_push_facts(L, what, facts, n);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, ctx_fact_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

static int ctx_push_fact(lua_State *L, int ref)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    return 1;
}

static int ctx_push_subscription(lua_State *L, struct moon_ctx *x)
{
    moon_ctx_find_subscription(x);
    if (x->subscription == NULL)
        return 0;
    struct moon_subscription *subscription =
        &x->script->plan->subscriptions[x->subscription - x->script->plan->subscriptions];
    if (subscription->fact_ref == 0) {
        const struct ctx_fact facts[] = {
            {"id", subscription->id},           {"name", subscription->name},
            {"product", subscription->product}, {"api", subscription->api},
            {"state", subscription->state},
        };
        subscription->fact_ref = ctx_ref_facts(L, "ctx.subscription", facts, MOON_COUNT(facts));
    }
    return ctx_push_fact(L, subscription->fact_ref);
}

static int ctx_push_product(lua_State *L, struct moon_ctx *x)
{
    moon_ctx_find_subscription(x);
    if (x->subscription == NULL || x->subscription->product.len == 0)
        return 0;
    struct moon_subscription *subscription =
        &x->script->plan->subscriptions[x->subscription - x->script->plan->subscriptions];
    if (subscription->product_ref == 0) {
        const struct ctx_fact facts[] = {{"name", subscription->product},
                                         {"id", subscription->product}};
        subscription->product_ref = ctx_ref_facts(L, "ctx.product", facts, MOON_COUNT(facts));
    }
    return ctx_push_fact(L, subscription->product_ref);
}

static struct moon_leaf *ctx_leaf(const struct moon_ctx *x)
{
    return x->leaf == NULL ? NULL : &x->script->plan->leaves[x->leaf - x->script->plan->leaves];
}

static int ctx_push_api(lua_State *L, struct moon_ctx *x)
{
    struct moon_leaf *leaf = ctx_leaf(x);
    if (leaf == NULL || leaf->api.len == 0)
        return 0;
    if (leaf->api_ref == 0) {
        const struct ctx_fact facts[] = {{"name", leaf->api}, {"id", leaf->api}};
        leaf->api_ref = ctx_ref_facts(L, "ctx.api", facts, MOON_COUNT(facts));
    }
    return ctx_push_fact(L, leaf->api_ref);
}

static int ctx_push_operation(lua_State *L, struct moon_ctx *x)
{
    struct moon_leaf *leaf = ctx_leaf(x);
    if (leaf == NULL || leaf->operation.len == 0)
        return 0;
    if (leaf->operation_ref == 0) {
        const struct ctx_fact facts[] = {{"name", leaf->operation},
                                         {"id", leaf->operation},
                                         {"method", leaf->method},
                                         {"path", leaf->path}};
        leaf->operation_ref = ctx_ref_facts(L, "ctx.operation", facts, MOON_COUNT(facts));
    }
    return ctx_push_fact(L, leaf->operation_ref);
}

static int ctx_push_deployment(lua_State *L, struct moon_ctx *x)
{
    struct moon_plan *plan = x->script->plan;
    if (plan->deployment_ref == 0) {
        const struct ctx_fact facts[] = {{"name", plan->name}, {"region", plan->region}};
        plan->deployment_ref = ctx_ref_facts(L, "ctx.deployment", facts, MOON_COUNT(facts));
    }
    return ctx_push_fact(L, plan->deployment_ref);
}

static int ctx_push_error(lua_State *L, struct moon_ctx *x)
{
    if (!x->error.is_set)
        return 0;
    const struct ctx_fact facts[] = {
        {"source", x->error.source},   {"reason", x->error.reason}, {"message", x->error.message},
        {"section", x->error.section}, {"scope", x->error.scope},   {"policy", x->error.policy},
        {"path", x->error.path},       {"status", {NULL, 0}},
    };
    ctx_push_facts(L, "ctx.error", facts, MOON_COUNT(facts));
    lua_pushinteger(L, x->error.status);
    lua_setfield(L, -2, "status");
    return 1;
}

static int ctx_push_backend(lua_State *L, struct moon_ctx *x)
{
    if (x->backend < 0)
        return 0;
    moon_push_slice(L, x->script->plan->backends[x->backend].name);
    return 1;
}

static int ctx_push_slice(lua_State *L, struct moon_slice s)
{
    if (s.data == NULL)
        return 0;
    moon_push_slice(L, s);
    return 1;
}

static int ctx_push_key(lua_State *L, struct moon_ctx *x, enum ctx_key key)
{
    switch (key) {
    case CTX_REQUEST:
        moon_ctx_push_part(L, MOON_HANDLE_REQUEST);
        return 1;
    case CTX_RESPONSE:
        if (x->response == NULL)
            return 0;
        moon_ctx_push_part(L, MOON_HANDLE_RESPONSE);
        return 1;
    case CTX_VARS:
        return ctx_push_cached(L, x, MOON_SLOT_VARS) ? 1 : ctx_push_vars(L, x);
    case CTX_JWT: // what was set is at hand, most often
        return ctx_push_cached(L, x, MOON_SLOT_JWT) ? 1 : ctx_push_jwt(L, x);
    case CTX_USER:
        return ctx_push_cached(L, x, MOON_SLOT_USER) ? 1 : 0;
    case CTX_GEO:
        return ctx_push_geo(L, x);
    case CTX_SUBSCRIPTION:
        return ctx_push_subscription(L, x);
    case CTX_SUBSCRIPTION_GIVEN:
        moon_ctx_find_subscription(x);
        lua_pushboolean(L, x->is_subscription_given);
        return 1;
    case CTX_PRODUCT:
        return ctx_push_product(L, x);
    case CTX_API:
        return ctx_push_api(L, x);
    case CTX_OPERATION:
        return ctx_push_operation(L, x);
    case CTX_BACKEND:
        return ctx_push_backend(L, x);
    case CTX_BACKEND_URL:
        return ctx_push_slice(L, x->backend_url);
    case CTX_CLIENT_CERTIFICATE:
        lua_pushinteger(L, x->certificate);
        return 1;
    case CTX_DEPLOYMENT:
        return ctx_push_deployment(L, x);
    case CTX_ERROR:
        return ctx_push_error(L, x);
    case CTX_ID:
        return ctx_push_slice(L, x->id);
    case CTX_SECTION:
        lua_pushstring(L, moon_section_name(x->section));
        return 1;
    case CTX_ELAPSED:
        lua_pushnumber(L, (double)(moon_clock_us() - x->started_us) / 1e6);
        return 1;
    case CTX_ROUTE:
        return ctx_push_slice(L, x->leaf == NULL ? moon_slice(NULL, 0) : x->leaf->route);
    case CTX_BYTES: {
        int64_t request, response;
        x->ops->count_bytes(x, &request, &response);
        lua_pushnumber(L, (lua_Number)(request + response));
        return 1;
    }
    case CTX_SITE:
        return ctx_push_slice(L, x->leaf == NULL ? moon_slice(NULL, 0) : x->leaf->site);
    }
    return 0;
}

/// ctx.name
static int ctx_index(lua_State *L)
{
    moon_ctx_self(L);
    struct moon_ctx *x = moon_handle_own(L, 1, MOON_HANDLE_CTX);
    int key = moon_ctx_key(L);
    return key == 0 ? moon_ctx_method(L, MOON_HANDLE_CTX) : ctx_push_key(L, x, (enum ctx_key)key);
}

static int ctx_find_backend(lua_State *L, const struct moon_plan *plan, struct moon_slice name)
{
    for (size_t i = 0; i < plan->backend_count; i++) {
        if (moon_slice_is(plan->backends[i].name, name))
            return (int)i;
    }
    return luaL_error(L, "ctx.backend: there is no backend named \"%s\"", name.data);
}

/// ctx.name = value
/// @lua-raises "ctx.id cannot be set; keep values for later in ctx.vars"
static int ctx_newindex(lua_State *L)
{
    struct moon_ctx *x = moon_handle_own(L, 1, MOON_HANDLE_CTX);
    int key = moon_ctx_key(L);
    switch (key) {
    case CTX_JWT:
    case CTX_USER:
        lua_pushvalue(L, 3);
        ctx_cache(L, x, key == CTX_JWT ? MOON_SLOT_JWT : MOON_SLOT_USER);
        return 0;
    case CTX_BACKEND:
        x->backend = ctx_find_backend(L, x->script->plan, moon_check_slice(L, 3));
        x->backend_url = moon_slice(NULL, 0);
        return 0;
    case CTX_BACKEND_URL:
        x->backend_url = lua_isnil(L, 3) ? moon_slice(NULL, 0) : moon_check_copy(L, 3, x);
        return 0;
    case CTX_CLIENT_CERTIFICATE: {
        lua_Integer n = luaL_checkinteger(L, 3);
        if (n < 0 || (size_t)n > x->script->plan->certificate_count)
            return luaL_error(L, "ctx.client_certificate: there is no certificate %d", (int)n);
        x->certificate = (int)n;
        return 0;
    }
    default:
        return moon_ctx_raise_unset(L, MOON_HANDLE_CTX);
    }
}

void moon_ctx_self(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_replace(L, 1);
}

int moon_ctx_key(lua_State *L)
{
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    int key = lua_type(L, -1) == LUA_TNUMBER ? (int)lua_tointeger(L, -1) : 0;
    if (key != 0)
        lua_settop(L, -2);
    return key; // 0: a method, or nil, is on top
}

struct ctx_sleep {
    struct moon_timer timer;
    struct moon_ctx *x;
};

static int ctx_sleep_push(struct moon_ctx *x, lua_State *co, void *op)
{
    (void)x;
    (void)co;
    (void)op;
    return 0;
}

static void ctx_sleep_fired(struct moon_timer *timer)
{
    struct ctx_sleep *op = timer->owner;
    moon_async_done(op->x, ctx_sleep_push, op);
}

static void ctx_sleep_cancel(void *op)
{
    moon_timer_stop(&((struct ctx_sleep *)op)->timer);
}

/// ctx:sleep(seconds)
/// @lua-raises "ctx:sleep: seconds must be between 0 and 3600, got -1"
static int ctx_sleep(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_CTX);
    double seconds = luaL_checknumber(L, 2);
    if (!(seconds >= 0 && seconds <= 3600))
        return luaL_error(L, "ctx:sleep: seconds must be between 0 and 3600, got %f", seconds);
    (void)moon_async_ctx(L);
    struct ctx_sleep *op = moon_arena_zalloc(x->arena, sizeof(*op));
    if (op == NULL)
        return moon_raise_full(L);
    op->x = x;
    moon_timer_init(&op->timer, x->script->env.loop, ctx_sleep_fired, op);
    moon_timer_set(&op->timer, (int64_t)(seconds * 1000.0));
    return moon_async_wait(L, x, ctx_sleep_cancel, op);
}

static const luaL_Reg ctx_methods[] = {
    {"sleep", ctx_sleep},
    {"parallel", moon_ctx_parallel},
    {"forward", moon_ctx_forward},
    {"drop_response", moon_ctx_drop_response},
    {NULL, NULL},
};

void moon_ctx_new_class(lua_State *L, struct moon_script *script, enum moon_handle_kind kind,
                        const struct ctx_name *names, const luaL_Reg *methods, lua_CFunction index,
                        lua_CFunction newindex)
{
    lua_newtable(L); // the metatable
    lua_newtable(L); // its keys: numbers for fields, functions for methods
    for (; names != NULL && names->name != NULL; names++) {
        lua_pushinteger(L, names->key);
        lua_setfield(L, -2, names->name);
    }
    if (methods != NULL)
        luaL_register(L, NULL, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods");
    script->handle_index[kind] = index;
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, index, 1);
    lua_setfield(L, -3, "__index");
    lua_pushcclosure(L, newindex, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushstring(L, ctx_kind_names[kind]);
    lua_setfield(L, -2, "__metatable");
    script->handle_metatables[kind] = luaL_ref(L, LUA_REGISTRYINDEX);
}

void moon_ctx_open(lua_State *L, struct moon_script *script)
{
    ctx_make_slot_keys(L, script);
    moon_ctx_new_class(L, script, MOON_HANDLE_CTX, ctx_names, ctx_methods, ctx_index, ctx_newindex);
    moon_ctx_open_request(L, script);
    moon_ctx_open_response(L, script);
    moon_ctx_open_fields(L, script);
}

// The parts that are the same objects for the handle's whole life.
static const struct ctx_part {
    enum moon_handle_kind of, kind;
    const char *name;
} ctx_parts[] = {
    {MOON_HANDLE_CTX, MOON_HANDLE_REQUEST, "request"},
    {MOON_HANDLE_REQUEST, MOON_HANDLE_REQUEST_HEADERS, "headers"},
    {MOON_HANDLE_REQUEST, MOON_HANDLE_QUERY, "query"},
    {MOON_HANDLE_REQUEST, MOON_HANDLE_COOKIES, "cookies"},
    {MOON_HANDLE_REQUEST, MOON_HANDLE_PARAMS, "params"},
    {MOON_HANDLE_RESPONSE, MOON_HANDLE_RESPONSE_HEADERS, "headers"},
};

// Pushes what a handle of this kind answers with at once, without a call of C: its methods and its
// parts. Nothing else reaches this table, so no policy can write to it.
static void ctx_push_at_hand(lua_State *L, const struct moon_script *script,
                             const struct moon_runner *runner, enum moon_handle_kind kind)
{
    lua_createtable(L, 0, 16);
    int at_hand = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->handle_metatables[kind]);
    lua_getfield(L, -1, "methods");
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        if (lua_type(L, -1) == LUA_TNUMBER) {
            lua_pop(L, 1); // a field
            continue;
        }
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, at_hand);
    }
    for (size_t i = 0; i < MOON_COUNT(ctx_parts); i++) {
        if (ctx_parts[i].of == kind) {
            lua_rawgeti(L, LUA_REGISTRYINDEX, runner->part_refs[ctx_parts[i].kind]);
            lua_setfield(L, at_hand, ctx_parts[i].name);
        }
    }
    lua_settop(L, at_hand);
}

// With a metatable, its index function and what is at hand on the stack.
static void ctx_ref_metatables(lua_State *L, struct moon_runner *runner)
{
    static const char *const same[] = {"__newindex", "__metatable"};
    lua_pushvalue(L, -1);
    runner->slots_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, -3);
    runner->shown_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_createtable(L, 0, 3);
    for (size_t i = 0; i < MOON_COUNT(same); i++) {
        lua_getfield(L, -4, same[i]);
        lua_setfield(L, -2, same[i]);
    }
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    runner->hidden_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

// Gives a handle a metatable of its own: what is at hand first, then its class's index function.
static void ctx_give_metatable(lua_State *L, const struct moon_script *script,
                               struct moon_runner *runner, enum moon_handle_kind kind)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, runner->part_refs[kind]);
    lua_createtable(L, 0, 3);
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->handle_metatables[kind]);
    lua_getfield(L, -1, "__newindex");
    lua_setfield(L, -3, "__newindex");
    lua_getfield(L, -1, "__metatable");
    lua_setfield(L, -3, "__metatable");
    lua_getfield(L, -1, "methods");
    lua_remove(L, -2); // handle, metatable, keys
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, script->handle_index[kind], 2);
    ctx_push_at_hand(L, script, runner, kind);
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    if (kind == MOON_HANDLE_CTX) {
        ctx_ref_metatables(L, runner);
    }
    lua_setfield(L, -3, "__index"); // handle, metatable, function
    lua_pop(L, 1);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

void moon_ctx_push_new(lua_State *L, struct moon_script *script, struct moon_runner *runner)
{
    for (int kind = 0; kind < MOON_HANDLE_COUNT; kind++) {
        struct moon_handle *handle = lua_newuserdata(L, sizeof(*handle));
        handle->magic = MOON_HANDLE_MAGIC ^ (uint64_t)kind;
        handle->runner = runner;
        lua_rawgeti(L, LUA_REGISTRYINDEX, script->handle_metatables[kind]);
        lua_setmetatable(L, -2);
        runner->part_refs[kind] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    ctx_give_metatable(L, script, runner, MOON_HANDLE_CTX);
    ctx_give_metatable(L, script, runner, MOON_HANDLE_REQUEST);
    ctx_give_metatable(L, script, runner, MOON_HANDLE_RESPONSE);
    lua_rawgeti(L, LUA_REGISTRYINDEX, runner->part_refs[MOON_HANDLE_CTX]);
}
