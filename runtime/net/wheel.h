/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A hierarchical timing wheel of milliseconds: eight levels of 64 slots. A timer lies in the level
/// of the highest bit in which its time differs from now, so the next slot to look at is the first
/// one set in the lowest level that is not empty. Setting and stopping are a few stores.
///
/// Part of the loop; nobody else includes it.

#include "net/loop.h"

enum { WHEEL_LEVELS = 8, WHEEL_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_BITS };

struct moon_wheel {
    int64_t now_ms;                  // every slot up to here has been looked at
    uint64_t occupied[WHEEL_LEVELS]; // bit i: slot i is not empty
    struct moon_list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void moon_wheel_init(struct moon_wheel *wheel, int64_t now_ms);

/// Links by `timer->deadline_ms`; a deadline that has passed goes to `due`.
void moon_wheel_insert(struct moon_wheel *wheel, struct moon_timer *timer, struct moon_list *due);

/// Unlinks a timer from a slot, or from any other list it is in.
void moon_wheel_remove(struct moon_wheel *wheel, struct moon_timer *timer);

/// Moves to `to_ms`; what has become due is appended to `due` in order of deadlines.
void moon_wheel_advance(struct moon_wheel *wheel, int64_t to_ms, struct moon_list *due);

/// When the wheel must be looked at again; INT64_MAX when it is empty.
int64_t moon_wheel_next_ms(const struct moon_wheel *wheel);
