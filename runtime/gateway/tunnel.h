/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Upgraded connections (WebSocket): after the backend's 101 bytes go both ways, as they come, until
/// both ends have closed or nothing has come for the backend's idle timeout. Both directions are the
/// bodies of an exchange, so back-pressure is theirs. Over HTTP/2 it is RFC 8441.

#include "gateway/exchange.h"

/// Only WebSocket is upgraded to: anything else (h2c above all) would carry requests past the
/// policies. Other wishes are passed over, as RFC 9110 §7.8 allows.
void moon_tunnel_check_request(struct moon_exchange *x);

/// The call has its head. @return MOON_OK, or MOON_ERR_UPSTREAM_PROTOCOL where that cannot be told
/// to the client: a plain 2xx to an extended CONNECT would look like a tunnel
MUST_CHECK enum moon_rc moon_tunnel_take_response(struct moon_exchange *x);

/// @return true when nothing more will go either way
bool moon_tunnel_is_over(const struct moon_exchange *x);
