/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Counts that outlive every process: a table in a file that all workers map. The kernel keeps what
/// was counted when a process dies; nothing is written in between. Lock-free.
///
/// Thread: any worker.

#include "base/result.h"
#include "base/slice.h"

struct moon_tally;

/// Maps the table in the file, made where it is not there; once per process and path.
/// @param error  text for people when it fails
MUST_CHECK enum moon_rc moon_tally_open(const char *path, char *error, size_t error_cap,
                                        struct moon_tally **out);

struct moon_tally_count {
    int64_t calls, bytes;
};

/// Takes calls out of a key's count again; a key that is not there has none.
void moon_tally_give_back(struct moon_tally *tally, struct moon_slice key, int64_t calls);

/// Adds to a key's counts; a key is forgotten once it has expired.
///
/// @param max_calls  what calls may come to; past it nothing is added; below 0: no limit
/// @param max_bytes  where bytes have come to it nothing is added; below 0: no limit
/// @return MOON_OK; MOON_ERR_LIMIT (refused); MOON_ERR_MEMORY (no room for another key)
enum moon_rc moon_tally_add(struct moon_tally *tally, struct moon_slice key, int64_t expires_s,
                            int64_t now_s, struct moon_tally_count amount, int64_t max_calls,
                            int64_t max_bytes, struct moon_tally_count *now);
