/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "script/internal.h"

enum { RUN_IDLE_RUNNERS = 256 };

const char *moon_section_name(enum moon_section section)
{
    static const char *const names[MOON_SECTION_COUNT] = {"inbound",  "backend", "outbound",
                                                          "on_error", "log",     "malformed"};
    return names[section];
}

static struct moon_runner *runner_new(struct moon_script *script)
{
    lua_State *L = script->L;
    struct moon_runner *runner = calloc(1, sizeof(*runner));
    if (runner == NULL)
        return NULL;
    runner->co = lua_newthread(L);
    runner->co_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    moon_ctx_push_new(L, script, runner);
    runner->ctx_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return runner;
}

// A policy may have kept its ctx, or a part of it, for longer than the request: it finds nobody there.
static void runner_leave_handles(lua_State *L, const struct moon_runner *runner)
{
    for (int kind = 0; kind < MOON_HANDLE_COUNT; kind++) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, runner->part_refs[kind]);
        ((struct moon_handle *)lua_touserdata(L, -1))->runner = NULL;
        lua_pop(L, 1);
    }
}

static void runner_free(struct moon_script *script, struct moon_runner *runner)
{
    runner_leave_handles(script->L, runner);
    luaL_unref(script->L, LUA_REGISTRYINDEX, runner->co_ref);
    luaL_unref(script->L, LUA_REGISTRYINDEX, runner->ctx_ref);
    luaL_unref(script->L, LUA_REGISTRYINDEX, runner->slots_ref);
    luaL_unref(script->L, LUA_REGISTRYINDEX, runner->shown_ref);
    luaL_unref(script->L, LUA_REGISTRYINDEX, runner->hidden_ref);
    if (script->shown == runner)
        script->shown = NULL;
    for (int kind = 0; kind < MOON_HANDLE_COUNT; kind++) {
        luaL_unref(script->L, LUA_REGISTRYINDEX, runner->part_refs[kind]);
    }
    free(runner);
}

static struct moon_runner *runner_take(struct moon_script *script, struct moon_ctx *x)
{
    struct moon_runner *runner = script->idle_runners;
    if (runner != NULL) {
        script->idle_runners = runner->next;
        script->idle_runner_count--;
    } else {
        runner = runner_new(script);
    }
    if (runner != NULL)
        runner->x = x;
    return runner;
}

// A coroutine that raised or was left waiting is replaced; the ctx objects stay.
static void runner_renew(struct moon_script *script, struct moon_runner *runner)
{
    lua_State *L = script->L;
    luaL_unref(L, LUA_REGISTRYINDEX, runner->co_ref);
    runner->co = lua_newthread(L);
    runner->co_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    runner->is_dead = false;
}

static void runner_give(struct moon_script *script, struct moon_runner *runner)
{
    runner->x = NULL;
    bool is_waiting = lua_status(runner->co) == LUA_YIELD;
    if (script->idle_runner_count >= RUN_IDLE_RUNNERS) {
        runner_free(script, runner);
        return;
    }
    if (runner->is_dead || is_waiting)
        runner_renew(script, runner);
    moon_ctx_forget(script->L, script, runner);
    runner->next = script->idle_runners;
    script->idle_runners = runner;
    script->idle_runner_count++;
}

void moon_ctx_fini(struct moon_ctx *x)
{
    if (x->cancel != NULL) {
        x->cancel(x->op);
        x->cancel = NULL;
    }
    if (x->runner != NULL)
        runner_give(x->script, x->runner);
    x->runner = NULL;
    if (x->claims != NULL)
        moon_claims_release(x->script->L, x->claims);
    x->claims = NULL;
    while (x->attachments != NULL) {
        struct moon_attachment *attachment = x->attachments;
        x->attachments = attachment->next;
        attachment->free_object(attachment->object);
    }
}

static struct moon_slice run_field(lua_State *L, struct moon_ctx *x, const char *name)
{
    struct moon_slice text = {NULL, 0};
    lua_pushstring(L, name);
    lua_rawget(L, -2); // the table may be a policy's reply, and nothing catches what it raises
    if (lua_isstring(L, -1) && !moon_arena_copy(x->arena, moon_check_slice(L, -1), &text))
        text = moon_slice(NULL, 0);
    lua_pop(L, 1);
    return text;
}

// Where refusals come from, told once: a policy that refuses, refuses many.
struct moon_place_memo {
    struct moon_place_memo *next;
    int line;
    struct moon_slice source, scope, policy, path, where; // of `bytes`
    char *chunk;                                          // the same
    char bytes[];
};

enum { RUN_PLACE_MEMOS = 256 };

void moon_script_forget_places(struct moon_script *script)
{
    while (script->place_memos != NULL) {
        struct moon_place_memo *memo = script->place_memos;
        script->place_memos = memo->next;
        free(memo);
    }
}

static struct moon_slice run_keep(char **at, struct moon_slice s)
{
    struct moon_slice kept = {*at, s.len};
    if (s.len > 0)
        memcpy(*at, s.data, s.len);
    *at += s.len;
    return s.data == NULL ? s : kept;
}

// Without room for it, the place is asked for again.
static void run_remember_place(struct moon_script *script, const struct moon_ctx_error *error,
                               const char *chunk, int line)
{
    size_t chunk_bytes = strlen(chunk) + 1;
    size_t bytes = chunk_bytes + error->source.len + error->scope.len + error->policy.len +
                   error->path.len + error->where.len;
    if (script->place_memo_count >= RUN_PLACE_MEMOS)
        return;
    struct moon_place_memo *memo = malloc(sizeof(*memo) + bytes);
    if (memo == NULL)
        return;
    char *at = memo->bytes + chunk_bytes;
    memo->chunk = memcpy(memo->bytes, chunk, chunk_bytes);
    memo->line = line;
    memo->source = run_keep(&at, error->source);
    memo->scope = run_keep(&at, error->scope);
    memo->policy = run_keep(&at, error->policy);
    memo->path = run_keep(&at, error->path);
    memo->where = run_keep(&at, error->where);
    memo->next = script->place_memos;
    script->place_memos = memo;
    script->place_memo_count++;
}

static bool run_recall_place(struct moon_ctx *x, const char *chunk, int line)
{
    const struct moon_place_memo *memo = x->script->place_memos;
    while (memo != NULL && (memo->line != line || strcmp(memo->chunk, chunk) != 0))
        memo = memo->next;
    if (memo == NULL)
        return false;
    x->error.source = memo->source;
    x->error.scope = memo->scope;
    x->error.policy = memo->policy;
    x->error.path = memo->path;
    x->error.where = memo->where;
    return true;
}

// Fills x->error's place fields from a chain's source and line.
static void run_describe(struct moon_ctx *x, const char *chunk, int line)
{
    struct moon_script *script = x->script;
    lua_State *L = script->L;
    if (script->describe_ref == LUA_NOREF || run_recall_place(x, chunk, line))
        return;
    int top = lua_gettop(L);
    // Our own look-up is not on the policy's budget, which may be spent.
    bool was_spent = script->is_spent;
    int64_t deadline_us = script->deadline_us;
    script->is_spent = false;
    script->deadline_us = INT64_MAX;
    script->fuel = MOON_FUEL_QUANTUM;
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->describe_ref);
    lua_pushstring(L, chunk);
    lua_pushinteger(L, line);
    if (lua_pcall(L, 2, 1, 0) == 0 && lua_istable(L, -1)) {
        x->error.source = run_field(L, x, "policy");
        x->error.scope = run_field(L, x, "scope");
        x->error.policy = run_field(L, x, "id");
        x->error.path = run_field(L, x, "path");
        struct moon_slice file = run_field(L, x, "file");
        struct moon_slice at = run_field(L, x, "line");
        struct moon_slice parts[3] = {file, MOON_S(":"), at};
        if (!moon_arena_join(x->arena, parts, 3, &x->error.where))
            x->error.where = moon_slice(NULL, 0);
        else
            run_remember_place(script, &x->error, chunk, line);
    }
    lua_settop(L, top);
    script->is_spent = was_spent;
    script->deadline_us = deadline_us;
}

// How deep the stack is. A policy may have recursed tens of thousands of levels, and each look walks
// there from the top, so the end is found by halving.
static int run_stack_depth(lua_State *co)
{
    lua_Debug at;
    int high = 1;
    while (lua_getstack(co, high, &at) == 1)
        high *= 2;
    int low = 0;
    while (low < high) {
        int mid = low + (high - low) / 2;
        if (lua_getstack(co, mid, &at) == 1)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// The chain function's frame: its source and the line of the policy that is being called. Chains are
// the outermost functions, children's chains (`when`, `retry`) inside them: the innermost counts.
static bool run_find_chain(lua_State *co, lua_Debug *at)
{
    int depth = run_stack_depth(co);
    bool is_found = false;
    for (int level = depth - 1; level >= 0 && level >= depth - 64; level--) {
        lua_Debug frame;
        if (lua_getstack(co, level, &frame) == 1 && lua_getinfo(co, "Sl", &frame) != 0 &&
            strncmp(frame.source, "=chain:", 7) == 0) {
            *at = frame;
            is_found = true;
        }
    }
    return is_found;
}

// What was raised by a call that took the policy's place on the stack (`return reply.text(…)`) names a
// line of the chain, which means nothing to people.
static struct moon_slice run_own_text(struct moon_slice message)
{
    if (!moon_slice_starts(message, MOON_S("chain:")))
        return message;
    for (size_t at = 0; at + 1 < message.len; at++) {
        if (message.data[at] == ':' && message.data[at + 1] == ' ')
            return moon_slice_from(message, at + 2);
    }
    return message;
}

static void run_set_error(struct moon_ctx *x, lua_State *co)
{
    lua_Debug at;
    struct moon_slice message = MOON_S("error object is not a string");
    if (lua_isstring(co, -1) && !moon_arena_copy(x->arena, moon_check_slice(co, -1), &message))
        message = MOON_S("error message is too long");
    message = run_own_text(message);
    bool is_spent = x->script->is_spent || x->is_budget_spent || x->script->is_memory_spent;
    x->error = (struct moon_ctx_error){
        .is_set = true,
        .status = is_spent ? 503 : 500,
        .source = MOON_S("policy"),
        .reason =
            is_spent ? MOON_S("PolicyBudgetExceeded") : MOON_S("ExpressionValueEvaluationFailure"),
        .message = message,
        .section = moon_slice_text(moon_section_name(x->section)),
    };
    if (run_find_chain(co, &at))
        run_describe(x, at.source, at.currentline);
}

// Tells the supervisor what runs since when; 0: nothing does.
static void run_publish(struct moon_ctx *x, int64_t since_us)
{
    struct moon_board_slot *slot = x->script->env.slot;
    if (slot == NULL)
        return;
    if (since_us != 0) {
        const struct moon_leaf *leaf = x->leaf;
        struct moon_slice place = leaf->api.len > 0 ? leaf->api : leaf->route;
        size_t n = moon_min_size(place.len, 48);
        memcpy(slot->section, place.data == NULL ? "" : place.data, n);
        if (leaf->operation.len > 0 && leaf->operation.len < 48) {
            slot->section[n++] = '.';
            memcpy(slot->section + n, leaf->operation.data, leaf->operation.len);
            n += leaf->operation.len;
        }
        slot->section[n++] = ' ';
        const char *name = moon_section_name(x->section);
        size_t m = strlen(name) + 1;
        memcpy(slot->section + n, name, m);
        slot->policy[0] = '\0';
        atomic_store_explicit(&slot->section_started_us, since_us, memory_order_release);
    } else {
        atomic_store_explicit(&slot->section_started_us, 0, memory_order_release);
    }
}

// The chain inside a policy that a refusal comes from, as it says itself.
static struct moon_slice run_place(lua_State *co, struct moon_ctx *x, int *line)
{
    lua_settop(co, 1);
    struct moon_slice chain = run_field(co, x, "chain");
    if (chain.len == 0)
        return chain;
    lua_pushliteral(co, "line");
    lua_rawget(co, 1);
    *line = (int)lua_tointeger(co, -1);
    return moon_arena_printf(x->arena, "%.*s", MOON_SLICE_ARG(chain)); // ends with a NUL
}

// Where what a chain returned came from: the place that a reply carries, else the line that the chain
// returned with it. Empties the stack.
static void run_describe_returned(struct moon_ctx *x, lua_State *co)
{
    int line = lua_gettop(co) >= 2 ? (int)lua_tointeger(co, 2) : 0;
    struct moon_slice place = {NULL, 0};
    if (lua_istable(co, 1))
        place = run_place(co, x, &line);
    lua_settop(co, 0);
    if (place.len > 0) {
        run_describe(x, place.data, line);
        return;
    }
    lua_Debug chain;
    lua_rawgeti(co, LUA_REGISTRYINDEX, x->leaf->chains[x->section]);
    if (line > 0 && lua_getinfo(co, ">S", &chain) != 0)
        run_describe(x, chain.source, line);
    lua_settop(co, 0);
}

static enum moon_run run_result(struct moon_ctx *x, lua_State *co)
{
    int n = lua_gettop(co);
    if (n == 0 || lua_isnil(co, 1)) {
        lua_settop(co, 0);
        if (MOON_UNLIKELY(x->reply_line != 0))
            moon_reply_warn_lost(x);
        return MOON_RUN_DONE;
    }
    x->reply_line = 0;
    if (x->is_cached && x->section == MOON_SECTION_INBOUND && lua_isboolean(co, 1)) {
        lua_settop(co, 0);
        return MOON_RUN_CACHED;
    }
    if (!moon_reply_read(co, 1, x)) {
        run_set_error(x, co);
        run_describe_returned(x, co);
        return MOON_RUN_ERROR;
    }
    if (x->reply.is_refusal) {
        x->error = (struct moon_ctx_error){
            .is_set = true,
            .status = x->reply.status,
            .source = MOON_S("policy"),
            .reason = x->reply.reason,
            .message = x->reply.message,
            .section = moon_slice_text(moon_section_name(x->section)),
        };
        run_describe_returned(x, co);
        return MOON_RUN_REPLY;
    }
    lua_settop(co, 0);
    return MOON_RUN_REPLY;
}

struct moon_script *moon_section_enter(struct moon_ctx *x)
{
    run_publish(x, moon_fuel_begin(x->script, x));
    return moon_place_begin(x->script, x);
}

void moon_section_leave(struct moon_ctx *x, struct moon_script *outer, bool is_waiting)
{
    moon_place_end(x->script, x, outer, is_waiting);
    moon_fuel_end(x->script, x);
    run_publish(x, 0);
}

static enum moon_run run_go_on(struct moon_ctx *x, int args)
{
    struct moon_script *script = x->script;
    struct moon_runner *runner = x->runner;
    struct moon_ctx *outer = script->current; // sections do not nest, but a spec's may
    struct moon_script *outer_script = moon_section_enter(x);
    int status = moon_fuel_resume(script, runner->co, args);
    enum moon_run result;
    if (status == LUA_YIELD && script->is_spent) {
        lua_pushstring(runner->co, script->is_memory_spent ? "policy memory budget is spent"
                                                           : "policy CPU budget is spent");
        run_set_error(x, runner->co);
        runner->is_dead = true;
        result = MOON_RUN_ERROR;
    } else if (status == LUA_YIELD) {
        result = MOON_RUN_WAIT;
    } else if (status == 0) {
        result = run_result(x, runner->co);
    } else {
        run_set_error(x, runner->co);
        runner->is_dead = true;
        result = MOON_RUN_ERROR;
    }
    if (runner->is_dead) // before memory is collected: what its stack held goes, too
        runner_renew(script, runner);
    if (result != MOON_RUN_WAIT && x->branches != NULL) // ctx:parallel raised when some had begun
        moon_parallel_abandon(x);
    moon_section_leave(x, outer_script, result == MOON_RUN_WAIT);
    script->current = outer;
    return result;
}

// ---- acts --------------------------------------------------------------------------------------

enum moon_act_answer moon_act_wait(struct moon_ctx *x, void (*cancel)(void *op), void *op)
{
    x->cancel = cancel;
    x->op = op;
    x->is_act_waiting = true;
    return MOON_ACT_WAITS;
}

static enum moon_run run_chain(struct moon_ctx *x, int chain);

// The section's acts that have not been begun, and what follows them.
static enum moon_run run_acts(struct moon_ctx *x)
{
    const struct moon_acts *acts = &x->leaf->acts[x->section];
    x->script->acting = NULL; // an act of a chain may have raised
    while (x->acts_begun < acts->count) {
        const struct moon_act *act = &acts->list[x->acts_begun++];
        if (!moon_act_is_meant(act, x))
            continue;
        switch (act->run(x, act->object)) {
        case MOON_ACT_GO_ON:
            break;
        case MOON_ACT_DECLINES:
            return run_chain(x, act->instead);
        case MOON_ACT_ENDS:
            return MOON_RUN_CACHED;
        case MOON_ACT_WAITS:
            return MOON_RUN_WAIT;
        }
    }
    int chain = x->leaf->chains[x->section];
    return chain == 0 ? MOON_RUN_DONE : run_chain(x, chain);
}

static enum moon_run run_act_ended(struct moon_ctx *x)
{
    x->is_act_waiting = false;
    x->push_results = NULL;
    x->op = NULL;
    x->ran_until_us = moon_clock_us();
    return x->is_cached ? MOON_RUN_CACHED : run_acts(x);
}

// ---- sections ----------------------------------------------------------------------------------

enum moon_run moon_script_run(struct moon_ctx *x, enum moon_section section)
{
    if (x->leaf == NULL)
        return MOON_RUN_DONE;
    x->section = section;
    x->acts_begun = 0;
    x->is_act_waiting = false;
    return run_acts(x);
}

static enum moon_run run_chain(struct moon_ctx *x, int chain)
{
    if (x->runner == NULL)
        x->runner = runner_take(x->script, x);
    if (x->runner == NULL) {
        x->error = (struct moon_ctx_error){.is_set = true,
                                           .status = 503,
                                           .source = MOON_S("gateway"),
                                           .reason = MOON_S("OutOfMemory")};
        return MOON_RUN_ERROR;
    }
    if (x->runner->is_dead || lua_status(x->runner->co) == LUA_YIELD)
        runner_renew(x->script, x->runner);
    lua_State *co = x->runner->co;
    lua_rawgeti(co, LUA_REGISTRYINDEX, chain);
    lua_rawgeti(co, LUA_REGISTRYINDEX, x->runner->ctx_ref);
    return run_go_on(x, 1);
}

enum moon_run moon_script_resume(struct moon_ctx *x)
{
    if (x->is_act_waiting)
        return run_act_ended(x);
    MOON_ASSERT(x->runner != NULL && x->push_results != NULL);
    moon_async_push_fn *push = x->push_results;
    void *op = x->op;
    x->push_results = NULL;
    x->op = NULL;
    return run_go_on(x, push(x, x->runner->co, op));
}

// The function of ctx:parallel that runs in this coroutine.
static struct moon_branch *run_branch_of(struct moon_ctx *x, const lua_State *L)
{
    for (size_t i = 0; i < x->branch_count; i++) {
        if (x->branches[i].co == L)
            return &x->branches[i];
    }
    return NULL;
}

struct moon_ctx *moon_async_ctx(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    struct moon_ctx *x = script->current;
    if (x == NULL) {
        luaL_error(L, "this waits, and can be used only while a request is handled");
        return NULL; // not reached
    }
    if (x->runner->co != L && run_branch_of(x, L) == NULL)
        luaL_error(L, "this waits, and cannot be used inside a coroutine of the policy");
    return x;
}

int moon_async_wait(lua_State *L, struct moon_ctx *x, void (*cancel)(void *op), void *op)
{
    struct moon_branch *branch = run_branch_of(x, L);
    if (branch != NULL) {
        branch->cancel = cancel;
        branch->op = op;
    } else {
        x->cancel = cancel;
        x->op = op;
    }
    return lua_yield(L, 0);
}

void moon_async_done(struct moon_ctx *x, moon_async_push_fn *push, void *op)
{
    if (moon_parallel_resume(x, push, op))
        return;
    MOON_ASSERT(x->cancel != NULL);
    x->cancel = NULL;
    x->op = op;
    x->push_results = push;
    x->ops->resume(x);
}

void moon_ctx_give_back(struct moon_ctx *x)
{
    x->is_refused_by_limit = true;
    for (struct moon_taken *taken = x->taken; taken != NULL; taken = taken->next) {
        if (!taken->is_given_back)
            taken->give_back(taken, x);
        taken->is_given_back = true;
    }
}

void moon_ctx_init(struct moon_ctx *x, struct moon_script *script, const struct moon_ctx_ops *ops,
                   struct moon_arena *arena)
{
    memset(x, 0, sizeof(*x));
    x->script = script;
    x->ops = ops;
    x->arena = arena;
    x->backend = -1;
}
