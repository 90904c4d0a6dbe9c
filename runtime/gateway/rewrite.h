/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Texts that policies replace in bodies (http/replace.h): in what is kept at once, in what streams
/// while it passes.

#include "gateway/exchange.h"

/// moon_ctx_ops. The rules lie in the exchange's arena.
enum moon_rc moon_rewrite_ctx_request(struct moon_ctx *ctx, const struct moon_replace_rule *rules,
                                      size_t count);
enum moon_rc moon_rewrite_ctx_response(struct moon_ctx *ctx, const struct moon_replace_rule *rules,
                                       size_t count);
