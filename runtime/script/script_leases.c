/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.leases: so many at once. What a request holds is given back when it ends at the latest.

#include "script/internal.h"
#include "shared/leases.h"

enum { LEASES_POLL_MS = 10 }; // how soon a slot that another worker gave back is noticed

static const char leases_owner[] = "leases";

struct lease {
    struct moon_ctx *x;
    struct moon_script *script;
    struct moon_lease_cell *cell;
    struct moon_slice key;
    int max, id;
    bool is_held, is_queued;
    struct moon_timer poll;
    int64_t waited_ms, timeout_ms;
};

static void lease_free(void *object)
{
    struct lease *lease = object;
    moon_timer_stop(&lease->poll);
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
    lua_pushstring(L, lease->waited_ms > 0 ? "timeout" : "full");
    return 2;
}

static void lease_try(struct lease *lease, int queue)
{
    const struct moon_script_env *env = &lease->script->env;
    enum moon_lease_answer answer = moon_lease_take(
        env->leases, env->worker, lease->key, lease->max, queue, lease->is_queued, &lease->cell);
    lease->is_held = answer == MOON_LEASE_HELD;
    lease->is_queued = answer == MOON_LEASE_QUEUED;
}

static void lease_poll(struct moon_timer *timer)
{
    struct lease *lease = timer->owner;
    lease->waited_ms += LEASES_POLL_MS;
    lease_try(lease, 0);
    if (!lease->is_held && lease->waited_ms < lease->timeout_ms) {
        moon_timer_set(&lease->poll, LEASES_POLL_MS);
        return;
    }
    if (lease->is_queued)
        moon_lease_leave(lease->cell, lease->script->env.worker);
    lease->is_queued = false;
    moon_async_done(lease->x, lease_push, lease);
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

/// leases.acquire(key, max, queue = 0, timeout_s = 0) -> id | nil, "full" or "timeout"
static int leases_acquire(lua_State *L)
{
    struct moon_ctx *x = moon_async_ctx(L);
    lua_Integer max = luaL_checkinteger(L, 2), queue = luaL_optinteger(L, 3, 0);
    double timeout = luaL_optnumber(L, 4, 0);
    luaL_argcheck(L, max >= 1 && max <= 1000000, 2, "must be 1 to 1000000");
    luaL_argcheck(L, queue >= 0 && queue <= 1000000, 3, "must be 0 to 1000000");
    luaL_argcheck(L, timeout >= 0 && timeout <= 3600, 4, "must be 0 to 3600");
    struct lease *lease = lease_new(L, x);
    if (x->script->env.leases == NULL)
        return luaL_error(L, "leases: there are none while a configuration is checked");
    lease->max = (int)max;
    lease->timeout_ms = (int64_t)(timeout * 1000);
    lease_try(lease, timeout > 0 ? (int)queue : 0);
    if (!lease->is_queued)
        return lease_push(x, L, lease);
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
