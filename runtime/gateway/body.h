/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Bodies in transit: streamed with back-pressure, or kept whole (bounded) where a policy needs
/// them.

#include "gateway/exchange.h"

/// Takes the next run of the request's body, with what policies replace in it. Lent until the next call.
/// @return MOON_OK, MOON_AGAIN (moon_exchange_on_request_body follows), MOON_ERR_BODY_TOO_LARGE, or how
/// it broke
MUST_CHECK enum moon_rc moon_body_read_request(struct moon_exchange *x, struct moon_slice *data,
                                               bool *is_done);

/// Reads the request's body into memory. @return MOON_OK (it is whole), MOON_AGAIN
/// (moon_exchange_on_request_body goes on), MOON_ERR_BODY_TOO_LARGE, or how it broke
MUST_CHECK enum moon_rc moon_body_collect_request(struct moon_exchange *x);

/// The same for the backend's response. MOON_AGAIN: the call's on_body goes on.
MUST_CHECK enum moon_rc moon_body_collect_response(struct moon_exchange *x);

/// Goes on collecting a response that a policy or step waits for; resumes a waiting policy itself.
/// @return MOON_AGAIN while there is nothing for the steps to do
MUST_CHECK enum moon_rc moon_body_collect_more(struct moon_exchange *x);

/// Sends as much of the request's body to the backend as it takes.
void moon_body_pump_request(struct moon_exchange *x);

/// Whether the rest of a short answer is waited for, so that one that breaks becomes an error of the
/// gateway's rather than a cut answer. The call's on_body goes on.
MUST_CHECK bool moon_body_awaits_response(struct moon_exchange *x);

/// Sends the response's head, with the first of the body where that is here already.
MUST_CHECK enum moon_rc moon_body_send_head(struct moon_exchange *x);

/// @return true when the response is over, whole or not
MUST_CHECK bool moon_body_pump_response(struct moon_exchange *x);

/// The answer broke off behind its head: the client must see that.
void moon_body_cut(struct moon_exchange *x, enum moon_rc rc);

/// moon_ctx_ops.
enum moon_rc moon_body_ctx_request(struct moon_ctx *ctx, struct moon_slice *body);
enum moon_rc moon_body_ctx_response(struct moon_ctx *ctx, struct moon_slice *body);
enum moon_rc moon_body_ctx_set_request(struct moon_ctx *ctx, struct moon_slice body);
enum moon_rc moon_body_ctx_set_response(struct moon_ctx *ctx, struct moon_slice body);

/// The request's body broke while it was being forwarded (exchange.c).
void moon_exchange_body_failed(struct moon_exchange *x, enum moon_rc rc);
