/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Files of networks, one a line, read again when they are replaced.
///
/// A list is read by the first who asks for it, and shared by all generations of this process. Later
/// a look-up sees, once a second, whether the file is another one; then a thread of its own reads
/// it, and the next look-up after it has ended takes the new set in place of the old. What cannot be
/// read leaves the old set and is logged.
///
/// A line is a network, an address or a range; what follows it after a blank, `;`, `,` or `#` is a
/// comment. A file that begins with `{` or `[` is JSON, as operators of crawlers publish it: every
/// string in it that is a network counts.
///
/// Thread: one worker.

#include "base/ip.h"

struct moon_listfile;

/// @param path   absolute; copied
/// @param error  written on failure
/// @return MOON_OK; MOON_ERR_CONFIG where it cannot be read or a line is no network
MUST_CHECK enum moon_rc moon_listfile_acquire(struct moon_slice path, char *error, size_t error_cap,
                                              struct moon_listfile **out);
void moon_listfile_release(struct moon_listfile *list); // accepts NULL

bool moon_listfile_has(struct moon_listfile *list, const struct moon_ip *ip);

/// Ranges after joining.
size_t moon_listfile_count(struct moon_listfile *list);

/// How often the file has been read.
unsigned moon_listfile_loads(struct moon_listfile *list);
