/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Digests for the runtime's own needs: SHA-256 (subscription keys are kept and compared as such), and the
/// proof of a WebSocket handshake.

#include "base/slice.h"

enum { MOON_DIGEST_BYTES = 32, MOON_WEBSOCKET_ACCEPT_BYTES = 28 };

/// Has the library read what it needs of its own, which takes a millisecond: processes that are forked
/// afterwards need not do it again.
void moon_digest_prepare(void);

void moon_digest_sha256(struct moon_slice bytes, uint8_t out[MOON_DIGEST_BYTES]);

/// The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (RFC 6455 §4.2.2). @return false: no memory
MUST_CHECK bool moon_digest_websocket(struct moon_slice key,
                                      char accept[MOON_WEBSOCKET_ACCEPT_BYTES + 1]);
