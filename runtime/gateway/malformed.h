/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Requests that the codec refuses for their form. They go nowhere, but policies that ask for it
/// (a function `malformed`; p.waf) see what can be read of them, so that a probe leaves the traces
/// in the log that it would leave if it were well-formed. The answer stays the codec's.

#include "gateway/exchange.h"

/// @param head  what came, in the exchange's arena; nothing is done where it is empty
void moon_malformed_inspect(struct moon_exchange *x, struct moon_slice head);

/// The same for a well-formed CONNECT, which no route takes.
void moon_malformed_inspect_tunnel(struct moon_exchange *x);
