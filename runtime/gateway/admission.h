/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Who is let in: limits on connections (of the worker, of one address, TLS handshakes of one
/// address), and load that is shed while the worker is overrun. Whoever is turned away is counted
/// by reason at once, and logged once a second with how many it were: a flood cannot fill the log.
/// The management listener is never turned away.
///
/// IPv6 addresses count by their /64, which is what one client has.

#include "gateway/gateway.h"

struct moon_session;

void moon_admission_init(struct moon_gateway *gateway);

/// A worker's connections and load are within its limits again, or are not: once a second.
void moon_admission_tick(struct moon_gateway *gateway);

/// A turn of the loop took so long: what was ready when it began has waited for it.
void moon_admission_turned(struct moon_gateway *gateway, int64_t turn_us, int64_t now_us);

/// Room for one more connection; an idle one that was kept alive is closed for it where need be.
/// @return false when there is none (is counted)
MUST_CHECK bool moon_admission_has_room(struct moon_gateway *gateway, const struct sockaddr *peer);

/// Counts a connection against its address' limits; trusted proxies speak for many.
///
/// @param is_counted  true: moon_admission_leave is to follow
/// @return false when it is over one (is counted)
MUST_CHECK bool moon_admission_enter(struct moon_gateway *gateway, const struct sockaddr *peer,
                                     bool is_tls, bool *is_counted);
void moon_admission_leave(struct moon_gateway *gateway, const struct moon_ip *ip);

/// A connection was closed because of `why`.
void moon_admission_refuse(struct moon_gateway *gateway, enum moon_refusal why,
                           const struct moon_ip *ip);

/// Must this request be answered 503, for the others to be served? (is counted)
bool moon_admission_sheds(struct moon_gateway *gateway);
