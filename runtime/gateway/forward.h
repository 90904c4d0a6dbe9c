/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Making the request that a backend gets and the answer that the client gets.

#include "gateway/exchange.h"

/// Prepares the request and starts the call. @return MOON_OK, MOON_AGAIN, or why it cannot
MUST_CHECK enum moon_rc moon_forward_start(struct moon_exchange *x);
void moon_forward_end_call(struct moon_exchange *x);

/// The same for a policy that calls the backend itself (moon_ctx_ops, forward_policy.c).
enum moon_rc moon_forward_ctx(struct moon_ctx *ctx, int64_t timeout_ms);
void moon_forward_drop_response(struct moon_ctx *ctx);

/// The policy's call has its head, or has failed: the policy goes on.
void moon_forward_ended(struct moon_exchange *x, enum moon_rc rc);

/// Whether a policy refused for no other reason than that its call failed.
bool moon_forward_is_refused(const struct moon_exchange *x);

/// x->ctx.error for a failure of the gateway's own.
void moon_forward_set_error(struct moon_exchange *x, enum moon_rc rc);

/// The call's response becomes the exchange's: end-to-end fields, Via.
void moon_forward_take_response(struct moon_exchange *x);

/// x->ctx.reply becomes the response. @return false when memory is short
MUST_CHECK bool moon_forward_take_reply(struct moon_exchange *x);

/// Fill x->ctx.reply from the leaf. @return false when memory is short
MUST_CHECK bool moon_forward_redirect(struct moon_exchange *x);
MUST_CHECK bool moon_forward_reply(struct moon_exchange *x);

/// The response for x->ctx.error: problem+json (RFC 9457) without anything that was raised.
void moon_forward_default_error(struct moon_exchange *x);

/// Fields that keep browsers from guessing: Strict-Transport-Security on TLS (RFC 6797), and no
/// sniffing in what the gateway says itself. Nothing that is there already is changed.
void moon_forward_secure(struct moon_exchange *x);

/// API Management's name of a failure ("OperationNotFound", "Timeout" ...).
struct moon_slice moon_forward_reason(enum moon_rc rc);
void moon_forward_log_failure(struct moon_exchange *x);
