/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Requests that the codec refuses for their form. They go nowhere, but policies that ask for it
/// (a function `malformed`; p.waf) see the head of those that can be understood all the same (other
/// versions, bytes outside ASCII in the target, an odd Host, two framings), so that a probe leaves
/// the traces in the log that it would leave if it were well-formed. The answer stays the codec's.

#include "gateway/exchange.h"

/// @param head  what came of an HTTP/1.x head, in the exchange's arena; nothing is done where it is
///              empty. An HTTP/2 head is in x->request where its form was good
void moon_malformed_inspect(struct moon_exchange *x, enum moon_rc rc, struct moon_slice head);

/// The same for a well-formed CONNECT, which no route takes.
void moon_malformed_inspect_tunnel(struct moon_exchange *x);
