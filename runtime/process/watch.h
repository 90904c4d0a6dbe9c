/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Watches a directory and what is below it (inotify), and calls back when changes have come to
/// rest. Hidden files, logs and what editors leave behind do not count.
///
/// Process: supervisor, or the one that serves by itself.

#include "net/loop.h"

struct moon_watch;

/// @param on_change  called 200 ms after the last of a burst of changes
/// @return NULL when there is no inotify to be had (is logged)
struct moon_watch *moon_watch_new(struct moon_loop *loop, const char *dir,
                                  void (*on_change)(void *owner), void *owner);

/// The directory is about to be read: changes that came before need no call any more.
void moon_watch_forget(struct moon_watch *watch); // accepts NULL
void moon_watch_free(struct moon_watch *watch);   // accepts NULL
