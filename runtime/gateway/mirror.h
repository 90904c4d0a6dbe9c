/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Copies of requests for another backend (`mirror`): sent beside the real one, whose client never
/// waits for them; their answers are read and dropped. Requests whose body is not there in whole
/// when the call begins, or is longer than body_bytes, are not copied.

#include "gateway/exchange.h"

void moon_mirror_send(struct moon_exchange *x, const struct moon_mirror_conf *conf,
                      struct moon_slice target, struct moon_slice body, bool is_whole);

/// Ends those under way.
void moon_mirror_end_all(struct moon_gateway *gateway);
