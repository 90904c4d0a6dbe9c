/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Tells people and programs that the gateway serves: lines on standard output, a JSON file.
///
/// Process: supervisor, or the one that serves by itself.

#include "process/sockets.h"

/// Writes {"pid", "name", "workers", "listeners": [{"name", "address", "port"}]} beside `path` and
/// moves it there, so that nobody reads half of it. @return false after logging why not
MUST_CHECK bool moon_ready_write(const char *path, const struct moon_facts *facts,
                                 struct moon_sockets *sockets, int workers);

/// A few lines for people, and DIR/try.txt where there is one.
void moon_ready_print(const char *dir, const struct moon_facts *facts, struct moon_sockets *sockets,
                      int workers);
