/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The management listener: /health, /status, /metrics, POST /reload. Answered by the gateway
/// itself; never reachable through the public listeners.

#include "gateway/exchange.h"

/// True when the exchange came by the management listener.
bool moon_management_is(const struct moon_exchange *x);

/// Puts the answer into x->ctx.reply. @return true
bool moon_management_answer(struct moon_exchange *x);
