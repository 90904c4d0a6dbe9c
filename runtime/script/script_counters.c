/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.counters: counters and limits that all workers share, and nodes too where there is a
/// store.

#include "base/clock.h"
#include "script/text.h"
#include "upstream/limits.h"

static const char counters_limiter_name[] = "moongate.counters.limiter";

#define COUNTERS_MARK UINT64_C(0x6d6f6f6e6c696d74)

enum counters_outcome {
    COUNTERS_ALLOWED,
    COUNTERS_REFUSED,
    COUNTERS_STORE_DOWN,
    COUNTERS_OUTCOMES
};

struct counters_limiter {
    uint64_t mark; // COUNTERS_MARK
    struct moon_limit_spec spec;
    int series[COUNTERS_OUTCOMES]; // -1: not counted
    bool gives_back;
};

static const struct counters_limiter *counters_check_limiter(lua_State *L)
{
    return moon_check_object(L, 1, sizeof(struct counters_limiter), COUNTERS_MARK,
                             counters_limiter_name);
}

// ---- results -----------------------------------------------------------------------------------

static lua_Integer counters_seconds(int64_t ms)
{
    return (lua_Integer)((ms + 999) / 1000);
}

/// What Lua gets of a decision.
typedef int counters_push_fn(lua_State *L, struct moon_ctx *x, const struct moon_limit_result *r);

/// allowed, remaining, retry_after_s, reset_s, source, is_store_refusal
static int counters_push_all(lua_State *L, struct moon_ctx *x, const struct moon_limit_result *r)
{
    (void)x;
    lua_pushboolean(L, r->decision.is_allowed);
    lua_pushnumber(L, (lua_Number)r->decision.remaining);
    lua_pushinteger(L, counters_seconds(r->decision.retry_after_ms));
    lua_pushinteger(L, counters_seconds(r->decision.reset_ms));
    lua_pushstring(L, moon_limit_source_name(r->source));
    lua_pushboolean(L, r->is_store_refusal);
    return 6;
}

/// Nothing for an allowed call, retry_after_s and is_store_refusal for another. The rest is noted for
/// ctx.vars.
static int counters_push_refusal(lua_State *L, struct moon_ctx *x,
                                 const struct moon_limit_result *r)
{
    moon_ctx_note(L, x, "rate_limit.remaining", NULL, (double)r->decision.remaining);
    moon_ctx_note(L, x, "rate_limit.source", moon_limit_source_name(r->source), 0);
    if (MOON_LIKELY(r->decision.is_allowed))
        return 0;
    lua_pushinteger(L, counters_seconds(r->decision.retry_after_ms));
    lua_pushboolean(L, r->is_store_refusal);
    return 2;
}

/// remaining, reset_s
static int counters_push_left(lua_State *L, struct moon_ctx *x, const struct moon_limit_result *r)
{
    (void)x;
    lua_pushnumber(L, (lua_Number)r->decision.remaining);
    lua_pushinteger(L, counters_seconds(r->decision.reset_ms));
    return 2;
}

// A charge decides nothing: the call it belongs to was decided about before.
static void counters_meter(const struct moon_script *script, const int series[COUNTERS_OUTCOMES],
                           enum moon_limit_how how, const struct moon_limit_result *r)
{
    if (how == MOON_LIMIT_CHARGE)
        return;
    enum counters_outcome outcome = r->source == MOON_SOURCE_STORE_DOWN ? COUNTERS_STORE_DOWN
                                    : r->decision.is_allowed            ? COUNTERS_ALLOWED
                                                                        : COUNTERS_REFUSED;
    if (series[outcome] >= 0)
        moon_metrics_add(script->env.metrics, series[outcome], 1);
}

// ---- what a request was counted as -------------------------------------------------------------

struct counters_taken {
    struct moon_taken taken;                // first
    const struct counters_limiter *limiter; // lives as long as the generation
    int64_t amount;
    struct moon_limit_result result;
    bool is_told; // what is left stands in the response, or has been asked for
    size_t key_len;
    char key[];
};

static void counters_taken_give_back(struct moon_taken *taken, struct moon_ctx *x)
{
    const struct counters_taken *t = (const struct counters_taken *)taken;
    const struct moon_script_env *env = &x->script->env;
    struct moon_slice key = moon_slice(t->key, t->key_len);
    if (t->amount == 0)
        return;
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
    if (x == NULL || !limiter->gives_back || !result->decision.is_allowed)
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

/// counters.are_given_back() -> whether a limit has refused the request
static int counters_are_given_back(lua_State *L)
{
    const struct moon_ctx *x = moon_script_of(L)->current;
    lua_pushboolean(L, x != NULL && x->is_refused_by_limit);
    return 1;
}

// ---- exact decisions wait ----------------------------------------------------------------------

struct counters_op {
    struct moon_ctx *x;
    struct moon_limits_query *query;
    const struct counters_limiter *limiter; // lives as long as the generation
    struct moon_slice key;
    int64_t amount;
    enum moon_limit_how how;
    counters_push_fn *push;
    struct moon_limit_result result;
};

static int counters_op_push(struct moon_ctx *x, lua_State *co, void *op)
{
    return ((struct counters_op *)op)->push(co, x, &((struct counters_op *)op)->result);
}

static void counters_op_decided(void *owner, const struct moon_limit_result *result)
{
    struct counters_op *op = owner;
    op->result = *result;
    op->query = NULL;
    counters_meter(op->x->script, op->limiter->series, op->how, result);
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
                         int64_t amount, enum moon_limit_how how, counters_push_fn *push)
{
    struct moon_ctx *x = moon_async_ctx(L);
    struct counters_op *op = moon_arena_zalloc(x->arena, sizeof(*op));
    if (op == NULL || !moon_arena_copy(x->arena, key, &op->key))
        return moon_raise_full(L);
    op->x = x;
    op->limiter = limiter;
    op->amount = amount;
    op->how = how;
    op->push = push;
    if (moon_limits_check(script->env.limits, &limiter->spec, key, amount, how, counters_op_decided,
                          op, &op->result, &op->query) == MOON_AGAIN)
        return moon_async_wait(L, x, counters_op_cancel, op);
    counters_meter(script, limiter->series, how, &op->result);
    if (how == MOON_LIMIT_TAKE)
        counters_remember(x, limiter, key, amount, &op->result);
    return push(L, x, &op->result);
}

static void counters_check_use(lua_State *L, double amount)
{
    if (!(amount >= 0 && amount <= 1e12))
        luaL_error(L, "limiter: amount must be 0 to 1e12, got %f", amount);
    if (moon_script_of(L)->env.counters == NULL)
        luaL_error(L, "limiter: there are no counters while a configuration is checked");
}

static int counters_decide(lua_State *L, const struct counters_limiter *limiter,
                           struct moon_slice key, double amount, enum moon_limit_how how,
                           counters_push_fn *push)
{
    struct moon_script *script = moon_script_of(L);
    counters_check_use(L, amount);
    struct moon_limits *limits = script->env.limits;
    if (limits != NULL && limiter->spec.mode == MOON_MODE_EXACT && moon_limits_has_store(limits))
        return counters_wait(L, script, limiter, key, (int64_t)amount, how, push);
    struct moon_limit_result result;
    if (limits == NULL)
        result = moon_limits_local(script->env.counters, &limiter->spec, key, (int64_t)amount, how);
    else if (moon_limits_check(limits, &limiter->spec, key, (int64_t)amount, how, NULL, NULL,
                               &result, NULL) != MOON_OK)
        return luaL_error(L, "limiter: the limit cannot be checked");
    counters_meter(script, limiter->series, how, &result);
    if (how == MOON_LIMIT_TAKE)
        counters_remember(script->current, limiter, key, (int64_t)amount, &result);
    return push(L, script->current, &result);
}

/// limiter:check(key, amount = 1) -> allowed, remaining, retry_after_s, reset_s, source, store_refusal
///
/// Counts when there is room. With amount 0 it only asks whether one more call would be allowed.
/// Exact limits wait for the store.
static int limiter_check(lua_State *L)
{
    return counters_decide(L, counters_check_limiter(L), moon_check_slice(L, 2),
                           luaL_optnumber(L, 3, 1), MOON_LIMIT_TAKE, counters_push_all);
}

/// limiter:charge(key, amount = 1) -> as check
///
/// Counts in any case: for calls whose cost is known only afterwards.
static int limiter_charge(lua_State *L)
{
    return counters_decide(L, counters_check_limiter(L), moon_check_slice(L, 2),
                           luaL_optnumber(L, 3, 1), MOON_LIMIT_CHARGE, counters_push_all);
}

enum { COUNTERS_CALLER_BYTES = 128 };

enum counters_kind { COUNTERS_BY_TEXT, COUNTERS_BY_SUBSCRIPTION, COUNTERS_BY_ADDRESS };

// Whose limit it is: a text's, the subscription's; and for a call without one, the client's address.
// Keys of different kinds never meet. In `room` where it fits there. @return NULL data when the arena
// is full
static struct moon_slice counters_caller(struct moon_ctx *x, enum counters_kind kind,
                                         struct moon_slice text, char room[COUNTERS_CALLER_BYTES])
{
    struct moon_slice parts[2] = {MOON_S("ip:"), moon_slice(x->client->ip_text, x->client->ip_len)};
    struct moon_slice whole;
    if (kind == COUNTERS_BY_TEXT) {
        parts[0] = MOON_S("k:");
        parts[1] = text;
    } else if (kind == COUNTERS_BY_SUBSCRIPTION) {
        moon_ctx_find_subscription(x);
        if (x->subscription != NULL) {
            parts[0] = MOON_S("s:");
            parts[1] = x->subscription->id;
        }
    }
    size_t len = parts[0].len + parts[1].len;
    if (len > COUNTERS_CALLER_BYTES)
        return moon_arena_join(x->arena, parts, 2, &whole) ? whole : moon_slice(NULL, 0);
    memcpy(room, parts[0].data, parts[0].len);
    if (parts[1].len > 0)
        memcpy(room + parts[0].len, parts[1].data, parts[1].len);
    return moon_slice(room, len);
}

// By the argument at 3: a text; true for the caller's subscription; nil.
static struct moon_slice counters_check_caller(lua_State *L, struct moon_ctx *x,
                                               char room[COUNTERS_CALLER_BYTES])
{
    struct moon_slice text = {NULL, 0};
    enum counters_kind kind = lua_toboolean(L, 3) ? COUNTERS_BY_SUBSCRIPTION : COUNTERS_BY_ADDRESS;
    if (lua_type(L, 3) == LUA_TSTRING) {
        kind = COUNTERS_BY_TEXT;
        text = moon_check_slice(L, 3);
    }
    struct moon_slice caller = counters_caller(x, kind, text, room);
    if (caller.data == NULL)
        moon_raise_full(L);
    return caller;
}

// Decides about the caller of the exchange at 2: ctx, key, amount.
static int counters_decide_caller(lua_State *L, enum moon_limit_how how, counters_push_fn *push)
{
    char text[COUNTERS_CALLER_BYTES];
    const struct counters_limiter *limiter = counters_check_limiter(L);
    struct moon_ctx *x = moon_handle_check(L, 2, MOON_HANDLE_CTX);
    return counters_decide(L, limiter, counters_check_caller(L, x, text), luaL_checknumber(L, 4),
                           how, push);
}

/// limiter:admit(ctx, key, amount) -> nothing when allowed, else retry_after_s, is_store_refusal
///
/// `key` is a text, true for the caller's subscription, or nil; without one the client's address
/// counts. What is left, and where was counted, is kept for `tell` and `left`, and noted for ctx.vars
/// as `rate_limit.remaining` and `rate_limit.source`.
static int limiter_admit(lua_State *L)
{
    return counters_decide_caller(L, MOON_LIMIT_TAKE, counters_push_refusal);
}

/// limiter:settle(ctx, key, amount) -> remaining, reset_s
///
/// Counts in any case, for the same callers as `admit`.
static int limiter_settle(lua_State *L)
{
    return counters_decide_caller(L, MOON_LIMIT_CHARGE, counters_push_left);
}

/// limiter:note(key, amount = 1)
///
/// Counts in any case, and waits for nothing: for what is known when a call is over, in `log`.
static int limiter_note(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    const struct counters_limiter *limiter = counters_check_limiter(L);
    struct moon_slice key = moon_check_slice(L, 2);
    double amount = luaL_optnumber(L, 3, 1);
    struct moon_limit_result result;
    counters_check_use(L, amount);
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
    limiter->mark = COUNTERS_MARK;
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
                                              {"are_given_back", counters_are_given_back},
                                              {NULL, NULL}};

// What a limit has let the request in with, and nobody has asked for yet. NULL: it refused, was not
// reached, or this is on_error after outbound.
static struct counters_taken *counters_untold(const struct moon_ctx *x,
                                              const struct counters_limiter *limiter)
{
    for (struct moon_taken *taken = x->taken; taken != NULL; taken = taken->next) {
        struct counters_taken *t = (struct counters_taken *)taken;
        if (taken->give_back == counters_taken_give_back && t->limiter == limiter)
            return t->is_told ? NULL : t;
    }
    return NULL;
}

// What is left after the call; of one that another limit refused, as if it had not been made.
static int64_t counters_left(const struct counters_taken *t)
{
    const struct moon_limit_spec *spec = &t->limiter->spec;
    int64_t left = t->result.decision.remaining;
    int64_t most = spec->burst > 0 ? spec->burst : spec->calls;
    if (!t->taken.is_given_back)
        return left;
    return left + t->amount < most ? left + t->amount : most;
}

/// limiter:left(ctx) -> remaining, reset_s | nothing
///
/// What `admit` has kept of an allowed call; once.
static int limiter_left(lua_State *L)
{
    const struct counters_limiter *limiter = counters_check_limiter(L);
    struct counters_taken *t = counters_untold(moon_handle_check(L, 2, MOON_HANDLE_CTX), limiter);
    if (t == NULL)
        return 0;
    t->is_told = true;
    lua_pushnumber(L, (lua_Number)counters_left(t));
    lua_pushinteger(L, counters_seconds(t->result.decision.reset_ms));
    return 2;
}

// Adds the fields to the response of an allowed call, once. @return false when the arena is full
static bool counters_tell(struct moon_ctx *x, const struct counters_limiter *limiter,
                          struct moon_slice policy, struct moon_slice limit)
{
    struct counters_taken *t = counters_untold(x, limiter);
    if (t == NULL || x->response == NULL)
        return true;
    t->is_told = true;
    char left[MOON_NUMBER_TEXT_BYTES], wait[MOON_NUMBER_TEXT_BYTES];
    struct moon_slice told;
    struct moon_slice parts[4] = {
        limit, moon_slice_of_number(left, counters_left(t)), MOON_S(";t="),
        moon_slice_of_number(wait, counters_seconds(t->result.decision.reset_ms))};
    struct moon_fields *fields = &x->response->fields;
    return moon_arena_join(x->arena, parts, MOON_COUNT(parts), &told) &&
           moon_fields_add_known(fields, MOON_FIELD_OTHER, MOON_S("RateLimit-Policy"), policy) ==
               MOON_OK &&
           moon_fields_add_known(fields, MOON_FIELD_OTHER, MOON_S("RateLimit"), told) == MOON_OK;
}

/// limiter:tell(ctx, policy, limit): adds the fields of draft-ietf-httpapi-ratelimit-headers to the
/// response of an allowed call, once: `RateLimit-Policy: <policy>`, `RateLimit: <limit>r;t=reset`.
/// Several limits give several lines, which is one list (RFC 9651 §4.2).
static int limiter_tell(lua_State *L)
{
    const struct counters_limiter *limiter = counters_check_limiter(L);
    struct moon_ctx *x = moon_handle_check(L, 2, MOON_HANDLE_CTX);
    struct moon_slice policy = moon_check_copy(L, 3, x);
    return counters_tell(x, limiter, policy, moon_check_slice(L, 4)) ? 0 : moon_raise_full(L);
}

// ---- acts --------------------------------------------------------------------------------------

static const char counters_gate_name[] = "moongate.counters.gate";
static const char counters_teller_name[] = "moongate.counters.teller";

/// What lets a call in without Lua. Its environment keeps limiter and text.
struct counters_gate {
    const struct counters_limiter *limiter;
    enum counters_kind kind;
    const struct moon_text *text; // of the key; nil is the client's address
    int64_t amount;
};

// A refusal is the policy's to make, which asks once more: a refused call is not counted.
static enum moon_act_answer counters_gate_act(struct moon_ctx *x, const void *object)
{
    const struct counters_gate *gate = object;
    const struct moon_limit_spec *spec = &gate->limiter->spec;
    const struct moon_script_env *env = &x->script->env;
    struct moon_slice text = {NULL, 0};
    char room[COUNTERS_CALLER_BYTES];
    enum counters_kind kind = gate->kind;
    bool is_noted = !moon_ctx_is_in_lua(x, MOON_SLOT_VARS) || x->script->acting != NULL;
    if (env->counters == NULL || !is_noted)
        return MOON_ACT_DECLINES;
    if (kind == COUNTERS_BY_TEXT) {
        switch (moon_text_make(gate->text, x, &text)) {
        case MOON_TEXT_FOUND:
            break;
        case MOON_TEXT_NONE:
            kind = COUNTERS_BY_ADDRESS;
            break;
        case MOON_TEXT_OTHER:
            return MOON_ACT_DECLINES;
        }
    }
    struct moon_slice caller = counters_caller(x, kind, text, room);
    struct moon_limit_result result;
    if (caller.data == NULL)
        return MOON_ACT_DECLINES;
    if (env->limits == NULL)
        result = moon_limits_local(env->counters, spec, caller, gate->amount, MOON_LIMIT_TAKE);
    else if (moon_limits_check(env->limits, spec, caller, gate->amount, MOON_LIMIT_TAKE, NULL, NULL,
                               &result, NULL) != MOON_OK)
        return MOON_ACT_DECLINES;
    if (!result.decision.is_allowed ||
        !moon_ctx_keep_note(x, "rate_limit.remaining", NULL, (double)result.decision.remaining) ||
        !moon_ctx_keep_note(x, "rate_limit.source", moon_limit_source_name(result.source), 0))
        return MOON_ACT_DECLINES;
    counters_meter(x->script, gate->limiter->series, MOON_LIMIT_TAKE, &result);
    counters_remember(x, gate->limiter, caller, gate->amount, &result);
    return MOON_ACT_GO_ON;
}

/// limiter:gate(key, amount) -> act | nil where a call may have to wait
///
/// Does what `admit` does. `key` is a text program (moongate.text), true for the caller's subscription,
/// or nil.
static int limiter_gate(lua_State *L)
{
    const struct counters_limiter *limiter = counters_check_limiter(L);
    double amount = luaL_checknumber(L, 3);
    if (limiter->spec.mode == MOON_MODE_EXACT || !(amount >= 0 && amount <= 1e12))
        return 0;
    const struct moon_text *text = moon_text_read(L, 2);
    lua_settop(L, 3);
    struct counters_gate *gate = lua_newuserdata(L, sizeof(*gate));
    *gate = (struct counters_gate){
        .limiter = limiter,
        .kind = text != NULL          ? COUNTERS_BY_TEXT
                : lua_toboolean(L, 2) ? COUNTERS_BY_SUBSCRIPTION
                                      : COUNTERS_BY_ADDRESS,
        .text = text,
        .amount = (int64_t)amount,
    };
    moon_keep_with(L, 2);
    luaL_getmetatable(L, counters_gate_name);
    lua_setmetatable(L, -2);
    return 1;
}

/// What tells the client what is left. Its environment keeps limiter and texts.
struct counters_teller {
    const struct counters_limiter *limiter;
    struct moon_slice policy, limit;
};

static enum moon_act_answer counters_teller_act(struct moon_ctx *x, const void *object)
{
    const struct counters_teller *teller = object;
    return counters_tell(x, teller->limiter, teller->policy, teller->limit) ? MOON_ACT_GO_ON
                                                                            : MOON_ACT_DECLINES;
}

/// limiter:teller(policy, limit) -> act that does what `tell` does
static int limiter_teller(lua_State *L)
{
    const struct counters_limiter *limiter = counters_check_limiter(L);
    struct moon_slice policy = moon_check_slice(L, 2), limit = moon_check_slice(L, 3);
    lua_settop(L, 3);
    struct counters_teller *teller = lua_newuserdata(L, sizeof(*teller));
    *teller = (struct counters_teller){limiter, policy, limit};
    moon_keep_with(L, 3);
    luaL_getmetatable(L, counters_teller_name);
    lua_setmetatable(L, -2);
    return 1;
}

static const luaL_Reg limiter_methods[] = {{"check", limiter_check},   {"charge", limiter_charge},
                                           {"note", limiter_note},     {"admit", limiter_admit},
                                           {"settle", limiter_settle}, {"left", limiter_left},
                                           {"tell", limiter_tell},     {"gate", limiter_gate},
                                           {"teller", limiter_teller}, {NULL, NULL}};

static int counters_open(lua_State *L)
{
    luaL_newmetatable(L, counters_limiter_name);
    lua_newtable(L);
    luaL_register(L, NULL, limiter_methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "limiter");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    moon_act_new_class(L, counters_gate_name, counters_gate_act);
    moon_act_new_class(L, counters_teller_name, counters_teller_act);
    lua_newtable(L);
    luaL_register(L, NULL, counters_functions);
    return 1;
}

void moon_script_open_counters(lua_State *L)
{
    moon_preload(L, "moongate.counters", counters_open);
}
