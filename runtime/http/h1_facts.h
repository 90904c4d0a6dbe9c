/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What requests and responses have in common: the first line, the fields behind it, and what those
/// say about framing and the connection, gathered in the same pass.

#include "http/h1.h"

struct moon_h1_facts {
    unsigned hosts, lengths, codings, upgrades;  // lines of each
    size_t host_at;                              // index of the first Host
    struct moon_slice length, coding;            // values of the first lines
    bool has_close, has_keep_alive, has_upgrade; // options of Connection
    bool has_expect, has_other_expect;
    bool has_te_trailers;
    bool is_response;
};

/// @param line  without its CRLF. @return false when there is none
MUST_CHECK bool moon_h1_first_line(struct moon_slice head, struct moon_slice *line);

/// Reads field lines up to the empty line, which must end the head.
///
/// @param facts  zeroed but for is_response
/// @return MOON_OK, MOON_ERR_BAD_FIELD, MOON_ERR_HEAD_TOO_LARGE, MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_h1_parse_fields(struct moon_slice lines, struct moon_fields *fields,
                                             const struct moon_h1_limits *limits,
                                             struct moon_h1_facts *facts);

/// The one Content-Length: even equal repeats are refused (RFC 9110 §8.6 leaves it to us).
/// @return false when malformed or repeated
MUST_CHECK bool moon_h1_facts_length(const struct moon_h1_facts *facts, int64_t *length);

/// True for one Transfer-Encoding line that says "chunked" and nothing else.
bool moon_h1_facts_is_chunked(const struct moon_h1_facts *facts);
