/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// HTTP/1.1 (RFC 9112): bytes to messages and back. No I/O, no timers; strict where a proxy must
/// be: whatever two readers could understand differently is refused.
///
/// Reading a message: moon_h1_scan until the head is whole (it refuses early what can be refused),
/// copy the head into the arena, moon_h1_parse_request or _response, then moon_h1_body_next until
/// it is done.

#include "base/buf.h"
#include "http/message.h"

#include <sys/uio.h>

struct moon_h1_limits {
    size_t head_bytes;   // request or status line and fields together
    size_t uri_bytes;    // request-target
    size_t header_count; // field lines
};

/// Where a scan has come to; zeroed before each message.
struct moon_h1_scan {
    size_t at;         // bytes looked at
    size_t line_start; // of the current line
    size_t lines;      // complete lines so far
    bool is_response;
    bool is_line_checked; // the request line
    size_t line_len;      // its length, once it is whole
};

/// Looks for the end of the head in what has been received so far, resuming where it stopped.
///
/// @param in        everything received of this message (leading empty lines already skipped by
///                  moon_h1_skip_empty_lines)
/// @param head_len  length of the head with its final CRLFCRLF; written on MOON_OK
/// @return MOON_OK, MOON_AGAIN (needs more), or why the message is refused (bad bytes, bare LF or
///         CR, too large); a malformed request line is refused as soon as it is whole, unless the
///         whole head is there, which the parser looks at
MUST_CHECK enum moon_rc moon_h1_scan(struct moon_h1_scan *scan, struct moon_slice in,
                                     const struct moon_h1_limits *limits, size_t *head_len);

/// @return how many bytes of empty lines (CRLF, at most one; RFC 9112 §2.2) stand before a request
size_t moon_h1_skip_empty_lines(struct moon_slice in);

/// Parses a whole head. The request borrows `head`, which must live as long as the arena.
/// Everything that decides framing is checked: Host, Content-Length, Transfer-Encoding.
///
/// @param is_tls  decides the scheme of origin-form targets
/// @return MOON_OK, or the reason for refusing
MUST_CHECK enum moon_rc moon_h1_parse_request(struct moon_request *request, struct moon_slice head,
                                              const struct moon_h1_limits *limits, bool is_tls);

/// Reads of a refused head what can be read: for rules and logs, never to be forwarded. What is
/// not understood stays empty; the path is "/" then. The request borrows `head`.
void moon_h1_glimpse(struct moon_request *request, struct moon_slice head);

/// @param method  of the request it answers
/// @return MOON_OK, or MOON_ERR_UPSTREAM_PROTOCOL; 1xx answers are returned like others
MUST_CHECK enum moon_rc moon_h1_parse_response(struct moon_response *response,
                                               struct moon_slice head, enum moon_method method,
                                               const struct moon_h1_limits *limits);

/// A body on its way in.
struct moon_h1_body {
    enum moon_framing framing;
    int state;              // of the chunked coding
    uint64_t left;          // of the body (LENGTH) or of the chunk (CHUNKED)
    uint64_t total;         // payload bytes so far
    size_t extension_bytes; // of the current chunk line, bounded
    size_t trailer_bytes, trailer_count;
    struct moon_fields *trailers; // where trailer fields go; NULL drops them
    struct moon_buf trailer_line;
    bool is_done;
    bool is_response; // errors read as the upstream's
};

void moon_h1_body_init(struct moon_h1_body *body, enum moon_framing framing, int64_t content_length,
                       struct moon_fields *trailers, bool is_response);

/// Needed only for a body that is given up before its end or an error: those free what it holds.
void moon_h1_body_fini(struct moon_h1_body *body);

/// Takes the next run of payload out of `in`.
///
/// @param used  bytes of `in` that are done with, payload included
/// @param data  payload, pointing into `in`; may be empty
/// @return MOON_OK (data and used are written; look at is_done), MOON_AGAIN (nothing more in `in`;
///         used is written), MOON_ERR_BAD_CHUNK, MOON_ERR_BAD_TRAILER, MOON_ERR_HEAD_TOO_LARGE,
///         for responses MOON_ERR_UPSTREAM_PROTOCOL
MUST_CHECK enum moon_rc moon_h1_body_next(struct moon_h1_body *body, struct moon_slice in,
                                          size_t *used, struct moon_slice *data);

/// The connection closed: is the body whole? @return MOON_OK (CLOSE framing, or done), else
/// MOON_ERR_CLIENT_CLOSED or MOON_ERR_UPSTREAM_TRUNCATED
MUST_CHECK enum moon_rc moon_h1_body_eof(struct moon_h1_body *body);

/// Looks at what stands in front of the body without taking it. @return MOON_OK (its end is in `in`),
/// MOON_AGAIN (more must come), or how it breaks
MUST_CHECK enum moon_rc moon_h1_body_look(const struct moon_h1_body *body, struct moon_slice in);

/// Writes a request head for an upstream: request line (method, path, query), fields as they are,
/// framing fields from `request->framing` and `content_length`, final empty line. Host is written
/// first. Names and values were checked by whoever added them.
///
/// @return MOON_OK, MOON_ERR_BAD_TARGET (empty, or not all visible ASCII), MOON_ERR_LIMIT,
///         MOON_ERR_MEMORY; nothing is written then
MUST_CHECK enum moon_rc moon_h1_write_request(struct moon_buf *out,
                                              const struct moon_request *request,
                                              struct moon_slice target, bool keep_alive);

/// Writes a response head for a client: status line, fields, framing, Connection where needed.
/// @param client_minor  the client's HTTP/1 minor version: chunked is not used towards 1.0
MUST_CHECK enum moon_rc moon_h1_write_response(struct moon_buf *out,
                                               const struct moon_response *response,
                                               enum moon_method method, int client_minor,
                                               bool keep_alive);

/// "1f4\r\n" into `into`. @return its length (at most 18)
size_t moon_h1_chunk_line(uint64_t len, char into[20]);

/// What goes out in one write: a head, a run of the body as its framing wants it, the body's end.
struct moon_h1_run {
    struct iovec iov[5];
    int count;
    char line[20];        // of the chunk
    struct moon_buf tail; // last chunk and trailers
};

/// @param head, data  borrowed until the run was written; either may be empty
/// @param trailers    behind the last chunk; NULL: none
/// @return MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_h1_run_init(struct moon_h1_run *run, struct moon_slice head,
                                         struct moon_slice data, bool is_chunked, bool is_last,
                                         const struct moon_fields *trailers);
void moon_h1_run_fini(struct moon_h1_run *run); // after a failure, too

/// Last chunk, trailers and final CRLF.
MUST_CHECK enum moon_rc moon_h1_write_last_chunk(struct moon_buf *out,
                                                 const struct moon_fields *trailers);
