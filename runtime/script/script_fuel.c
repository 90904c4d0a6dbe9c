/* SPDX-License-Identifier: Apache-2.0 */

/// The CPU and memory budget of policies. lua/moongate/sandbox instruments user code with a counter;
/// when it runs out, the functions here look at the clock. Once spent, the budget stays spent until
/// the request ends, whatever the policy catches.

#include "base/clock.h"
#include "script/internal.h"

#include <stdint.h>

// Ends the section. Leaving the coroutine is at once, however deep the policy has recursed; it is
// never resumed (run.c). Unwinding by an error costs a microsecond a level, and is what is left at
// load time and behind a C function's callback.
static int fuel_raise(lua_State *L, const struct moon_script *script)
{
    bool is_main = lua_pushthread(L) == 1;
    lua_pop(L, 1);
    if (!is_main && script->current != NULL)
        return lua_yield(L, 0);
    lua_pushstring(L, script->is_memory_spent ? "policy memory budget is spent"
                                              : "policy CPU budget is spent");
    return lua_error(L);
}

// A section's budget is of real time, which is had for nothing. Loading has the CPU time as well: it may
// take long where others use the machine.
static bool fuel_is_late(const struct moon_script *script)
{
    return moon_clock_real_us() > script->deadline_us &&
           (script->current != NULL || moon_clock_cpu_us() > script->load_cpu_us);
}

/// refill(): called by instrumented code when the counter is empty.
/// Does not return when the budget is spent.
static int fuel_refill(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    struct moon_ctx *x = script->current;
    if (x == NULL)
        moon_script_pace(script);
    if (x == NULL && script->deadline_us == 0) {
        script->fuel = MOON_FUEL_QUANTUM; // no budget was begun
        return 0;
    }
    if (!script->is_spent)
        script->is_spent = script->is_memory_spent || fuel_is_late(script);
    if (script->is_spent) {
        script->fuel = 0;
        return fuel_raise(L, script);
    }
    script->fuel = MOON_FUEL_QUANTUM;
    return 0;
}

/// take(left) -> left: a chunk's next portion of the quantum. `left`, at most 0, is what it has used
/// on credit. What another chunk still holds of its portion when the budget ends, it may use up.
static int fuel_take(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    lua_Number left = lua_tonumber(L, 1);
    int32_t used = left < 0 && left > -(lua_Number)MOON_FUEL_QUANTUM ? (int32_t)-left
                   : left < 0                                        ? MOON_FUEL_QUANTUM
                                                                     : 0;
    script->fuel -= MOON_FUEL_PORTION + used;
    if (script->fuel < 0) {
        int results = fuel_refill(L);
        if (script->is_spent)
            return results; // of lua_yield
    }
    lua_pushinteger(L, MOON_FUEL_PORTION);
    return 1;
}

/// is_spent() -> boolean
static int fuel_is_spent(lua_State *L)
{
    lua_pushboolean(L, moon_script_of(L)->is_spent);
    return 1;
}

/// begin(budget_s, memory_bytes): a budget outside requests: loading a configuration
static int fuel_begin(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    double seconds = luaL_checknumber(L, 1);
    script->is_spent = script->is_memory_spent = false;
    script->deadline_us = moon_clock_real_us() + (int64_t)(seconds * 1e6);
    script->load_cpu_us = moon_clock_cpu_us() + (int64_t)(seconds * 1e6);
    script->fuel = MOON_FUEL_QUANTUM;
    return 0;
}

/// finish()
static int fuel_finish(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    script->is_spent = script->is_memory_spent = false;
    script->deadline_us = 0;
    script->fuel = MOON_FUEL_QUANTUM;
    return 0;
}

static int fuel_open(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    lua_newtable(L);
    lua_pushlightuserdata(L, &script->fuel);
    lua_setfield(L, -2, "cell");
    lua_pushcfunction(L, fuel_refill);
    lua_setfield(L, -2, "refill");
    lua_pushcfunction(L, fuel_take);
    lua_setfield(L, -2, "take");
    lua_pushcfunction(L, fuel_is_spent);
    lua_setfield(L, -2, "is_spent");
    lua_pushcfunction(L, fuel_begin);
    lua_setfield(L, -2, "begin");
    lua_pushcfunction(L, fuel_finish);
    lua_setfield(L, -2, "finish");
    return 1;
}

void moon_script_open_fuel(lua_State *L)
{
    moon_preload(L, "moongate.fuel.core", fuel_open);
}

int64_t moon_fuel_begin(struct moon_script *script, struct moon_ctx *x)
{
    script->current = x;
    if (x->runner != NULL)
        moon_ctx_show(script, x->runner);
    script->is_spent = x->is_budget_spent;
    script->is_memory_spent = false;
    script->fuel = script->is_spent ? 0 : MOON_FUEL_QUANTUM;
    int64_t now = moon_clock_real_us();
    script->deadline_us = now + x->cpu_left_us;
    return now;
}

int moon_fuel_resume(struct moon_script *script, lua_State *co, int args)
{
    bool was_limited = script->is_limited;
    script->is_limited = true;
    int status = lua_resume(co, args);
    script->is_limited = was_limited;
    return status;
}

void moon_fuel_end(struct moon_script *script, struct moon_ctx *x)
{
    int64_t now_us = moon_clock_real_us();
    int64_t left = script->deadline_us - now_us;
    x->ran_until_us = moon_clock_us_at(now_us);
    x->lua_us += x->cpu_left_us - left;
    x->cpu_left_us = left > 0 ? left : 0;
    if (script->is_spent)
        x->is_budget_spent = true;
    if (script->is_memory_spent)
        lua_gc(script->L, LUA_GCCOLLECT, 0);
    script->is_spent = script->is_memory_spent = false;
    script->fuel = MOON_FUEL_QUANTUM;
    script->current = NULL;
}
