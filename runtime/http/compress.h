/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Content codings for responses: gzip (zlib) and br (Brotli), as a filter that bytes go through, and
/// the choice between them by Accept-Encoding (RFC 9110 §12.5.3).

#include "base/buf.h"

enum moon_coding { MOON_CODING_NONE, MOON_CODING_GZIP, MOON_CODING_BROTLI };

struct moon_compress;

/// @param accept   value of Accept-Encoding, all lines joined; data NULL: there was none
/// @param offered  best first
/// @return the best that the client takes at least as gladly as the bytes as they are
enum moon_coding moon_coding_choose(struct moon_slice accept, const enum moon_coding *offered,
                                    size_t count);
struct moon_slice moon_coding_name(enum moon_coding coding);

/// @param level  of gzip (1-9) or of Brotli (0-11)
/// @return NULL when out of memory
struct moon_compress *moon_compress_new(enum moon_coding coding, int level);
void moon_compress_free(struct moon_compress *compress); // accepts NULL

/// Appends what `in` becomes to `out`, so that the receiver can decode all of it at once.
/// @return MOON_OK, MOON_ERR_LIMIT, MOON_ERR_MEMORY, MOON_ERR_INTERNAL
MUST_CHECK enum moon_rc moon_compress_run(struct moon_compress *compress, struct moon_slice in,
                                          bool is_last, struct moon_buf *out);
