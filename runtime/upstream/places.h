/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A number of places that all nodes share through the store, for what may go on only so many times at
/// once. A place is held until it is given back, or until its node has not said for three seconds that
/// it still holds it: a dead node's places come free by themselves. Times are the store's.
///
/// Thread: the worker that owns the loop.

#include "net/loop.h"
#include "upstream/limits.h"
#include "upstream/redis.h"

enum moon_place_answer {
    MOON_PLACE_HELD,
    MOON_PLACE_FULL,
    MOON_PLACE_UNKNOWN, // the store did not answer in time
};

typedef void moon_place_fn(void *owner, enum moon_place_answer answer);

/// Lies in the owner's struct, zeroed.
struct moon_place {
    struct moon_limits *limits;
    struct moon_slice name, id; // of the places, and of who holds one. Lent by the owner
    moon_place_fn *callback;
    void *owner;
    struct moon_redis_command *command; // the question under way; NULL: none
    bool is_asked;                      // a place may be held in the store
    struct moon_timer renew;
};

/// Asks for a place.
///
/// @param name  which places: any bytes; lent until moon_place_give
/// @param id    no other request of any node has it; lent until moon_place_give
/// @return MOON_AGAIN (`callback` runs once, within the store's deadline), or MOON_ERR_STORE: the store
///         is known to be down
MUST_CHECK enum moon_rc moon_place_take(struct moon_place *place, struct moon_limits *limits,
                                        struct moon_loop *loop, struct moon_slice name,
                                        struct moon_slice id, int max, moon_place_fn *callback,
                                        void *owner);

/// Gives the place back, or what was asked for; does nothing where there is neither.
void moon_place_give(struct moon_place *place);
