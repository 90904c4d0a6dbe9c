/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Patterns as ECMA-262 reads them with its `u` flag, run by PCRE2 under limits.

#include "moongate/types.h"

struct jsc_pattern;

enum jsc_match {
    JSC_MATCH_NO,
    JSC_MATCH_YES,
    JSC_MATCH_LIMIT, // it took too long to tell
};

/// @return NULL: not a pattern; `error` then says why
struct jsc_pattern *jsc_pattern_new(struct moon_slice source, char *error, size_t room);
void jsc_pattern_free(struct jsc_pattern *pattern);

/// @param text  UTF-8
enum jsc_match jsc_pattern_match(const struct jsc_pattern *pattern, struct moon_slice text);

/// Once per process. False: no memory is left.
bool jsc_pattern_open(void);
void jsc_pattern_close(void);
