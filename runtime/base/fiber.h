/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A function on a stack of its own, which can be left in the middle and gone on with later. It runs
/// in its caller's thread, only while moon_fiber_resume has not returned: nothing is concurrent.
///
/// Thread: the one that made it.

#include "base/result.h"

typedef void moon_fiber_fn(void *arg);

struct moon_fiber;

/// @param stack_bytes  address space; memory is taken for what is touched. Ends at a guard page
/// @return NULL without memory
struct moon_fiber *moon_fiber_new(size_t stack_bytes, moon_fiber_fn *run, void *arg);

/// Runs it until it suspends itself or its function returns.
/// @return false when it has returned: it can only be freed
bool moon_fiber_resume(struct moon_fiber *fiber);

/// Called inside of it: goes back to who resumed it.
void moon_fiber_suspend(struct moon_fiber *fiber);

/// Frees one that has returned, or was never resumed. Accepts NULL.
void moon_fiber_free(struct moon_fiber *fiber);
