/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the files of HTTP/2 share: h2.c (the connection), h2_request.c (heads coming in),
/// h2_response.c (heads going out), h2_guard.c (what a client may make us do for nothing).

#include "http/h2.h"

#include <nghttp2/nghttp2.h>

enum {
    H2_FRAME_HEAD_BYTES = 9,
    H2_GUARD_STREAMS = 1024, // the newest, whose states the guard remembers
};

enum h2_frame_type { // RFC 9113 §6
    H2_DATA,
    H2_HEADERS,
    H2_PRIORITY,
    H2_RST_STREAM,
    H2_SETTINGS,
    H2_PUSH_PROMISE,
    H2_PING,
    H2_GOAWAY,
    H2_WINDOW_UPDATE,
    H2_CONTINUATION,
};

/// Reads the frame heads that go by, before nghttp2 does.
struct h2_guard {
    size_t magic_left;   // of the client's preface
    size_t payload_left; // of the frame under way
    size_t head_len;     // bytes of `head` that are here
    uint8_t head[H2_FRAME_HEAD_BYTES];
    uint8_t type; // of the frame under way
    uint64_t frames;
    bool is_block_open; // HEADERS without END_HEADERS
    struct moon_h2_bucket control, resets;
    uint32_t code;    // of the error that was found
    uint32_t last_id; // newest stream
    uint8_t opened[H2_GUARD_STREAMS / 8], ended[H2_GUARD_STREAMS / 8]; // by the client; bit sets
    uint32_t id;             // of the frame whose payload is passing
    uint32_t dependency;     // of a PRIORITY frame, as far as it has come
    unsigned dependency_len; // its bytes: 0 to 4
};

enum { H2_COMPLAINT_BYTES = 120 };

struct moon_h2 {
    nghttp2_session *session;
    moon_h2_open_fn *open;
    void *owner;
    struct moon_h2_limits limits;
    struct moon_list ready; // streams with events
    struct moon_buf *out;   // of the present moon_h2_produce
    size_t out_most;
    struct h2_guard guard;
    const char *failure;
    char complaint[H2_COMPLAINT_BYTES]; // what nghttp2 said last of a field that it refused
    int32_t complaint_id;               // of its stream; 0: nothing was said
    int32_t head_id;                    // of the header block that is read
    bool is_tls;
    bool is_final_sent; // GOAWAY, the last one
    bool is_failed;     // nghttp2 gave up, or memory is short
};

struct moon_h2_trailers {
    size_t count;
    nghttp2_nv items[];
};

void h2_guard_init(struct h2_guard *guard);

/// @return NULL, or what there is too much of or what is wrong; guard->code says how to tell it
const char *h2_guard_receive(struct h2_guard *guard, struct moon_slice bytes);
/// A useful frame went out, or a stream came to a good end: that earns room for more.
void h2_guard_sent_data(struct h2_guard *guard);
void h2_guard_completed(struct h2_guard *guard);
/// The client made us reset a stream. @return as above
const char *h2_guard_sent_reset(struct h2_guard *guard);

/// One field of a request's head. Notes in stream->head_rc what is wrong.
/// @return false where the stream must be reset at once
MUST_CHECK bool h2_request_field(struct moon_h2_stream *stream, struct moon_slice name,
                                 struct moon_slice value);
/// One trailer field.
MUST_CHECK bool h2_request_trailer(struct moon_h2_stream *stream, struct moon_slice name,
                                   struct moon_slice value);
/// The head is whole: framing, authority, path.
void h2_request_complete(struct moon_h2_stream *stream, bool is_ended);

enum { H2_MOST_FIELDS = 512 };

/// Fills `nva` with a response's head. @return how many, 0 where there are too many
size_t h2_response_fields(nghttp2_nv nva[H2_MOST_FIELDS], const struct moon_response *response,
                          enum moon_method method, char status[4], char digits[20]);
/// Fields only, nothing of framing. @return how many were added
size_t h2_response_add(nghttp2_nv *nva, size_t room, const struct moon_fields *fields);
/// A copy that stands alone; NULL when out of memory. Freed with free().
struct moon_h2_trailers *h2_response_trailers(const struct moon_fields *fields);
