/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Addresses and networks. An IPv4 address is kept as its IPv4-mapped IPv6 form (::ffff:a.b.c.d),
/// so one comparison serves both families. Sets of networks are sorted ranges: look-up is a binary
/// search, a million entries take 32 MiB.

#include "base/result.h"
#include "base/slice.h"

#include <sys/socket.h>

struct moon_ip {
    uint8_t bytes[16]; // network order
};

enum { MOON_IP_TEXT_BYTES = 46 };

/// Reads "192.0.2.1", "2001:db8::1" or "[2001:db8::1]". @return false when it is none
MUST_CHECK bool moon_ip_parse(struct moon_slice text, struct moon_ip *out);
size_t moon_ip_format(const struct moon_ip *ip, char into[MOON_IP_TEXT_BYTES]);
bool moon_ip_is_v4(const struct moon_ip *ip);
int moon_ip_compare(const struct moon_ip *a, const struct moon_ip *b);

/// Address and port of a socket address; all zero for a UNIX socket.
struct moon_ip moon_ip_from_sockaddr(const struct sockaddr *address, uint16_t *port);

struct moon_ipset;

/// @return NULL when out of memory
struct moon_ipset *moon_ipset_new(void);
void moon_ipset_free(struct moon_ipset *set);

/// Adds "10.0.0.0/8", "2001:db8::/32", a single address, or a range "10.0.0.1-10.0.0.9".
/// @return MOON_ERR_CONFIG when it is none of these (host bits set count as such), MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_ipset_add(struct moon_ipset *set, struct moon_slice text);

/// Sorts and joins; called once, after the last add and before the first look-up.
void moon_ipset_seal(struct moon_ipset *set);
bool moon_ipset_has(const struct moon_ipset *set, const struct moon_ip *ip);
size_t moon_ipset_count(const struct moon_ipset *set);
