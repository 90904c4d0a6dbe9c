/* SPDX-License-Identifier: Apache-2.0 */

/// ctx:parallel{ ... }: functions that run side by side, each in a coroutine of its own, so that
/// what they wait for overlaps. With `all` (or a plain list) it ends when the last one has, with
/// `any` when the first one has; the others are cancelled then.

#include "base/log.h"
#include "script/internal.h"

enum { PARALLEL_BRANCHES = 32 };

struct parallel {
    struct moon_ctx *x;
    struct moon_branch *branches;
    size_t count, left;
    int functions_ref, results_ref; // tables; results[i] = { ok, value }
    bool is_any;
    bool is_over;
    bool is_held; // functions are being run: whoever runs them notices the end
    struct moon_timer timer;
};

static void parallel_release(struct parallel *p)
{
    struct moon_script *script = p->x->script;
    lua_State *L = script->L;
    moon_timer_stop(&p->timer);
    for (size_t i = 0; i < p->count; i++) {
        struct moon_branch *branch = &p->branches[i];
        if (branch->cancel != NULL)
            branch->cancel(branch->op);
        branch->cancel = NULL;
        luaL_unref(L, LUA_REGISTRYINDEX, branch->co_ref);
    }
    p->x->branches = NULL;
    p->x->branch_count = 0;
    luaL_unref(L, LUA_REGISTRYINDEX, p->functions_ref);
}

static int parallel_push_results(struct moon_ctx *x, lua_State *co, void *op)
{
    struct parallel *p = op;
    (void)x;
    lua_rawgeti(co, LUA_REGISTRYINDEX, p->results_ref);
    luaL_unref(co, LUA_REGISTRYINDEX, p->results_ref);
    return 1;
}

static void parallel_cancel(void *op)
{
    struct parallel *p = op;
    parallel_release(p);
    luaL_unref(p->x->script->L, LUA_REGISTRYINDEX, p->results_ref);
}

void moon_parallel_abandon(struct moon_ctx *x)
{
    parallel_cancel(x->branches[0].owner);
}

static void parallel_end(struct parallel *p)
{
    p->is_over = true;
    if (p->is_held)
        return;
    parallel_release(p);
    moon_async_done(p->x, parallel_push_results, p);
}

// results[i] = { ok = true, value = v } or { ok = false, error = text }
static void parallel_store(struct parallel *p, size_t i, lua_State *from, bool is_ok)
{
    lua_State *L = p->x->script->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->results_ref);
    lua_createtable(L, 0, 2);
    lua_pushboolean(L, is_ok);
    lua_setfield(L, -2, "ok");
    if (lua_gettop(from) > 0 && from != L) {
        lua_settop(from, is_ok ? 1 : lua_gettop(from));
        lua_xmove(from, L, 1);
        lua_setfield(L, -2, is_ok ? "value" : "error");
    }
    lua_rawseti(L, -2, (int)i + 1);
    lua_pop(L, 1);
}

static void parallel_ran(struct parallel *p, size_t i, int status)
{
    struct moon_branch *branch = &p->branches[i];
    if (status == LUA_YIELD)
        return;
    parallel_store(p, i, branch->co, status == 0);
    branch->is_over = true;
    p->left--;
    if (p->left == 0 || (p->is_any && status == 0))
        parallel_end(p);
}

static void parallel_run(struct parallel *p, size_t i, int args)
{
    struct moon_script *script = p->x->script;
    struct moon_ctx *outer = script->current;
    // While ctx:parallel itself starts the branches, the section's budget is running already.
    struct moon_script *outer_script = outer == NULL ? moon_section_enter(p->x) : NULL;
    int status = moon_fuel_resume(script, p->branches[i].co, args);
    if (status == LUA_YIELD && script->is_spent) {
        lua_settop(p->branches[i].co, 0);
        lua_pushliteral(p->branches[i].co, "policy budget is spent");
        status = LUA_ERRRUN;
    }
    if (outer == NULL)
        moon_section_leave(p->x, outer_script, true);
    parallel_ran(p, i, status);
}

bool moon_parallel_resume(struct moon_ctx *x, moon_async_push_fn *push, void *op)
{
    if (x->branches == NULL)
        return false;
    struct parallel *p = x->branches[0].owner;
    bool is_found = false;
    p->is_held = true;
    for (size_t i = 0; i < p->count && !p->is_over; i++) {
        struct moon_branch *branch = &p->branches[i];
        if (branch->cancel == NULL || branch->op != op)
            continue;
        branch->cancel = NULL;
        branch->op = NULL;
        is_found = true;
        parallel_run(p, i, push(x, branch->co, op));
    }
    p->is_held = false;
    if (p->is_over)
        parallel_end(p);
    return is_found;
}

static void parallel_timeout(struct moon_timer *timer)
{
    struct parallel *p = timer->owner;
    for (size_t i = 0; i < p->count; i++) {
        if (p->branches[i].is_over)
            continue;
        lua_State *from = p->branches[i].co;
        lua_settop(from, 0);
        lua_pushliteral(from, "timeout");
        parallel_store(p, i, from, false);
    }
    parallel_end(p);
}

// The list of functions: the table itself, or its `all` or `any`; left on top of the stack.
static void parallel_push_list(lua_State *L, bool *is_any)
{
    lua_getfield(L, 2, "any");
    *is_any = lua_istable(L, -1);
    if (*is_any)
        return;
    lua_pop(L, 1);
    lua_getfield(L, 2, "all");
    if (lua_istable(L, -1))
        return;
    lua_pop(L, 1);
    lua_pushvalue(L, 2);
}

static struct parallel *parallel_new(lua_State *L, struct moon_ctx *x, int list)
{
    size_t n = lua_objlen(L, list);
    struct parallel *p = moon_arena_zalloc(x->arena, sizeof(*p));
    struct moon_branch *branches = moon_arena_zalloc(x->arena, (n + 1) * sizeof(*branches));
    if (p == NULL || branches == NULL) {
        moon_raise_full(L);
        return NULL;
    }
    p->x = x;
    p->branches = branches;
    p->count = p->left = n;
    for (size_t i = 0; i < n; i++) {
        branches[i].owner = p;
        branches[i].co = lua_newthread(L);
        branches[i].co_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_createtable(L, (int)n, 0);
    p->results_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, list);
    p->functions_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    moon_timer_init(&p->timer, x->script->env.loop, parallel_timeout, p);
    return p;
}

/// ctx:parallel{ f, g, timeout = s } or { all = { f, g } } or { any = { f, g } }
///   -> { { ok = true, value = v }, { ok = false, error = text }, ... } by place; with `any`, places
///      that did not end are nil. Each function gets ctx.
/// @lua-raises "ctx:parallel: expected 1 to 32 functions"
int moon_ctx_parallel(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 1, MOON_HANDLE_CTX);
    bool is_any;
    luaL_checktype(L, 2, LUA_TTABLE);
    (void)moon_async_ctx(L);
    if (x->branches != NULL)
        return luaL_error(L, "ctx:parallel cannot be used inside ctx:parallel");
    parallel_push_list(L, &is_any);
    if (lua_objlen(L, -1) < 1 || lua_objlen(L, -1) > PARALLEL_BRANCHES)
        return luaL_error(L, "ctx:parallel: expected 1 to %d functions", PARALLEL_BRANCHES);
    int list = lua_gettop(L);
    for (size_t i = 1; i <= lua_objlen(L, list); i++) {
        lua_rawgeti(L, list, (int)i);
        luaL_argcheck(L, lua_isfunction(L, -1), 2, "expected functions");
        lua_pop(L, 1);
    }
    lua_getfield(L, 2, "timeout");
    double timeout = luaL_optnumber(L, -1, 0);
    lua_pop(L, 1);
    struct parallel *p = parallel_new(L, x, list);
    p->is_any = is_any;
    p->is_held = true;
    x->branches = p->branches;
    x->branch_count = p->count;
    for (size_t i = 0; i < p->count && !p->is_over; i++) {
        lua_State *co = p->branches[i].co;
        lua_rawgeti(L, list, (int)i + 1);
        lua_pushvalue(L, 1);
        lua_xmove(L, co, 2);
        parallel_run(p, i, 1);
    }
    p->is_held = false;
    if (p->is_over) {
        parallel_release(p);
        return parallel_push_results(x, L, p);
    }
    if (timeout > 0)
        moon_timer_set(&p->timer, (int64_t)(timeout * 1000.0));
    return moon_async_wait(L, x, parallel_cancel, p);
}
