/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Reads answers of the DNS where c-ares 1.18 leaves out their TTL.

#include "net/dns.h"

enum { MOON_DNS_RECORDS = 64 };

/// SRV records of a reply, by priority, then weight (highest first).
///
/// @param ttl_ms  the lowest of their TTLs; written when the result is not 0
/// @return how many there are; 0 for a reply that is malformed or has none
size_t moon_dns_read_srv(struct moon_slice reply, struct moon_dns_srv into[MOON_DNS_RECORDS],
                         int64_t *ttl_ms);
