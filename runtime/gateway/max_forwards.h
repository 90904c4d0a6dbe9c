/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Max-Forwards (RFC 9110 §7.6.2): how far OPTIONS and TRACE may still go. With 0 the gateway is
/// where they end, and answers by itself.

#include "gateway/exchange.h"

/// Counts down, or makes x->ctx.reply. Other methods are left alone.
///
/// @param is_ours  true: the reply is made, no backend may be called
/// @return MOON_OK, MOON_ERR_BAD_FIELD (not one number), MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_max_forwards(struct moon_exchange *x, bool *is_ours);
