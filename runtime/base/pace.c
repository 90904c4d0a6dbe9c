/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pace.h"

#include "base/clock.h"

static struct moon_pacer *pacer_now; // of this process: its work is done by one thread

struct moon_pacer *moon_pacer_set(struct moon_pacer *pacer)
{
    struct moon_pacer *before = pacer_now;
    pacer_now = pacer;
    return before;
}

bool moon_pace_is_due(void)
{
    return pacer_now != NULL && moon_clock_real_us() >= pacer_now->portion_ends_us;
}

void moon_pace(void)
{
    if (moon_pace_is_due())
        pacer_now->give_way(pacer_now);
}
