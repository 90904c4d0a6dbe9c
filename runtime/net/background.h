/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Long work of a loop's owner, done in small portions at the end of the loop's turns: descriptors
/// and timers are served between any two. The work runs on a stack of its own (base/fiber.h) and is
/// interrupted wherever it calls moon_pace(); a portion lasts as long as it does not.
///
/// Jobs are done one after the other, in the order they were posted.
///
/// Thread: the one that owns the loop.

#include "base/list.h"
#include "net/loop.h"

/// Something to do. Lies in the owner's struct.
struct moon_job {
    struct moon_list link;
    void (*run)(struct moon_job *job); // called once; may free the job
};

struct moon_background;

/// @return NULL without memory
struct moon_background *moon_background_new(struct moon_loop *loop);

/// Does at once what is left. Accepts NULL.
void moon_background_free(struct moon_background *background);

void moon_background_post(struct moon_background *background, struct moon_job *job);

/// Does everything that was posted before it returns. Not to be called by a job.
void moon_background_finish(struct moon_background *background);
