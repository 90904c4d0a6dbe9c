/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Long work that gives way to what waits behind it: a worker loads a configuration between the turns
/// of its loop (net/background.h), a checker in small portions. Such work calls moon_pace() every
/// hundred microseconds or so, wherever it may be interrupted. Without a pacer it does not stop.
///
/// Whoever calls moon_pace() must be ready for anything else of the process to run meanwhile: it
/// holds no lock, is not walking a list that others change, and has nothing in a static buffer.

#include "base/macros.h"

struct moon_pacer {
    int64_t portion_ends_us;                    // real time
    void (*give_way)(struct moon_pacer *pacer); // gives the next portion before it returns
};

/// Whose work this is; NULL: nobody waits for it to give way. @return the one before
struct moon_pacer *moon_pacer_set(struct moon_pacer *pacer);

/// Gives way where the portion is used up.
void moon_pace(void);

/// Whether it is; for those who see it where they cannot give way.
bool moon_pace_is_due(void);
