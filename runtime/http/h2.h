/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// HTTP/2 with clients (RFC 9113), the server's side, by nghttp2: bytes in, events out, bytes out.
/// No I/O and no timers, so that a fuzzer can drive it.
///
/// The owner gives bytes to moon_h2_receive, takes events with moon_h2_next until there are none,
/// and what is to be sent with moon_h2_produce. Nothing calls back into the owner but `open`, so a
/// stream may be answered, reset or released at any time in between.
///
/// Memory of a stream: the request's head in the owner's arena (bounded by the limits), the body not
/// read yet (at most stream_window_bytes; the window opens only as the owner reads), and the run of
/// the response that the client's window did not take.
///
/// Thread: one worker.

#include "base/buf.h"
#include "base/list.h"
#include "http/message.h"

struct moon_h2;

struct moon_h2_limits {
    size_t head_bytes, uri_bytes, header_count;
    uint32_t streams; // at the same time
    uint32_t stream_window_bytes, connection_window_bytes;
};

enum moon_h2_event {
    MOON_H2_HEAD = 1,     // request head is whole, or refused for stream->head_rc
    MOON_H2_BODY = 2,     // moon_h2_read has more, or the end
    MOON_H2_WRITABLE = 4, // what was taken of the response is on its way
    MOON_H2_CLOSED = 8,   // the stream is over; stream->close_code says why
};

/// What the client may make us do for nothing before the connection is ended: a bucket for each kind
/// that fills with time and with useful work.
struct moon_h2_bucket {
    int64_t left, filled_at_ms;
};

/// One request and its answer. Lies in the owner's struct; zero it before `open` returns it.
struct moon_h2_stream {
    struct moon_list link; // in h2's list of those with events
    struct moon_h2 *h2;
    struct moon_request *request; // the owner's; NULL: nobody wants the rest
    int32_t id;
    unsigned events;
    uint32_t close_code;
    enum moon_rc head_rc;               // MOON_OK, or why the request is refused
    size_t head_bytes;                  // RFC 9113 §6.5.2: 32 more for each field
    struct moon_slice scheme, protocol; // pseudo-fields; arena
    bool is_head_whole;
    bool is_in_ended;      // END_STREAM has come
    bool is_answered;      // the final head was written
    bool is_out_last;      // nothing comes behind `out`
    bool is_out_ended;     // END_STREAM went out
    bool is_deferred;      // nghttp2 waits for moon_h2_write_body
    bool is_reset_by_us;   // RST_STREAM went out, for a reason
    bool is_closed;        // nghttp2 has forgotten it
    struct moon_buf in;    // body not read yet
    size_t lent;           // of `in`, behind what moon_h2_read gave out
    struct moon_buf out;   // response body that the windows did not take yet
    struct moon_slice now; // lent by moon_h2_write_* while it runs; empty while `out` is not
    struct moon_h2_trailers *trailers;
    uint64_t sent_bytes; // of the response's body
};

/// Gives the place for a new request: a zeroed stream whose `request` is initialised with an arena.
/// @return NULL: the stream is refused (REFUSED_STREAM)
typedef struct moon_h2_stream *moon_h2_open_fn(void *owner);

MUST_CHECK enum moon_rc moon_h2_new(const struct moon_h2_limits *limits, bool is_tls,
                                    moon_h2_open_fn *open, void *owner, struct moon_h2 **out);

/// Streams that are left must have been given back with moon_h2_fini_stream before.
void moon_h2_free(struct moon_h2 *h2); // accepts NULL

/// Takes what the client sent.
/// @return MOON_OK, or MOON_ERR_H2_PROTOCOL, MOON_ERR_MEMORY: send what moon_h2_produce gives, close
MUST_CHECK enum moon_rc moon_h2_receive(struct moon_h2 *h2, struct moon_slice bytes);

/// The next stream with something to tell; NULL when there is none. Its events are the owner's now.
struct moon_h2_stream *moon_h2_next(struct moon_h2 *h2, unsigned *events);

bool moon_h2_has_events(const struct moon_h2 *h2);

/// Appends to `out` what is to be sent, until that holds about `most` bytes.
MUST_CHECK enum moon_rc moon_h2_produce(struct moon_h2 *h2, struct moon_buf *out, size_t most);

/// True while there is a reason to keep the connection: false after GOAWAY when all is done.
bool moon_h2_is_open(const struct moon_h2 *h2);

/// True between the first and the last byte of a frame other than DATA, or of a header block.
bool moon_h2_is_within_frame(const struct moon_h2 *h2);

/// Frames that have come so far, but for CONTINUATION.
uint64_t moon_h2_frames(const struct moon_h2 *h2);

/// Why the connection was ended by us; NULL: it was not. Static text.
const char *moon_h2_failure(const struct moon_h2 *h2);

/// Which field had a stream reset for its form, in nghttp2's words; empty where that is not known (any
/// more). Lent: until the next moon_h2_receive.
struct moon_slice moon_h2_complaint(const struct moon_h2_stream *stream);

/// GOAWAY in two steps (RFC 9113 §6.8): the notice lets streams under way arrive; the final one
/// names the last that is answered.
void moon_h2_notice(struct moon_h2 *h2);
void moon_h2_go_away(struct moon_h2 *h2);

/// GOAWAY now, whatever goes on.
void moon_h2_stop(struct moon_h2 *h2);

/// Next run of the request's body; the window opens by what was read before. Lent until the next
/// call. @return MOON_OK, MOON_AGAIN (MOON_H2_BODY follows), MOON_ERR_CLIENT_CLOSED
MUST_CHECK enum moon_rc moon_h2_read(struct moon_h2_stream *stream, struct moon_slice *data,
                                     bool *is_done);

/// Sends an interim (1xx) head.
void moon_h2_write_interim(struct moon_h2_stream *stream, int status,
                           const struct moon_fields *fields);

/// Sends the response's head, with the first of its body behind it. What the client's windows or
/// `out` of moon_h2_produce do not take now is copied.
///
/// @param out  the connection's; filled up to `most`
/// @return MOON_OK, MOON_AGAIN (taken; MOON_H2_WRITABLE follows), MOON_ERR_IO (the stream is over),
///         MOON_ERR_LIMIT, MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_h2_write_head(struct moon_h2_stream *stream,
                                           const struct moon_response *response,
                                           struct moon_slice data, bool is_last,
                                           struct moon_buf *out, size_t most);
MUST_CHECK enum moon_rc moon_h2_write_body(struct moon_h2_stream *stream, struct moon_slice data,
                                           bool is_last, const struct moon_fields *trailers,
                                           struct moon_buf *out, size_t most);

/// Whether the client's windows let more of the stream out.
bool moon_h2_has_window(const struct moon_h2_stream *stream);

/// Resets the stream; MOON_H2_CLOSED follows. @param code  RFC 9113 §7
void moon_h2_reset(struct moon_h2_stream *stream, uint32_t code);

/// The owner has no more interest: the request (and its arena) may go. What was taken of the
/// response is still sent. MOON_H2_CLOSED follows where is_closed is not set yet.
void moon_h2_leave(struct moon_h2_stream *stream);

/// Frees what the stream holds. After MOON_H2_CLOSED, or before moon_h2_free.
void moon_h2_fini_stream(struct moon_h2_stream *stream);

/// Starts of the connection that stand for HTTP/2 (RFC 9113 §3.4). @return MOON_OK (it is the whole
/// preface), MOON_AGAIN (what there is of it fits), MOON_ERR_H2_PROTOCOL (it is something else)
MUST_CHECK enum moon_rc moon_h2_match_preface(struct moon_slice bytes);

enum { // RFC 9113 §7; those that owners use
    MOON_H2_NO_ERROR = 0,
    MOON_H2_PROTOCOL_ERROR = 1,
    MOON_H2_INTERNAL_ERROR = 2,
    MOON_H2_REFUSED_STREAM = 7,
    MOON_H2_CANCEL = 8,
};
