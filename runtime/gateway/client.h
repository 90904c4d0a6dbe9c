/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Who is at the other end of a connection.

#include "gateway/exchange.h"

/// Fills in addresses and ports of both ends.
void moon_client_init(struct moon_client *client, int fd, const struct sockaddr *peer);

/// Whether what a peer says of the client (X-Forwarded-For, PROXY header) is believed.
bool moon_client_is_trusted(const struct moon_plan *plan, const struct sockaddr *peer);

/// The connection is a trusted proxy's: the client is the last address of X-Forwarded-For that is
/// not a trusted proxy itself. The exchange gets a struct moon_client of its own (arena).
void moon_client_forwarded(struct moon_exchange *x);
