/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A worker as a process of its own: does what the supervisor says over the channel.
///
/// Process: worker.

#include "process/privilege.h"
#include "process/worker.h"

struct moon_worker_start {
    struct moon_state *state;
    int number;
    int channel;    // taken
    int access_log; // pipe to the logger; taken
    pid_t supervisor;
    const struct moon_user *user;
    bool dumps_core;
};

/// Serves until it is told to end. @return the exit status
int moon_worker_process(const struct moon_worker_start *start);
