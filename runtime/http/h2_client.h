/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// HTTP/2 with backends (RFC 9113), the client's side, by nghttp2: bytes in, events out, bytes out. No
/// I/O and no timers. The counterpart of http/h2.h, and used like it: give bytes to
/// moon_h2c_receive, take events with moon_h2c_next, send what moon_h2c_produce gives.
///
/// A stream holds at most its window of a response that its owner does not read, and of the request
/// what the backend's window did not take.
///
/// Thread: one worker.

#include "base/buf.h"
#include "base/list.h"
#include "http/message.h"

struct moon_h2c;

struct moon_h2c_limits {
    size_t head_bytes, header_count;
    uint32_t stream_window_bytes, connection_window_bytes;
};

enum moon_h2c_event {
    MOON_H2C_HEAD = 1,     // the final response head is whole; see head_rc
    MOON_H2C_BODY = 2,     // moon_h2c_read has more, or the end
    MOON_H2C_WRITABLE = 4, // what was taken of the request is on its way
    MOON_H2C_CLOSED = 8,   // the stream is over; close_code says why
    MOON_H2C_INTERIM = 16, // moon_h2c_interim has an answer before the final one
};

/// An interim answer (1xx) that was not told yet. Arena of the response.
struct moon_h2c_interim {
    struct moon_response response;
    struct moon_h2c_interim *next;
};

/// One request and its answer. Lies in the owner's struct; zeroed by moon_h2c_request.
struct moon_h2c_stream {
    struct moon_list link; // in the list of those with events
    struct moon_h2c *h2;
    struct moon_response *response;     // the owner's
    struct moon_arena *arena;           // of the response
    const struct moon_fields *trailers; // of the request, while it is written; may be NULL
    enum moon_method method;
    int32_t id;
    unsigned events;
    uint32_t close_code;  // RFC 9113 §7
    enum moon_rc head_rc; // MOON_OK, or what is wrong with the head
    size_t head_bytes;
    struct moon_h2c_interim *interim; // those that wait, the first first
    int interim_count;                // all that came
    bool is_head_whole;
    bool is_in_ended;    // END_STREAM has come
    bool is_out_last;    // nothing comes behind `out`
    bool is_out_ended;   // END_STREAM went out
    bool is_deferred;    // nghttp2 waits for moon_h2c_write
    bool is_closed;      // nghttp2 has forgotten it
    struct moon_buf in;  // body not read yet
    size_t lent;         // of `in`, behind what moon_h2c_read gave out
    struct moon_buf out; // request body that the windows did not take yet
};

MUST_CHECK enum moon_rc moon_h2c_new(const struct moon_h2c_limits *limits, struct moon_h2c **out);

/// Streams must have been given back with moon_h2c_leave before.
void moon_h2c_free(struct moon_h2c *h2); // accepts NULL

/// Takes what the backend sent. @return MOON_OK, MOON_ERR_UPSTREAM_PROTOCOL, MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_h2c_receive(struct moon_h2c *h2, struct moon_slice bytes);

/// The next stream with something to tell; NULL when there is none.
struct moon_h2c_stream *moon_h2c_next(struct moon_h2c *h2, unsigned *events);

/// Appends to `out` what is to be sent, until that holds about `most` bytes.
MUST_CHECK enum moon_rc moon_h2c_produce(struct moon_h2c *h2, struct moon_buf *out, size_t most);

/// How many more streams may be begun: none after GOAWAY.
size_t moon_h2c_room(const struct moon_h2c *h2);

/// True where the backend broke the protocol: the connection is over, and its streams are told nothing.
bool moon_h2c_is_broken(const struct moon_h2c *h2);

/// True while there is a reason to keep the connection.
bool moon_h2c_is_open(const struct moon_h2c *h2);

/// The next interim answer, 100 excepted; NULL when there is none. Lives as long as the response.
const struct moon_response *moon_h2c_interim(struct moon_h2c_stream *stream);

/// Begins a stream. The head is copied. @param data  first of the body; copied
/// @return MOON_OK, MOON_ERR_LIMIT (too many fields, or no room), MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_h2c_request(struct moon_h2c *h2, struct moon_h2c_stream *stream,
                                         struct moon_response *response, struct moon_arena *arena,
                                         const struct moon_request *request,
                                         struct moon_slice authority, struct moon_slice path,
                                         struct moon_slice data, bool is_last);

/// Sends more of the body. @return MOON_OK, MOON_AGAIN (taken; MOON_H2C_WRITABLE follows),
/// MOON_ERR_IO (the stream is over), MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_h2c_write(struct moon_h2c_stream *stream, struct moon_slice data,
                                       bool is_last, const struct moon_fields *trailers);

/// Next run of the response's body; the window opens by what was read before. Lent until the next
/// call. @return MOON_OK, MOON_AGAIN, MOON_ERR_UPSTREAM_TRUNCATED
MUST_CHECK enum moon_rc moon_h2c_read(struct moon_h2c_stream *stream, struct moon_slice *data,
                                      bool *is_done);

/// The owner has no more interest; what is not over is reset with CANCEL. The struct may go.
void moon_h2c_leave(struct moon_h2c_stream *stream);
