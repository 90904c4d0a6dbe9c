/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The access log: a JSON object a line, and the metrics counted with it. Lines gather in memory
/// and go out once a turn of the loop; what the file or pipe does not take is kept up to a bound,
/// beyond which lines are dropped and counted. The worker never waits.

#include "base/result.h"

#include <stdint.h>

struct moon_exchange;
struct moon_access_log;

/// @param fd  taken; set non-blocking where it is a pipe or socket. -1: no log
struct moon_access_log *moon_access_log_new(int fd);
void moon_access_log_free(struct moon_access_log *log); // flushes once more; accepts NULL
void moon_access_log_flush(struct moon_access_log *log);

/// Writes the exchange's line and counts its metrics.
void moon_access_log_exchange(struct moon_exchange *x);
