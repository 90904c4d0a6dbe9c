/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Compression of responses on their way to the client, where the configuration asks for it, the
/// client takes it, and it makes sense: never what is encoded already, never streams of events, never
/// against no-transform or where digests or ranges speak of the bytes as they are.

#include "gateway/exchange.h"

/// Decides, and makes the head say so. The response's framing is known; nothing was written.
void moon_encode_start(struct moon_exchange *x);

/// What is to be written in place of `data`; itself where nothing is compressed. Lent until the next
/// call or moon_encode_end.
MUST_CHECK enum moon_rc moon_encode_run(struct moon_exchange *x, struct moon_slice *data,
                                        bool is_last);

/// Frees what the exchange holds for it.
void moon_encode_end(struct moon_exchange *x);
