/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Slots that requests hold while they do something of which only so many may go on at once, counted
/// over all workers. Each worker has its own column, so that what a dead worker held is given back by
/// clearing it: when the supervisor is told of its death.
///
/// Thread: any worker.

#include "base/slice.h"
#include "shared/region.h"

struct moon_leases;
struct moon_lease_cell;

/// @return NULL when there is no room (is logged)
struct moon_leases *moon_leases_new(struct moon_region *region);

/// Gives back whatever a process with this worker's number held that is there no more. Takes no lock.
/// Process: supervisor.
void moon_leases_forget(struct moon_leases *leases, int worker);

enum moon_lease_answer {
    MOON_LEASE_HELD,   // a slot is the caller's, until moon_lease_release
    MOON_LEASE_QUEUED, // all are held; the caller has a place in the queue
    MOON_LEASE_FULL,   // neither
};

/// @param queue      places in the queue; 0: none
/// @param is_queued  the caller has such a place: it is given up when a slot is held
enum moon_lease_answer moon_lease_take(struct moon_leases *leases, int worker,
                                       struct moon_slice key, int max, int queue, bool is_queued,
                                       struct moon_lease_cell **cell);
void moon_lease_release(struct moon_lease_cell *cell, int worker);

/// Gives a slot back for a place in the queue. @return false where the queue is full: the slot is given
/// back all the same
bool moon_lease_step_back(struct moon_leases *leases, struct moon_lease_cell *cell, int worker,
                          int queue);

/// Gives up a place in the queue.
void moon_lease_leave(struct moon_lease_cell *cell, int worker);
