/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.leases: so many at once. What a request holds is given back when it ends at the latest.

#include "script/internal.h"
#include "shared/leases.h"
#include "upstream/places.h"

enum {
    LEASES_POLL_MS = 10,   // how soon a slot that another worker gave back is noticed
    LEASES_REMOTE_MS = 50, // and a place that another node gave back
};

static const char leases_owner[] = "leases";

/// A slot of this node (shared/leases.h) and, where nodes share, a place behind it (upstream/places.h).
/// The slot comes first: a node that has them all taken need not ask the store.
struct lease {
    struct moon_ctx *x;
    struct moon_script *script;
    struct moon_lease_cell *cell;
    struct moon_slice key, name;
    int max, queue, id;
    bool is_held, is_queued, is_shared;
    bool is_waiting; // the policy waits for the outcome
    struct moon_place place;
    struct moon_timer poll;
    int64_t ends_at_ms;
    bool is_late;
};

static void lease_free(void *object)
{
    struct lease *lease = object;
    moon_timer_stop(&lease->poll);
    moon_place_give(&lease->place);
    if (lease->is_held)
        moon_lease_release(lease->cell, lease->script->env.worker);
    if (lease->is_queued)
        moon_lease_leave(lease->cell, lease->script->env.worker);
    lease->is_held = lease->is_queued = false;
}

static int lease_push(struct moon_ctx *x, lua_State *L, void *op)
{
    struct lease *lease = op;
    (void)x;
    if (lease->is_held) {
        lua_pushinteger(L, lease->id);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, lease->is_late ? "timeout" : "full");
    return 2;
}

static void lease_take(struct lease *lease, int queue)
{
    const struct moon_script_env *env = &lease->script->env;
    enum moon_lease_answer answer = moon_lease_take(
        env->leases, env->worker, lease->key, lease->max, queue, lease->is_queued, &lease->cell);
    lease->is_held = answer == MOON_LEASE_HELD;
    lease->is_queued = answer == MOON_LEASE_QUEUED;
}

static void lease_decided(struct lease *lease)
{
    if (lease->is_queued)
        moon_lease_leave(lease->cell, lease->script->env.worker);
    lease->is_queued = false;
    if (lease->is_waiting)
        moon_async_done(lease->x, lease_push, lease);
}

// All places of the nodes are taken: the slot makes room for whoever is next here.
static void lease_is_full_elsewhere(struct lease *lease)
{
    const struct moon_script_env *env = &lease->script->env;
    lease->is_held = false;
    lease->is_late = lease->ends_at_ms <= moon_loop_now_ms(env->loop);
    lease->is_queued = moon_lease_step_back(env->leases, lease->cell, env->worker,
                                            lease->is_late ? 0 : lease->queue);
    if (lease->is_queued)
        moon_timer_set(&lease->poll, LEASES_REMOTE_MS);
    else
        lease_decided(lease);
}

static void lease_place_answered(void *owner, enum moon_place_answer answer)
{
    struct lease *lease = owner;
    if (answer == MOON_PLACE_FULL)
        lease_is_full_elsewhere(lease);
    else
        lease_decided(lease); // where the store does not answer each node counts for itself
}

// @return false: the outcome is there
static bool lease_ask_store(struct lease *lease)
{
    const struct moon_script_env *env = &lease->script->env;
    return lease->is_shared &&
           moon_place_take(&lease->place, env->limits, env->loop, lease->key, lease->name,
                           lease->max, lease_place_answered, lease) == MOON_AGAIN;
}

static void lease_poll(struct moon_timer *timer)
{
    struct lease *lease = timer->owner;
    lease_take(lease, 0);
    if (lease->is_held) {
        if (!lease_ask_store(lease))
            lease_decided(lease);
        return;
    }
    lease->is_late = lease->ends_at_ms <= moon_loop_now_ms(lease->script->env.loop);
    if (lease->is_late)
        lease_decided(lease);
    else
        moon_timer_set(&lease->poll, LEASES_POLL_MS);
}

static void lease_cancel(void *op)
{
    lease_free(op);
}

static struct lease *lease_new(lua_State *L, struct moon_ctx *x)
{
    struct lease *lease = moon_arena_zalloc(x->arena, sizeof(*lease));
    struct moon_attachment *attachment = moon_arena_zalloc(x->arena, sizeof(*attachment));
    if (lease == NULL || attachment == NULL) {
        moon_raise_full(L);
        return NULL;
    }
    *lease = (struct lease){.x = x, .script = x->script, .key = moon_check_copy(L, 1, x)};
    for (struct moon_attachment *a = x->attachments; a != NULL; a = a->next)
        lease->id += a->plugin == leases_owner;
    moon_timer_init(&lease->poll, x->script->env.loop, lease_poll, lease);
    *attachment = (struct moon_attachment){x->attachments, leases_owner, lease, lease_free};
    x->attachments = attachment;
    return lease;
}

/// leases.acquire(key, max, queue = 0, timeout_s = 0, is_shared = false)
///   -> id | nil, "full" or "timeout"
static int leases_acquire(lua_State *L)
{
    struct moon_ctx *x = moon_async_ctx(L);
    lua_Integer max = luaL_checkinteger(L, 2), queue = luaL_optinteger(L, 3, 0);
    double timeout = luaL_optnumber(L, 4, 0);
    bool is_shared = lua_toboolean(L, 5) != 0;
    luaL_argcheck(L, max >= 1 && max <= 1000000, 2, "must be 1 to 1000000");
    luaL_argcheck(L, queue >= 0 && queue <= 1000000, 3, "must be 0 to 1000000");
    luaL_argcheck(L, timeout >= 0 && timeout <= 3600, 4, "must be 0 to 3600");
    const struct moon_script_env *env = &x->script->env;
    struct lease *lease = lease_new(L, x);
    if (env->leases == NULL)
        return luaL_error(L, "leases: there are none while a configuration is checked");
    lease->max = (int)max;
    lease->queue = timeout > 0 ? (int)queue : 0;
    lease->ends_at_ms = moon_loop_now_ms(env->loop) + (int64_t)(timeout * 1000);
    lease->is_shared = is_shared && env->limits != NULL && moon_limits_redis(env->limits) != NULL;
    lease->name =
        moon_arena_printf(x->arena, MOON_SLICE_FMT ".%d", MOON_SLICE_ARG(x->id), lease->id);
    lease_take(lease, lease->queue);
    if (lease->is_held && !lease_ask_store(lease))
        return lease_push(x, L, lease);
    if (!lease->is_held && !lease->is_queued)
        return lease_push(x, L, lease);
    lease->is_waiting = true;
    if (lease->is_queued)
        moon_timer_set(&lease->poll, LEASES_POLL_MS);
    return moon_async_wait(L, x, lease_cancel, lease);
}

/// leases.release(id)
static int leases_release(lua_State *L)
{
    const struct moon_ctx *x = moon_async_ctx(L);
    lua_Integer id = luaL_checkinteger(L, 1);
    for (struct moon_attachment *a = x->attachments; a != NULL; a = a->next) {
        if (a->plugin == leases_owner && ((struct lease *)a->object)->id == id)
            lease_free(a->object);
    }
    return 0;
}

static const luaL_Reg leases_functions[] = {
    {"acquire", leases_acquire}, {"release", leases_release}, {NULL, NULL}};

static int leases_open(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, leases_functions);
    return 1;
}

void moon_script_open_leases(lua_State *L)
{
    moon_preload(L, "moongate.leases", leases_open);
}
