/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What a configuration counts by and shares with other nodes: a Redis, the limits over it, the
/// cache's second tier and who floods. Found by all that the configuration says of it (address, who we are there,
/// TLS and its files, deadlines, prefix), so that a reload takes over what has changed and keeps
/// what has not; without a Redis it is limits of this node alone.
///
/// Process: worker.

#include "process/worker.h"

struct moon_sharing;

/// Finds or makes the one that a plan asks for. It is freed some time after its last user is gone.
/// @param error  what is wrong with the URL or its TLS
MUST_CHECK enum moon_rc moon_sharing_acquire(struct moon_worker *worker,
                                             const struct moon_plan *plan, char *error,
                                             size_t error_cap, struct moon_sharing **out);
void moon_sharing_release(struct moon_sharing *sharing);

struct moon_limits *moon_sharing_limits(const struct moon_sharing *sharing);
struct moon_cache_tier *moon_sharing_tier(const struct moon_sharing *sharing);   // NULL: none
struct moon_flood_share *moon_sharing_flood(const struct moon_sharing *sharing); // NULL: none

/// The present configuration's: it alone tells the store what this node has counted.
void moon_sharing_lead(struct moon_worker *worker, struct moon_sharing *sharing);

/// Frees those that nobody uses any more. Not from a callback of theirs.
void moon_sharing_trim(struct moon_worker *worker);
