/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Names to addresses by c-ares, never blocking: answers cached by their TTL (clamped to 1..300 s),
/// refreshed before they expire while in use, kept when refreshing fails, failures remembered for
/// a few seconds. Literal addresses answer at once. /etc/hosts is honoured.

#include "base/ip.h"
#include "net/loop.h"

enum { MOON_DNS_ADDRESSES = 32 };

struct moon_dns_answer {
    enum moon_rc rc; // MOON_OK or MOON_ERR_DNS
    struct moon_ip addresses[MOON_DNS_ADDRESSES];
    size_t count;
    bool is_stale; // the TTL has passed and refreshing failed
};

struct moon_dns;
struct moon_dns_query;

typedef void moon_dns_fn(void *owner, const struct moon_dns_answer *answer);

/// @param servers  "127.0.0.1:5353,..." or NULL for /etc/resolv.conf
struct moon_dns *moon_dns_new(struct moon_loop *loop, const char *servers);
/// Other servers and limits on the time to live from now on; what is known stays.
/// @param servers  as for moon_dns_new; borrowed
void moon_dns_configure(struct moon_dns *dns, struct moon_slice servers, int64_t min_ttl_ms,
                        int64_t max_ttl_ms);
void moon_dns_free(struct moon_dns *dns); // accepts NULL; pending queries are not called back

/// Answers from the cache without a callback, or starts a query.
///
/// @param answer  written on MOON_OK
/// @param query   written on MOON_AGAIN; `callback` runs later, exactly once, unless cancelled
/// @return MOON_OK, MOON_AGAIN, MOON_ERR_DNS (remembered failure)
MUST_CHECK enum moon_rc moon_dns_resolve(struct moon_dns *dns, struct moon_slice name,
                                         moon_dns_fn *callback, void *owner,
                                         struct moon_dns_answer *answer,
                                         struct moon_dns_query **query);

/// The callback will not be called. May not be called from inside it.
void moon_dns_cancel(struct moon_dns_query *query);

/// SRV: targets by priority and weight.
struct moon_dns_srv {
    char target[256];
    uint16_t port, priority, weight;
};

typedef void moon_dns_srv_fn(void *owner, enum moon_rc rc, const struct moon_dns_srv *records,
                             size_t count, int64_t ttl_ms);
MUST_CHECK enum moon_rc moon_dns_resolve_srv(struct moon_dns *dns, struct moon_slice name,
                                             moon_dns_srv_fn *callback, void *owner,
                                             struct moon_dns_query **query);

/// PTR of an address; name is NUL-terminated; empty with MOON_OK where the address has none.
typedef void moon_dns_ptr_fn(void *owner, enum moon_rc rc, const char *name);
MUST_CHECK enum moon_rc moon_dns_resolve_ptr(struct moon_dns *dns, const struct moon_ip *ip,
                                             moon_dns_ptr_fn *callback, void *owner,
                                             struct moon_dns_query **query);
