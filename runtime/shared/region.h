/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The one mapping that all workers see, made by the supervisor before the fork (same address in
/// every process, so pointers into it are good everywhere). Parts are carved out of it at start, by
/// name and size; nothing is allocated from it later. A worker killed at any instruction leaves the
/// others serving: counters are atomic, and locks are robust (shared/lock.h).
///
/// Pages are touched only when used, so a generous size costs address space, not memory.

#include "base/result.h"

struct moon_region;

/// @param bytes  rounded up to pages. @return NULL when it cannot be mapped (is logged)
struct moon_region *moon_region_new(size_t bytes);
void moon_region_free(struct moon_region *region); // accepts NULL

/// Carves out a part, cleared, aligned to a cache line. `name` is for the log.
/// @return NULL when there is no room left (is logged)
void *moon_region_carve(struct moon_region *region, const char *name, size_t bytes);
size_t moon_region_left(const struct moon_region *region);
