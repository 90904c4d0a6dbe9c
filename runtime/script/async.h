/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Waiting inside a policy: a C function starts an operation, says so, and yields; when the
/// operation ends, its results become the function's return values.
///
///     static int sleep_wait(lua_State *L)          // ctx:sleep(s)
///     {
///         struct sleep_op *op = ...;               // from x->arena
///         return moon_async_wait(L, x, sleep_cancel, op);
///     }
///     static void sleep_fired(struct moon_timer *t)
///     {
///         moon_async_done(op->x, sleep_push, op);  // the section goes on
///     }

#include "script/ctx.h"

#include <lua.h>

/// Pushes the results of an operation. @return how many
typedef int moon_async_push_fn(struct moon_ctx *x, lua_State *co, void *op);

/// The ctx whose section runs on this state; raises a Lua error when there is none (load time), or
/// when called inside a coroutine of the policy's own.
struct moon_ctx *moon_async_ctx(lua_State *L);

/// @param cancel  ends the operation without results when the exchange ends before it
/// @return what the C function returns
int moon_async_wait(lua_State *L, struct moon_ctx *x, void (*cancel)(void *op), void *op);

/// An act (script/plan.h) waits. moon_async_done ends that too, without pushing anything: x->is_cached
/// says whether the section is over. @param cancel  as above
enum moon_act_answer moon_act_wait(struct moon_ctx *x, void (*cancel)(void *op), void *op);

/// The operation has ended. May run the policy, and end the exchange, before it returns.
void moon_async_done(struct moon_ctx *x, moon_async_push_fn *push, void *op);
