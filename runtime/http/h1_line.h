/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The request line, checked as far as it has arrived. The scan calls it on a prefix, the parser on
/// the whole; the first byte that offends decides, so both answer the same.

#include "http/h1.h"

struct moon_h1_line {
    struct moon_slice method;
    struct moon_slice target;
    int minor; // of HTTP/1.x
};

/// @param text      the line without its CRLF
/// @param is_whole  the CRLF has been seen
/// @param line      written on MOON_OK
/// @return MOON_OK (only where is_whole), MOON_AGAIN (nothing wrong so far), or why it is refused
MUST_CHECK enum moon_rc moon_h1_check_line(struct moon_slice text, bool is_whole, size_t uri_bytes,
                                           struct moon_h1_line *line);
