/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Texts of a body replaced while it passes, in runs of any size. What is kept from one run to the next
/// is at most the start of a text that may go on, and, where texts become much longer, the rest of a run.

#include "base/arena.h"
#include "base/buf.h"

enum {
    MOON_REPLACE_TEXT_BYTES = 1024, // longest text that is looked for, and so what is carried over
    MOON_REPLACE_STAGES = 8,
};

struct moon_replace_rule {
    struct moon_slice from, to;
    /// `from` is the start of a URL up to its host. Letters match in either case; no letter stands before
    /// it, and nothing behind it that would make it another host.
    bool is_link;
};

/// One pass over a body: at each place the first rule that fits.
struct moon_replace {
    const struct moon_replace_rule *rules;
    size_t rule_count;
    bool is_first[256]; // bytes that a text begins with
    int only_first;     // the one byte that all begin with; -1: there are several
    char before;        // the byte in front of what comes next; 0: none
    bool is_last;       // the end of the body was given
    bool has_more;      // more can be had without input
    bool is_done;
    struct moon_buf held, out;
};

/// Several, each over what the one before leaves.
struct moon_replaces {
    struct moon_replace *stages[MOON_REPLACE_STAGES];
    size_t count;
};

/// Adds a pass at the end. The rules and their texts live in the arena, too.
/// @return MOON_OK, MOON_ERR_LIMIT (too many passes, a text that is empty or too long), MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_replaces_add(struct moon_replaces *all, struct moon_arena *arena,
                                          const struct moon_replace_rule *rules, size_t count);

/// What brings the body. @param data  lent until the next call
typedef enum moon_rc moon_replaces_source_fn(void *owner, struct moon_slice *data, bool *is_done);

/// The next run of what comes out.
/// @param data  lent until the next call; empty only at the end
/// @return MOON_OK, or what the source answers
MUST_CHECK enum moon_rc moon_replaces_read(struct moon_replaces *all,
                                           moon_replaces_source_fn *source, void *owner,
                                           struct moon_slice *data, bool *is_done);

void moon_replaces_fini(struct moon_replaces *all);
