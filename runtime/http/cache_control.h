/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Directives of Cache-Control (RFC 9111 §5.2), read once into numbers and bits.
///
/// What a response says twice, the stricter one holds: a lifetime that is no number is 0, two
/// lifetimes are the shorter. Unknown directives are passed over.

#include "http/fields.h"

enum moon_cc_flags {
    MOON_CC_NO_STORE = 1 << 0,
    MOON_CC_NO_CACHE = 1 << 1,        // without field names
    MOON_CC_NO_CACHE_FIELDS = 1 << 2, // no-cache="name, ..."
    MOON_CC_PRIVATE = 1 << 3,
    MOON_CC_PRIVATE_FIELDS = 1 << 4,
    MOON_CC_PUBLIC = 1 << 5,
    MOON_CC_MUST_REVALIDATE = 1 << 6,
    MOON_CC_PROXY_REVALIDATE = 1 << 7,
    MOON_CC_MUST_UNDERSTAND = 1 << 8,
    MOON_CC_NO_TRANSFORM = 1 << 9,
    MOON_CC_ONLY_IF_CACHED = 1 << 10, // requests
    MOON_CC_IMMUTABLE = 1 << 11,
    MOON_CC_ANY = 1 << 12, // there was a Cache-Control field
    MOON_CC_TARGETED =
        1 << 13, // said by a targeted field: Cache-Control and Expires are not heeded
};

/// What this cache is called in Surrogate-Control and Surrogate-Capability.
#define MOON_CC_SURROGATE "moongate"

enum { MOON_CC_ABSENT = -1, MOON_CC_TARGETS = 4 };

/// Durations in seconds, MOON_CC_ABSENT where not given.
struct moon_cache_control {
    unsigned flags;
    int64_t max_age_s, s_maxage_s;
    int64_t stale_while_revalidate_s, stale_if_error_s;
    int64_t min_fresh_s;
    int64_t max_stale_s; // requests; INT64_MAX: without a number, any age
};

void moon_cache_control_init(struct moon_cache_control *cc);

/// Adds one field line.
void moon_cache_control_add(struct moon_cache_control *cc, struct moon_slice value);

/// All Cache-Control lines of a message; in a request without any, Pragma: no-cache too.
void moon_cache_control_read(struct moon_cache_control *cc, const struct moon_fields *fields,
                             bool is_request);

/// Fields that speak to this cache rather than to all (RFC 9213): names in lower case, the first one
/// that a response has holds. "surrogate-control" is read by its own grammar, others as dictionaries.
struct moon_cache_targets {
    struct moon_slice names[MOON_CC_TARGETS];
    size_t count;
};

/// What a response says to this cache: the first targeted field that is there and can be read, in
/// place of Cache-Control and Expires; else Cache-Control.
void moon_cache_control_read_response(struct moon_cache_control *cc,
                                      const struct moon_fields *fields,
                                      const struct moon_cache_targets *targets);

/// True when a no-cache="..." or private="..." of the response names the field.
bool moon_cache_control_names(const struct moon_fields *fields, struct moon_slice name);

/// Takes the next directive of a line: a token, and an argument without its quotes (escapes are
/// left in it). @return false at the end. Malformed parts are passed over.
bool moon_cache_control_next(struct moon_slice *rest, struct moon_slice *name,
                             struct moon_slice *argument, bool *is_quoted);

/// delta-seconds: digits; more than 2^31 is 2^31 (RFC 9111 §1.2.2). @return false when it is none
bool moon_delta_seconds(struct moon_slice text, int64_t *seconds);
