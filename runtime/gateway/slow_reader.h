/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Whether a client reads what waits for it: a connection of HTTP/1.1 or HTTP/2, or a stream. It may be
/// silent for send_timeout, and each time that it has been waited for as long, in one piece or in many, it
/// must have read send_rate bytes a second of that. Time in which nothing waits for it does not count.
///
/// Thread: one worker.

#include "base/macros.h"

#include <stdbool.h>
#include <stdint.h>

/// Lies in its owner's struct; zeroed.
struct moon_slow_reader {
    uint64_t read;      // bytes, when the client was last seen to read, or the wait began
    uint64_t read_from; // when `waited_ms` was 0
    int64_t since_ms;   // of the present wait
    int64_t waited_ms;  // before that
    bool is_waited_for;
    bool is_settled; // what was on its way when the wait began has arrived, or will not by itself
};

enum moon_reader_state {
    MOON_READER_GOES_ON,
    MOON_READER_IS_SILENT,
    MOON_READER_IS_SLOW, // reads less than it must
};

/// What it must read. `rate` in bytes a second, 0: anything will do.
struct moon_reader_rule {
    int64_t timeout_ms, rate;
};

/// Something waits for the client from now on, or still.
/// @param read  bytes that have reached it
void moon_reader_wait(struct moon_slow_reader *reader, int64_t now_ms, uint64_t read);

/// Nothing waits any more. @return true where moon_reader_judge is due: it has been waited for long enough
MUST_CHECK bool moon_reader_stop(struct moon_slow_reader *reader, int64_t now_ms,
                                 const struct moon_reader_rule *rule);

/// How long from now until moon_reader_judge is due.
int64_t moon_reader_due_ms(const struct moon_slow_reader *reader, int64_t now_ms,
                           const struct moon_reader_rule *rule);

/// When it is due. Where the client goes on it is due again, as moon_reader_due_ms then says.
MUST_CHECK enum moon_reader_state moon_reader_judge(struct moon_slow_reader *reader, int64_t now_ms,
                                                    uint64_t read,
                                                    const struct moon_reader_rule *rule);
