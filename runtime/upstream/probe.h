/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Active health checks. One worker of the node probes for all: it holds a lease in shared memory,
/// which another takes when its holder is dead or stuck. What probes see goes into shared/health.h.

#include "upstream/upstream.h"

/// Watches the backend's present targets (and tells the metric moongate_target_up of them).
MUST_CHECK enum moon_rc moon_probe_start(struct moon_backend *backend);

/// The backend has another set of members.
void moon_probe_refresh(struct moon_backend *backend);
void moon_probe_stop(struct moon_backend *backend); // harmless where it was not started

/// Timer of struct moon_upstreams.
void moon_probe_lease(struct moon_timer *timer);
