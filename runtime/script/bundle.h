/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A snapshot of the configuration directory: the bytes of its Lua files and small files, read once
/// by the process that starts a reload, so that the checker and all workers build the same
/// generation. Handed over as a file descriptor (memfd).
///
/// Process: any.

#include "base/result.h"
#include "base/slice.h"

struct moon_bundle;

/// Reads gateway.lua, apis/, policies/, lib/ and other files below `dir` of at most 1 MiB each
/// (hidden files and spec/ left out; 64 MiB in all).
/// @param error  names the file and why it cannot be read
MUST_CHECK enum moon_rc moon_bundle_read(const char *dir, char *error, size_t error_cap,
                                         struct moon_bundle **out);

/// One with a gateway.lua that was never in a file. @param dir  its directory, as others see it
MUST_CHECK enum moon_rc moon_bundle_of_text(const char *dir, const char *gateway,
                                            struct moon_bundle **out);

/// Writes it to a new memfd. @return -1 on failure (errno tells)
int moon_bundle_to_fd(const struct moon_bundle *bundle);

/// Reads it back; the descriptor stays open and its offset is left alone.
MUST_CHECK enum moon_rc moon_bundle_from_fd(int fd, struct moon_bundle **out);
void moon_bundle_free(struct moon_bundle *bundle); // accepts NULL

/// Absolute path of the directory.
const char *moon_bundle_dir(const struct moon_bundle *bundle);

/// @param path  relative to the directory. @return false when the snapshot has no such file
bool moon_bundle_find(const struct moon_bundle *bundle, struct moon_slice path,
                      struct moon_slice *text);

size_t moon_bundle_count(const struct moon_bundle *bundle);
struct moon_slice moon_bundle_path(const struct moon_bundle *bundle, size_t i);
