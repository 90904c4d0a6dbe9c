/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// JA4, a fingerprint of TLS clients (FoxIO's technical description, BSD licence): what a
/// ClientHello offers, told so that the order of extensions and GREASE values do not matter.

#include "base/slice.h"

enum { MOON_JA4_BYTES = 36 }; // "t13d1516h2_8daaf6152771_e5627efa2ab1"

/// Works on what the peer sent: any bytes are safe.
///
/// @param client_hello  the handshake message, from its type byte (1) on; no record header
/// @param into          the fingerprint and a NUL
/// @return false when it is no well-formed ClientHello; `into` is then empty
MUST_CHECK bool moon_ja4(struct moon_slice client_hello, char into[MOON_JA4_BYTES + 1]);
