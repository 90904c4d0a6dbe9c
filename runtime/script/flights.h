/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Those of this worker who wait for another request to fill the store (shared/store.h, flights):
/// woken through the worker's eventfd, and every quarter of a second to see whether the filler is
/// still alive.
///
/// Thread: one worker.

#include "net/loop.h"
#include "shared/store.h"

struct moon_flights {
    struct moon_store_seat *seat; // NULL: there is no store
    struct moon_loop *loop;
    struct moon_io io;
    struct moon_list waiters;
};

/// One that waits. Lies in the owner's struct; zeroed: it does not.
struct moon_flight_wait {
    struct moon_list link;
    struct moon_flights *flights; // NULL: does not wait
    struct moon_timer timer;
    void (*callback)(void *owner);
    void *owner;
};

/// @param seat  may be NULL
void moon_flights_init(struct moon_flights *flights, struct moon_loop *loop,
                       struct moon_store_seat *seat);
void moon_flights_fini(struct moon_flights *flights);

/// Calls back once: when a flight ended, or it is time to look again.
void moon_flights_wait(struct moon_flights *flights, struct moon_flight_wait *wait,
                       void (*callback)(void *owner), void *owner);
void moon_flights_cancel(struct moon_flight_wait *wait); // harmless when it does not wait
