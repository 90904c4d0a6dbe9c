/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What a match of one pattern must hold, looked for before the pattern is tried: most subjects do not
/// hold it, which is seen in a fraction of the time that matching takes.

#include "moongate/types.h"

struct piece_filter;

/// @return NULL when nothing is known of the pattern (regex_pattern_required), or there is no memory
struct piece_filter *regex_filter_new(struct moon_slice text, const char *flags);
void regex_filter_free(struct piece_filter *filter); // accepts NULL

/// False: no match of the pattern begins in the subject at or after `from`.
bool regex_filter_passes(const struct piece_filter *filter, struct moon_slice subject, size_t from);
