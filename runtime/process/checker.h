/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Loads a configuration in a process of its own, which ends afterwards: whatever the configuration
/// does, the supervisor and the workers go on. The result lies in shared memory.
///
/// Process: supervisor (moon_check_new, moon_check_free), checker (moon_check_run).

#include "process/facts.h"
#include "process/privilege.h"

#include <sys/types.h>

enum { MOON_CHECK_TEXT = 65536 };

struct moon_check_result {
    bool is_complete; // the checker came to an end
    bool is_valid;
    struct moon_facts facts;
    char warnings[MOON_CHECK_TEXT];
    char error[MOON_CHECK_TEXT];
};

/// Shared with the children of this process. @return NULL when out of memory
struct moon_check_result *moon_check_new(void);
void moon_check_free(struct moon_check_result *result); // accepts NULL

/// Does the work, writes the result, and ends the process. Process: checker.
/// @param user  for a reload: becomes what the workers are, and works in small portions, as requests are served
///              meanwhile, maybe on the same core. NULL: at the start, when nobody serves and no user is known
void moon_check_run(const struct moon_bundle *bundle, struct moon_check_result *result,
                    const struct moon_user *user) MOON_NORETURN;

/// What to tell when the checker ended with `status` (as waitpid says). Writes `error` where it
/// could not do so itself. @return true when the configuration can be served
bool moon_check_settle(struct moon_check_result *result, int status);
