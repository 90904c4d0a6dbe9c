/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// SHA-256 for the runtime's own needs (subscription keys are kept and compared as digests).

#include "base/slice.h"

enum { MOON_DIGEST_BYTES = 32 };

/// Has the library read what it needs of its own, which takes a millisecond: processes that are forked
/// afterwards need not do it again.
void moon_digest_prepare(void);

void moon_digest_sha256(struct moon_slice bytes, uint8_t out[MOON_DIGEST_BYTES]);
