/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Loads a directory only to look at it: checks the configuration and connects nothing.
///
/// Process: checker, command line.

#include "process/facts.h"
#include "process/worker.h"

struct moon_loading {
    struct moon_state state;
    struct moon_worker worker; // worker.next is the generation
};

/// @param error  what is wrong, on lines of their own; heap; written on failure
MUST_CHECK enum moon_rc moon_loading_new(const struct moon_bundle *bundle,
                                         struct moon_loading **out, char **error);
/// A configuration that serves nothing, for commands that need only what is inside the binary.
/// @return NULL: what is wrong has been told
struct moon_loading *moon_loading_plain(void);
void moon_loading_free(struct moon_loading *loading); // accepts NULL
