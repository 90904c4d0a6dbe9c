/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Targets by service name: a target with `srv` stands for those that its SRV records name, with
/// their priorities and weights, looked up again as their time to live says. A failed look-up keeps
/// the targets there are; targets that stay keep their connections and health.

#include "upstream/call.h"

/// Where the backend has targets with `srv`: makes backend->service.
MUST_CHECK enum moon_rc moon_service_start(struct moon_backend *backend);
void moon_service_stop(struct moon_backend *backend);

/// Before the first answer calls wait. @return MOON_OK, MOON_AGAIN (moon_call_prepared follows)
MUST_CHECK enum moon_rc moon_service_wait(struct moon_service *service, struct moon_call *call);
