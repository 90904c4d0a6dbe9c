/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Users, limits of the system, and what becomes of a process whose parent dies.
///
/// Process: any.

#include "base/result.h"

#include <sys/types.h>

struct moon_user {
    char name[64]; // empty: nobody else
    uid_t uid;
    gid_t gid;
};

/// Looks the user up. @param name  empty, or no root here: no change of user
/// @return false after logging that there is none
MUST_CHECK bool moon_user_find(const char *name, struct moon_user *user);

/// Becomes the user for good, and can gain no privileges any more. @return false after logging
MUST_CHECK bool moon_user_become(const struct moon_user *user);

/// Raises the limit on descriptors as far as it goes, and warns when `connections` may not fit.
void moon_privilege_raise_files(size_t connections);
void moon_privilege_allow_core(bool is_allowed);

/// This process ends (SIGTERM) when its parent, `parent`, has. After moon_user_become.
/// @return false when the parent is gone already
MUST_CHECK bool moon_privilege_follow_parent(pid_t parent);
