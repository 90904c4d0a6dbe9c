/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// How many connections each client address has open on this worker, for the limit
/// `connections_per_address`. Exact; memory is held only for addresses that are connected.
///
/// Thread: one worker.

#include "base/ip.h"

struct moon_addresses;

/// @return NULL when out of memory
struct moon_addresses *moon_addresses_new(void);
void moon_addresses_free(struct moon_addresses *addresses); // accepts NULL

/// Counts a connection. @return false, and nothing is counted, when the address has `most` already
MUST_CHECK bool moon_addresses_enter(struct moon_addresses *addresses, const struct moon_ip *ip,
                                     size_t most);

/// One that was counted has closed.
void moon_addresses_leave(struct moon_addresses *addresses, const struct moon_ip *ip);
