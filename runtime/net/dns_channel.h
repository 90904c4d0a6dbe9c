/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// c-ares on our loop: its sockets become moon_io, its timeouts one moon_timer. Built anew when
/// /etc/resolv.conf has changed and nothing is under way.
///
/// Part of dns.c; nobody else includes it.

#include "net/dns.h"

#include <ares.h>

struct dns_channel {
    struct moon_loop *loop;
    ares_channel ares; // NULL: not to be had
    char *servers;     // NULL: /etc/resolv.conf
    struct moon_list sockets;
    struct moon_timer timeout;
    size_t under_way; // queries that c-ares has
    bool is_outdated; // other servers were set
    int64_t checked_ms;
    int64_t conf_changed_ns; // of /etc/resolv.conf, when the channel was made
};

MUST_CHECK enum moon_rc moon_dns_channel_init(struct dns_channel *channel, struct moon_loop *loop,
                                              const char *servers);
void moon_dns_channel_fini(struct dns_channel *channel);

/// Asks these servers from the next query on; those of the system where empty.
void moon_dns_channel_set_servers(struct dns_channel *channel, struct moon_slice servers);

/// Before a query: a fresh channel where the system's servers have changed.
void moon_dns_channel_check(struct dns_channel *channel);

/// After a query was given to c-ares: sets the timer.
void moon_dns_channel_started(struct dns_channel *channel);
