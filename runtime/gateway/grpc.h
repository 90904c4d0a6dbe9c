/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// gRPC in transit: the caller's deadline, and errors that the gateway makes told as gRPC clients
/// understand them: HTTP 200 with grpc-status and grpc-message, where others get problem+json.

#include "gateway/exchange.h"

/// Looks at the request: is it a gRPC call, and by when does it want its answer? Arms the deadline.
void moon_grpc_start(struct moon_exchange *x);

/// A response that the gateway made becomes a "trailers only" one. Does nothing to others.
void moon_grpc_map_response(struct moon_exchange *x);

/// The response broke off behind its head: ends it with trailers that say so.
/// @return false where it can only be cut (HTTP/1.1, or no gRPC)
MUST_CHECK bool moon_grpc_cut(struct moon_exchange *x, enum moon_rc rc);
