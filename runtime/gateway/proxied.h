/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Connections whose PROXY header is awaited (net/proxy_protocol.h): on listeners that say
/// `proxy_protocol`, from peers in trusted_proxies. The header is read from the socket and nothing
/// behind it, so that TLS or HTTP finds its bytes untouched; then the connection becomes a session of
/// the client that the header names.

#include "gateway/gateway.h"

/// @return true when a header is to come first
bool moon_proxied_is_expected(const struct moon_gateway_listener *listener,
                              const struct sockaddr *peer);

/// Takes `fd`.
void moon_proxied_new(struct moon_gateway_listener *listener, int fd, const struct sockaddr *peer);

/// Closes those that still wait. @param listener  on it alone; NULL: on all
void moon_proxied_clear(struct moon_gateway *gateway, const struct moon_gateway_listener *listener);
