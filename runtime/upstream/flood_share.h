/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Tells other nodes whom this one has put into a site's penalty box, and hears it from them: a stream
/// in the store, to which each adds, and which one worker of a node reads twice a second.
///
/// What is usual, and how much of it is a flood, each node learns of its own share of the traffic.
///
/// Thread: the worker that owns the loop.

#include "net/loop.h"
#include "shared/flood.h"
#include "upstream/redis.h"

struct moon_flood_share;

/// @param asker   what tells the workers of the node apart
/// @param prefix  of every key in the store; copied
/// @param redis, flood  borrowed as long as it lives
/// @return NULL when out of memory
struct moon_flood_share *moon_flood_share_new(struct moon_loop *loop, struct moon_redis *redis,
                                              struct moon_flood *flood, const void *asker,
                                              struct moon_slice prefix);
void moon_flood_share_free(struct moon_flood_share *share); // accepts NULL

/// Nobody waits for it: what the store does not take, other nodes find out by themselves.
/// @param site  as given to moon_flood_site; the same on every node
void moon_flood_share_tell(struct moon_flood_share *share, struct moon_slice site,
                           const struct moon_ip *ip, int64_t penalty_ms);
