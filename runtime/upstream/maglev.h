/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Consistent hashing by Maglev's table (Eisenbud et al., NSDI 2016): every key has one place, places
/// are shared by weight, and when a member leaves almost only its own keys move. The table is made
/// once per set of members, from names alone, so that all workers and nodes agree.

#include "upstream/upstream.h"

/// The member for `hash`. One that `accepts` refuses is passed over by hashing again, so that its
/// keys spread over all the others. @return NULL when none is accepted
struct moon_target *moon_maglev_find(struct moon_members *members, uint64_t hash,
                                     bool (*accepts)(void *arg, size_t i), void *arg);
