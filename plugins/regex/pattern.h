/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// One compiled regular expression (PCRE2, with its JIT compiler where there is one), and matching
/// under limits. One thread.

#include "moongate/types.h"

#define PATTERN_GROUPS_MAX 100
#define PATTERN_UNSET ((size_t)-1)

struct pattern;

enum pattern_result {
    PATTERN_NO,
    PATTERN_YES,
    PATTERN_LIMIT, // gave up: the pattern backtracks too much on this subject
};

/// What `regex_pattern_open` and `regex_pattern_close` make and free for all patterns.
MUST_CHECK bool regex_pattern_open(void);
void regex_pattern_close(void);

/// Compiles.
///
/// @param flags  letters: i caseless, m multiline, s dot matches newline, x extended, u UTF-8,
///               a anchored, D dollar only at the end, U ungreedy
/// @param error  where it says why not
/// @return       NULL when the pattern or a flag is wrong
struct pattern *regex_pattern_new(struct moon_slice text, const char *flags, char *error,
                                  size_t error_room);
void regex_pattern_free(struct pattern *p); // accepts NULL

/// Groups of the pattern, without the whole match.
uint32_t regex_pattern_groups(const struct pattern *p);

/// The number of a named group; 0: none.
uint32_t regex_pattern_group(const struct pattern *p, const char *name);

/// Calls `each` with every named group.
void regex_pattern_names(const struct pattern *p,
                         void (*each)(void *arg, const char *name, uint32_t group), void *arg);

/// Matches from `from` on. On PATTERN_YES `offsets` is lent until the next match of any pattern:
/// pairs of begin and end for the whole and for `*n_offsets - 1` groups, PATTERN_UNSET for those
/// that took no part.
enum pattern_result regex_pattern_match(const struct pattern *p, struct moon_slice subject,
                                        size_t from, const size_t **offsets, uint32_t *n_offsets);

/// The literal that every match must hold, in lower case, for a filter. Empty: none is known.
/// A pattern of several branches has one for each.
///
/// @return how many were written to `out`; 0: the pattern must always be tried
size_t regex_pattern_required(struct moon_slice text, const char *flags, char (*out)[64],
                              size_t max);
