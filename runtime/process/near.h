/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Near misses: what the writer of an unknown name most likely meant.
///
/// Process: any.

#include <stddef.h>

/// @return one of `names`, or NULL when none is near enough to be worth saying
const char *moon_near_find(const char *name, const char *const names[], size_t count);
