/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The arithmetic of RFC 9111 §3 and §4: may a response be stored, for how long is it fresh, may it
/// be reused for a request. Pure functions of messages and times; wall time in milliseconds.

#include "http/cache_control.h"
#include "http/message.h"

/// What the configuration adds to the rules.
struct moon_freshness_conf {
    int64_t ttl_ms;                    // -1: the response's own lifetime
    int64_t stale_while_revalidate_ms; // where the response says nothing; -1: none
    int64_t stale_if_error_ms;
    int64_t stale_on_failure_ms; // where neither says anything, and it was fresh once; 0: none
    bool is_heuristic;           // a tenth of the time since Last-Modified, where nothing is said
    bool is_per_caller;  // the key tells callers apart: Authorization does not forbid storing
    const int *statuses; // that may be stored; NULL: all that the rules allow
    size_t status_count;
    struct moon_cache_targets targets;
};

enum moon_fresh_flags {
    MOON_FRESH_NO_CACHE = 1,        // validate before every use
    MOON_FRESH_MUST_REVALIDATE = 2, // never used stale
};

/// Kept with a stored response.
struct moon_freshness {
    int64_t response_ms; // when it came
    int64_t date_ms;     // its Date, or response_ms
    int64_t age_ms;      // corrected initial age (RFC 9111 §4.2.3)
    int64_t lifetime_ms;
    int64_t stale_while_revalidate_ms; // past the lifetime; 0: none
    int64_t stale_if_error_ms;
    unsigned flags;
};

/// Reads ages and lifetimes of a response.
///
/// @param request_ms, response_ms  when the request was sent, when the head came
void moon_freshness_read(struct moon_freshness *fresh, const struct moon_response *response,
                         const struct moon_cache_control *cc,
                         const struct moon_freshness_conf *conf, int64_t request_ms,
                         int64_t response_ms);

/// RFC 9111 §3 for a shared cache; of POST only what stands for a GET of the same URI (RFC 9110
/// §9.3.3), which the caller has found out. @param request_cc  of the request
bool moon_freshness_is_storable(const struct moon_request *request,
                                const struct moon_cache_control *request_cc,
                                const struct moon_response *response,
                                const struct moon_cache_control *cc,
                                const struct moon_freshness_conf *conf);

/// Current age (RFC 9111 §4.2.3).
int64_t moon_freshness_age_ms(const struct moon_freshness *fresh, int64_t now_ms);

/// Lifetime less age: negative when stale.
int64_t moon_freshness_left_ms(const struct moon_freshness *fresh, int64_t now_ms);

enum moon_reuse {
    MOON_REUSE_FRESH,
    MOON_REUSE_STALE,            // the request takes it stale
    MOON_REUSE_REVALIDATE_LATER, // now, while it is revalidated in the background
    MOON_REUSE_VALIDATE,         // only after asking the origin
};

/// RFC 9111 §4.2, §4.2.4, §5.2.1 and RFC 5861.
enum moon_reuse moon_freshness_reuse(const struct moon_freshness *fresh,
                                     const struct moon_cache_control *request_cc, int64_t now_ms);

/// Whether it may stand in for an answer that failed (RFC 5861 §4).
bool moon_freshness_is_usable_on_error(const struct moon_freshness *fresh,
                                       const struct moon_cache_control *request_cc, int64_t now_ms);
