/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Where the supervisor of a directory is spoken to: a UNIX socket below $MOONGATE_RUN_DIR,
/// /run/moongate (root), $XDG_RUNTIME_DIR/moongate or /tmp/moongate-UID, named by a hash of the
/// directory's place.
///
/// Process: supervisor, command line.

#include "base/result.h"

#include <sys/un.h>

/// Where a directory is served from: an absolute path, without symbolic links above the last name, which
/// may be one that points to another release from time to time. Heap; NULL: errno says why.
char *moon_config_place(const char *dir);

/// @param dir     of the configuration
/// @param makes   makes the folder of the sockets where it is not there (mode 0700)
/// @param error   text for people
MUST_CHECK enum moon_rc moon_control_path(const char *dir, bool makes, struct sockaddr_un *out,
                                          char *error, size_t error_cap);
