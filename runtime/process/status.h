/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What `moongate status` and `moongate top` show.
///
/// Process: supervisor.

#include "process/supervisor.h"

/// Writes a NUL-terminated text.
void moon_status_write(const struct moon_supervisor *supervisor, bool is_json, char *into,
                       size_t cap);
