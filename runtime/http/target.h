/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What a request is for, filled in the same way for HTTP/1.1 and HTTP/2.

#include "http/message.h"

/// request->host: lower case, without the final dot; a copy only where that changes bytes.
/// @param host  of the authority, without its port
MUST_CHECK enum moon_rc moon_target_set_host(struct moon_request *request, struct moon_slice host);

/// Cuts "/path?query" into path_raw and query.
void moon_target_split(struct moon_request *request, struct moon_slice target);

/// What a request that is refused was for, as far as that can be read: host, path ("/" where it is
/// malformed), query.
void moon_target_glimpse(struct moon_request *request, struct moon_slice authority);

/// request->path from path_raw: the normal form, "*", or nothing for CONNECT.
MUST_CHECK enum moon_rc moon_target_set_path(struct moon_request *request);
