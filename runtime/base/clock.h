/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The one clock of C and Lua. Monotonic time for deadlines and durations, wall time for what
/// people and peers read. Specs may freeze it and move it by hand; both kinds move together.

#include "base/macros.h"

/// Monotonic microseconds. A few tens of nanoseconds (vDSO).
int64_t moon_clock_us(void);

/// Monotonic milliseconds.
static inline int64_t moon_clock_ms(void)
{
    return moon_clock_us() / 1000;
}

/// Milliseconds since 1970-01-01T00:00:00Z.
int64_t moon_clock_wall_ms(void);

/// The wall clock at a time that moon_clock_us gave lately: one reading less. Where the wall clock is
/// set, this follows within 100 ms.
int64_t moon_clock_wall_ms_at(int64_t us);

/// CPU time of this process in microseconds; never virtual.
int64_t moon_clock_cpu_us(void);

/// Monotonic microseconds that ignore the virtual clock: CPU budgets, watchdogs.
int64_t moon_clock_real_us(void);

/// What moon_clock_us gave, or would have given, when moon_clock_real_us gave `real_us`, just now.
int64_t moon_clock_us_at(int64_t real_us);

/// Stops the clock where it is (true), or lets it run on from there (false). Specs only.
void moon_clock_freeze(bool is_frozen);

/// Moves both clocks. Specs only. @param us  may not be negative
void moon_clock_advance_us(int64_t us);

enum { MOON_CLOCK_TEXT_BYTES = 30 };

/// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 §5.6.7) of a wall time; made once a second.
/// Lent: until the next call.
struct moon_slice moon_clock_http_date(int64_t wall_ms);

/// "1994-11-06T08:49:37.123Z" (RFC 3339) into `into`. @return its length
size_t moon_clock_iso(int64_t wall_ms, char into[MOON_CLOCK_TEXT_BYTES]);

/// Reads an HTTP date in any of the three forms. @return false when it is none
MUST_CHECK bool moon_clock_parse_http_date(struct moon_slice text, int64_t *wall_ms);
