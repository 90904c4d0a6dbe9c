/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.counters: counters and limits that all workers share, and nodes too where there is a
/// store.

#include "base/clock.h"
#include "script/internal.h"
#include "upstream/limits.h"

static const char counters_limiter_name[] = "moongate.counters.limiter";

enum counters_outcome {
    COUNTERS_ALLOWED,
    COUNTERS_REFUSED,
    COUNTERS_STORE_DOWN,
    COUNTERS_OUTCOMES
};

struct counters_limiter {
    struct moon_limit_spec spec;
    int series[COUNTERS_OUTCOMES]; // -1: not counted
    bool gives_back;
};

// ---- results -----------------------------------------------------------------------------------

static lua_Integer counters_seconds(int64_t ms)
{
    return (lua_Integer)((ms + 999) / 1000);
}

/// allowed, remaining, retry_after_s, reset_s, source, is_store_refusal
static int counters_push(lua_State *L, const struct moon_limit_result *r)
{
    lua_pushboolean(L, r->decision.is_allowed);
    lua_pushnumber(L, (lua_Number)r->decision.remaining);
    lua_pushinteger(L, counters_seconds(r->decision.retry_after_ms));
    lua_pushinteger(L, counters_seconds(r->decision.reset_ms));
    lua_pushstring(L, moon_limit_source_name(r->source));
    lua_pushboolean(L, r->is_store_refusal);
    return 6;
}

static void counters_meter(const struct moon_script *script, const int series[COUNTERS_OUTCOMES],
                           const struct moon_limit_result *r)
{
    enum counters_outcome outcome = r->source == MOON_SOURCE_STORE_DOWN ? COUNTERS_STORE_DOWN
                                    : r->decision.is_allowed            ? COUNTERS_ALLOWED
                                                                        : COUNTERS_REFUSED;
    if (series[outcome] >= 0)
        moon_metrics_add(script->env.metrics, series[outcome], 1);
}

// ---- giving back -------------------------------------------------------------------------------

struct counters_taken {
    struct moon_taken taken;                // first
    const struct counters_limiter *limiter; // lives as long as the generation
    int64_t amount;
    struct moon_limit_result result;
    size_t key_len;
    char key[];
};

static void counters_taken_give_back(struct moon_taken *taken, struct moon_ctx *x)
{
    const struct counters_taken *t = (const struct counters_taken *)taken;
    const struct moon_script_env *env = &x->script->env;
    struct moon_slice key = moon_slice(t->key, t->key_len);
    if (env->limits == NULL)
        moon_limits_local_give_back(env->counters, &t->limiter->spec, key, t->amount, &t->result);
    else
        moon_limits_give_back(env->limits, &t->limiter->spec, key, t->amount, &t->result);
}

// Remembers what was counted. Without room for that, the call stays counted.
static void counters_remember(struct moon_ctx *x, const struct counters_limiter *limiter,
                              struct moon_slice key, int64_t amount,
                              const struct moon_limit_result *result)
{
    if (x == NULL || !limiter->gives_back || amount == 0 || !result->decision.is_allowed)
        return;
    struct counters_taken *t = moon_arena_alloc(x->arena, sizeof(*t) + key.len);
    if (t == NULL)
        return;
    *t = (struct counters_taken){.taken = {.next = x->taken, .give_back = counters_taken_give_back},
                                 .limiter = limiter,
                                 .key_len = key.len,
                                 .amount = amount,
                                 .result = *result};
    if (key.len > 0)
        memcpy(t->key, key.data, key.len);
    x->taken = &t->taken;
}

/// counters.give_back()
///
/// For a limit that refuses the request: what other limits have counted of it is given back.
static int counters_give_back(lua_State *L)
{
    struct moon_ctx *x = moon_script_of(L)->current;
    if (x != NULL)
        moon_ctx_give_back(x);
    return 0;
}

// ---- exact decisions wait ----------------------------------------------------------------------

struct counters_op {
    struct moon_ctx *x;
    struct moon_limits_query *query;
    const struct counters_limiter *limiter; // lives as long as the generation
    struct moon_slice key;
    int64_t amount;
    enum moon_limit_how how;
    struct moon_limit_result result;
};

static int counters_op_push(struct moon_ctx *x, lua_State *co, void *op)
{
    (void)x;
    return counters_push(co, &((struct counters_op *)op)->result);
}

static void counters_op_decided(void *owner, const struct moon_limit_result *result)
{
    struct counters_op *op = owner;
    op->result = *result;
    op->query = NULL;
    counters_meter(op->x->script, op->limiter->series, result);
    if (op->how == MOON_LIMIT_TAKE)
        counters_remember(op->x, op->limiter, op->key, op->amount, result);
    moon_async_done(op->x, counters_op_push, op);
}

static void counters_op_cancel(void *owner)
{
    struct counters_op *op = owner;
    if (op->query != NULL)
        moon_limits_cancel(op->query);
}

static int counters_wait(lua_State *L, struct moon_script *script,
                         const struct counters_limiter *limiter, struct moon_slice key,
                         int64_t amount, enum moon_limit_how how)
{
    struct moon_ctx *x = moon_async_ctx(L);
    struct counters_op *op = moon_arena_zalloc(x->arena, sizeof(*op));
    if (op == NULL || !moon_arena_copy(x->arena, key, &op->key))
        return moon_raise_full(L);
    op->x = x;
    op->limiter = limiter;
    op->amount = amount;
    op->how = how;
    if (moon_limits_check(script->env.limits, &limiter->spec, key, amount, how, counters_op_decided,
                          op, &op->result, &op->query) == MOON_AGAIN)
        return moon_async_wait(L, x, counters_op_cancel, op);
    counters_meter(script, limiter->series, &op->result);
    if (how == MOON_LIMIT_TAKE)
        counters_remember(x, limiter, key, amount, &op->result);
    return counters_push(L, &op->result);
}

static int counters_decide(lua_State *L, enum moon_limit_how how)
{
    struct moon_script *script = moon_script_of(L);
    const struct counters_limiter *limiter = luaL_checkudata(L, 1, counters_limiter_name);
    struct moon_slice key = moon_check_slice(L, 2);
    double amount = luaL_optnumber(L, 3, 1);
    if (!(amount >= 0 && amount <= 1e12))
        return luaL_error(L, "limiter: amount must be 0 to 1e12, got %f", amount);
    if (script->env.counters == NULL)
        return luaL_error(L, "limiter: there are no counters while a configuration is checked");
    struct moon_limits *limits = script->env.limits;
    if (limits != NULL && limiter->spec.mode == MOON_MODE_EXACT && moon_limits_has_store(limits))
        return counters_wait(L, script, limiter, key, (int64_t)amount, how);
    struct moon_limit_result result;
    if (limits == NULL)
        result = moon_limits_local(script->env.counters, &limiter->spec, key, (int64_t)amount, how);
    else if (moon_limits_check(limits, &limiter->spec, key, (int64_t)amount, how, NULL, NULL,
                               &result, NULL) != MOON_OK)
        return luaL_error(L, "limiter: the limit cannot be checked");
    counters_meter(script, limiter->series, &result);
    if (how == MOON_LIMIT_TAKE)
        counters_remember(script->current, limiter, key, (int64_t)amount, &result);
    return counters_push(L, &result);
}

/// limiter:check(key, amount = 1) -> allowed, remaining, retry_after_s, reset_s, source, store_refusal
///
/// Counts when there is room. With amount 0 it only asks whether one more call would be allowed.
/// Exact limits wait for the store.
static int limiter_check(lua_State *L)
{
    return counters_decide(L, MOON_LIMIT_TAKE);
}

/// limiter:charge(key, amount = 1) -> as check
///
/// Counts in any case: for calls whose cost is known only afterwards.
static int limiter_charge(lua_State *L)
{
    return counters_decide(L, MOON_LIMIT_CHARGE);
}

/// limiter:note(key, amount = 1)
///
/// Counts in any case, and waits for nothing: for what is known when a call is over, in `log`.
static int limiter_note(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    const struct counters_limiter *limiter = luaL_checkudata(L, 1, counters_limiter_name);
    struct moon_slice key = moon_check_slice(L, 2);
    double amount = luaL_optnumber(L, 3, 1);
    struct moon_limit_result result;
    if (!(amount >= 0 && amount <= 1e12))
        return luaL_error(L, "limiter: amount must be 0 to 1e12, got %f", amount);
    if (script->env.limits == NULL)
        (void)moon_limits_local(script->env.counters, &limiter->spec, key, (int64_t)amount,
                                MOON_LIMIT_CHARGE);
    else if (moon_limits_check(script->env.limits, &limiter->spec, key, (int64_t)amount,
                               MOON_LIMIT_CHARGE, NULL, NULL, &result, NULL) == MOON_AGAIN)
        return 0; // on its way
    return 0;
}

// ---- limiters ----------------------------------------------------------------------------------

// The place of a field's text among `names`; `absent` when the field is nil.
static int counters_enum(lua_State *L, const char *field, const char *const *names, int absent)
{
    lua_getfield(L, 1, field);
    int found = -1;
    if (lua_isnil(L, -1)) {
        found = absent;
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        for (int i = 0; names[i] != NULL; i++) {
            if (strcmp(lua_tostring(L, -1), names[i]) == 0)
                found = i;
        }
    }
    if (found == -1)
        luaL_error(L, "counters.limiter: %s: \"%s\" is not known", field, lua_tostring(L, -1));
    lua_pop(L, 1);
    return found;
}

static double counters_number(lua_State *L, const char *field, double absent)
{
    lua_getfield(L, 1, field);
    double n = lua_isnil(L, -1) ? absent : lua_tonumber(L, -1);
    bool is_number = lua_isnil(L, -1) || lua_type(L, -1) == LUA_TNUMBER;
    lua_pop(L, 1);
    if (!is_number || !(n >= 0 && n <= 9e15))
        luaL_error(L, "counters.limiter: %s must be a number from 0 on", field);
    return n;
}

static void counters_series(struct moon_script *script, struct counters_limiter *limiter)
{
    static const char *const outcomes[] = {"allowed", "refused", "store_down"};
    for (int i = 0; i < COUNTERS_OUTCOMES; i++) {
        struct moon_buf labels;
        limiter->series[i] = -1;
        if (script->env.metrics == NULL || script->env.is_checking)
            continue;
        moon_buf_init(&labels, 1024);
        if (moon_metrics_label(&labels, "limit", moon_slice_text(limiter->spec.id)) == MOON_OK &&
            moon_metrics_label(&labels, "decision", moon_slice_text(outcomes[i])) == MOON_OK) {
            limiter->series[i] = moon_metrics_series(
                script->env.metrics, MOON_METRIC_COUNTER, "moongate_limit_decisions_total",
                "Decisions of rate limits; store_down: made without the store.",
                moon_buf_slice(&labels));
        }
        moon_buf_fini(&labels);
    }
}

/// counters.limiter { id =, calls =, period =, burst =, mode =, algorithm =, store_down =,
///                    gives_back = } -> limiter
///
/// `id` is the same on every node; `period` in seconds, 0 (fixed_window only): it never renews; `mode` "local", "shared", "exact" (default:
/// shared where there is a store, else local); `algorithm` "token_bucket", "sliding_window",
/// "fixed_window" (default: token_bucket, with shared sliding_window); `store_down` "local" (default),
/// "allow", "deny"; `gives_back`: what `check` counts is given back when another
/// limit refuses the request (counters.give_back).
/// @lua-raises "counters.limiter: calls must be ..." and the like
static int counters_limiter(lua_State *L)
{
    static const char *const modes[] = {"local", "shared", "exact", NULL};
    static const char *const algorithms[] = {"token_bucket", "sliding_window", "fixed_window",
                                             NULL};
    static const char *const downs[] = {"local", "allow", "deny", NULL};
    struct moon_script *script = moon_script_of(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    const struct moon_limits *limits = script->env.limits;
    bool has_store = limits != NULL && moon_limits_has_store(limits);
    int mode = counters_enum(L, "mode", modes, has_store ? MOON_MODE_SHARED : MOON_MODE_LOCAL);
    int algorithm = counters_enum(L, "algorithm", algorithms,
                                  mode == MOON_MODE_SHARED ? MOON_ALGORITHM_SLIDING_WINDOW
                                                           : MOON_ALGORITHM_TOKEN_BUCKET);
    if (mode == MOON_MODE_SHARED && algorithm == MOON_ALGORITHM_TOKEN_BUCKET)
        return luaL_error(L, "counters.limiter: mode \"shared\" counts in windows: algorithm must "
                             "be \"sliding_window\" or \"fixed_window\", or mode \"exact\"");
    int down = counters_enum(L, "store_down", downs, MOON_STORE_DOWN_LOCAL);
    double calls = counters_number(L, "calls", 0), period = counters_number(L, "period", 0);
    double burst = counters_number(L, "burst", 0);
    lua_getfield(L, 1, "id");
    if (lua_type(L, -1) != LUA_TSTRING)
        return luaL_error(L, "counters.limiter: id must be a text");
    struct counters_limiter *limiter = lua_newuserdata(L, sizeof(*limiter));
    if (moon_limit_spec_init(&limiter->spec, moon_check_slice(L, -2), (int64_t)calls,
                             (int64_t)(period * 1000), (int64_t)burst, (enum moon_limit_mode)mode,
                             (enum moon_limit_algorithm)algorithm,
                             (enum moon_store_down)down) != MOON_OK)
        return luaL_error(L, "counters.limiter: calls must be 1 to 2^36, period 0.001 s to 400 "
                             "days, burst 0 to 2^36");
    lua_getfield(L, 1, "gives_back");
    limiter->gives_back = lua_toboolean(L, -1);
    lua_pop(L, 1);
    counters_series(script, limiter);
    luaL_getmetatable(L, counters_limiter_name);
    lua_setmetatable(L, -2);
    return 1;
}

/// counters.add(key, amount, window_s) -> total
///
/// A plain counter of this node that begins anew at each multiple of the window.
/// @lua-raises "counters.add: window_s must be positive, got -1"
static int counters_add(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    struct moon_slice key = moon_check_slice(L, 1);
    double amount = luaL_optnumber(L, 2, 1), window_s = luaL_checknumber(L, 3);
    if (!(window_s >= 0.001 && window_s <= 400.0 * 86400))
        return luaL_error(L, "counters.add: window_s must be positive, got %f", window_s);
    if (!(amount >= -1e12 && amount <= 1e12))
        return luaL_error(L, "counters.add: amount must be -1e12 to 1e12, got %f", amount);
    if (script->env.counters == NULL)
        return luaL_error(L,
                          "counters.add: there are no counters while a configuration is checked");
    int64_t total =
        moon_counters_add(script->env.counters, moon_counter_key(MOON_S("add"), key),
                          (int64_t)amount, (int64_t)(window_s * 1000), moon_clock_wall_ms());
    lua_pushnumber(L, (lua_Number)total);
    return 1;
}

static const luaL_Reg counters_functions[] = {{"add", counters_add},
                                              {"limiter", counters_limiter},
                                              {"give_back", counters_give_back},
                                              {NULL, NULL}};

/// limit:tell(ctx.response, policy, limit, remaining, reset): adds the fields of
/// draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy: <policy>`, `RateLimit: <limit>r;t=reset`.
/// Several limits give several lines, which is one list (RFC 9651 §4.2).
static int limiter_tell(lua_State *L)
{
    struct moon_ctx *x = moon_handle_check(L, 2, MOON_HANDLE_RESPONSE);
    struct moon_slice policy, limit;
    size_t policy_len, limit_len;
    const char *policy_text = luaL_checklstring(L, 3, &policy_len);
    const char *limit_text = luaL_checklstring(L, 4, &limit_len);
    int64_t remaining = (int64_t)luaL_checknumber(L, 5);
    int64_t reset = (int64_t)luaL_checknumber(L, 6);
    char left[MOON_NUMBER_TEXT_BYTES], wait[MOON_NUMBER_TEXT_BYTES];
    struct moon_slice parts[4] = {moon_slice(limit_text, limit_len),
                                  moon_slice_of_number(left, remaining), MOON_S(";t="),
                                  moon_slice_of_number(wait, reset)};
    if (x->response == NULL)
        return 0;
    bool is_added =
        moon_arena_copy(x->arena, moon_slice(policy_text, policy_len), &policy) &&
        moon_arena_join(x->arena, parts, MOON_COUNT(parts), &limit) &&
        moon_fields_add(&x->response->fields, MOON_S("RateLimit-Policy"), policy) == MOON_OK &&
        moon_fields_add(&x->response->fields, MOON_S("RateLimit"), limit) == MOON_OK;
    return is_added ? 0 : moon_raise_full(L);
}

static const luaL_Reg limiter_methods[] = {{"check", limiter_check},
                                           {"charge", limiter_charge},
                                           {"note", limiter_note},
                                           {"tell", limiter_tell},
                                           {NULL, NULL}};

static int counters_open(lua_State *L)
{
    luaL_newmetatable(L, counters_limiter_name);
    lua_newtable(L);
    luaL_register(L, NULL, limiter_methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "limiter");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, counters_functions);
    return 1;
}

void moon_script_open_counters(lua_State *L)
{
    moon_preload(L, "moongate.counters", counters_open);
}
