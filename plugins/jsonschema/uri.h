/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// References to schemas: RFC 3986's resolution, on texts.

#include "moongate/types.h"

#include "jsonschema/memory.h"

/// Resolves a reference against a base (which may be empty). Without its fragment; `fragment` gets
/// that, still encoded, lent of `reference`. `data` is NULL where no memory is left.
struct moon_slice jsc_uri_resolve(struct jsc_memory *m, struct moon_slice base,
                                  struct moon_slice reference, struct moon_slice *fragment);

/// Decodes %XX in place. @return the new length
size_t jsc_uri_decode(char *text, size_t len);
