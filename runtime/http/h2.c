/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h2.h"

#include "http/h2_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    H2_MOST_CONTINUATIONS = 8,
    H2_MOST_SETTINGS = 32,        // entries of one frame
    H2_MOST_HEAD_BYTES = 1 << 20, // of an answer, whose own limit is the backend's
    H2_OUT_CEILING = 1 << 20,
};

static const char h2_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum moon_rc moon_h2_match_preface(struct moon_slice bytes)
{
    const size_t whole = sizeof(h2_preface) - 1;
    size_t n = bytes.len < whole ? bytes.len : whole;
    if (n > 0 && memcmp(bytes.data, h2_preface, n) != 0)
        return MOON_ERR_H2_PROTOCOL;
    return n == whole ? MOON_OK : MOON_AGAIN;
}

static void h2_tell(struct moon_h2_stream *stream, unsigned event)
{
    if (stream->events == 0)
        moon_list_push_back(&stream->h2->ready, &stream->link);
    stream->events |= event;
}

struct moon_h2_stream *moon_h2_next(struct moon_h2 *h2, unsigned *events)
{
    if (moon_list_is_empty(&h2->ready))
        return NULL;
    struct moon_h2_stream *stream = MOON_LIST_ENTRY(h2->ready.next, struct moon_h2_stream, link);
    moon_list_remove(&stream->link);
    *events = stream->events;
    stream->events = 0;
    return stream;
}

static struct moon_h2_stream *h2_stream(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static void h2_fail(struct moon_h2 *h2, const char *why)
{
    if (h2->failure != NULL)
        return;
    h2->failure = why;
    h2->is_failed = nghttp2_session_terminate_session(h2->session, h2->guard.code) != 0;
}

static int h2_on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct moon_h2 *h2 = user;
    h2->head_id = frame->hd.stream_id;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct moon_h2_stream *stream = h2->open(h2->owner);
    if (stream == NULL)
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                         NGHTTP2_REFUSED_STREAM);
    stream->h2 = h2;
    stream->id = frame->hd.stream_id;
    moon_list_init(&stream->link);
    moon_buf_init(&stream->in, h2->limits.stream_window_bytes + MOON_BUF_BLOCK_BYTES);
    moon_buf_init(&stream->out, SIZE_MAX / 2); // bounded by the run that the owner gives
    return nghttp2_session_set_stream_user_data(session, stream->id, stream);
}

// Values are left out: they may be secret.
static int h2_on_error(nghttp2_session *session, int code, const char *text, size_t len, void *user)
{
    struct moon_h2 *h2 = user;
    (void)session;
    if (code != NGHTTP2_ERR_HTTP_HEADER)
        return 0;
    const char *value = memmem(text, len, ", value:", 8);
    struct moon_slice kept = moon_slice(text, value != NULL ? (size_t)(value - text) : len);
    kept.len = moon_min_size(kept.len, sizeof(h2->complaint) - 1);
    memcpy(h2->complaint, kept.data, kept.len);
    h2->complaint[kept.len] = '\0';
    h2->complaint_id = h2->head_id;
    return 0;
}

struct moon_slice moon_h2_complaint(const struct moon_h2_stream *stream)
{
    const struct moon_h2 *h2 = stream->h2;
    return moon_slice_text(h2->complaint_id == stream->id ? h2->complaint : "");
}

static int h2_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                        size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                        void *user)
{
    (void)flags;
    (void)user;
    struct moon_h2_stream *stream = h2_stream(session, frame->hd.stream_id);
    if (stream == NULL)
        return 0;
    struct moon_slice n = moon_slice((const char *)name, name_len);
    struct moon_slice v = moon_slice((const char *)value, value_len);
    bool is_good = frame->headers.cat == NGHTTP2_HCAT_REQUEST ? h2_request_field(stream, n, v)
                                                              : h2_request_trailer(stream, n, v);
    if (is_good || stream->head_rc == MOON_ERR_H2_PROTOCOL)
        return 0;
    stream->head_rc = MOON_ERR_H2_PROTOCOL;
    return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                     NGHTTP2_PROTOCOL_ERROR) == 0
               ? 0
               : NGHTTP2_ERR_CALLBACK_FAILURE;
}

// A field that is not valid would be passed over: the request is refused instead.
static int h2_on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                                const uint8_t *name, size_t name_len, const uint8_t *value,
                                size_t value_len, uint8_t flags, void *user)
{
    (void)session, (void)frame, (void)name, (void)name_len;
    (void)value, (void)value_len, (void)flags, (void)user;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    bool is_headers = frame->hd.type == NGHTTP2_HEADERS;
    if (!is_headers && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct moon_h2_stream *stream = h2_stream(session, frame->hd.stream_id);
    if (stream == NULL)
        return 0;
    bool is_ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (is_headers && !stream->is_head_whole) {
        stream->is_head_whole = true;
        stream->is_in_ended = is_ended;
        h2_request_complete(stream, is_ended);
        h2_tell(stream, MOON_H2_HEAD);
    } else if (is_ended) {
        stream->is_in_ended = true;
        h2_tell(stream, MOON_H2_BODY);
    }
    return 0;
}

static int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                      size_t len, void *user)
{
    (void)flags;
    (void)user;
    struct moon_h2_stream *stream = h2_stream(session, id);
    if (stream == NULL || stream->request == NULL || stream->is_closed)
        return nghttp2_session_consume(session, id, len);
    enum moon_rc rc = moon_buf_append(&stream->in, moon_slice((const char *)data, len));
    if (rc != MOON_OK) // out of memory: the window bounds the rest
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
    h2_tell(stream, MOON_H2_BODY);
    return 0;
}

// What was received and never read must not stay charged to the connection's window.
static void h2_drop_in(struct moon_h2_stream *stream)
{
    size_t n = moon_buf_len(&stream->in);
    if (n > 0 && !stream->is_closed)
        (void)nghttp2_session_consume(stream->h2->session, stream->id, n);
    else if (n > 0)
        (void)nghttp2_session_consume_connection(stream->h2->session, n);
    moon_buf_clear(&stream->in);
    moon_buf_relax(&stream->in);
    stream->lent = 0;
}

static int h2_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct moon_h2 *h2 = user;
    struct moon_h2_stream *stream = h2_stream(session, id);
    if (stream == NULL)
        return 0;
    if (code == NGHTTP2_NO_ERROR && stream->is_out_ended)
        h2_guard_completed(&h2->guard);
    stream->is_closed = true;
    stream->close_code = code;
    // What came whole is still read; the rest of a body that was cut is not.
    if (!stream->is_in_ended || code != NGHTTP2_NO_ERROR)
        h2_drop_in(stream);
    h2_tell(stream, MOON_H2_CLOSED);
    return 0;
}

static int h2_on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct moon_h2 *h2 = user;
    struct moon_h2_stream *stream;
    const char *excess;
    switch (frame->hd.type) {
    case NGHTTP2_DATA:
        h2_guard_sent_data(&h2->guard);
        __attribute__((fallthrough));
    case NGHTTP2_HEADERS:
        stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0
                     ? h2_stream(session, frame->hd.stream_id)
                     : NULL;
        if (stream != NULL)
            stream->is_out_ended = true;
        return 0;
    case NGHTTP2_RST_STREAM:
        if (frame->rst_stream.error_code == NGHTTP2_NO_ERROR)
            return 0;
        stream = h2_stream(session, frame->hd.stream_id);
        if (stream != NULL)
            stream->is_reset_by_us = true;
        excess = h2_guard_sent_reset(&h2->guard);
        if (excess != NULL)
            h2_fail(h2, excess);
        return 0;
    case NGHTTP2_GOAWAY:
        if (frame->goaway.error_code != NGHTTP2_NO_ERROR && h2->failure == NULL)
            h2->failure = nghttp2_http2_strerror(frame->goaway.error_code);
        return 0;
    default:
        return 0;
    }
}

static size_t h2_out_left(const struct moon_h2_stream *stream)
{
    return stream->now.len > 0 ? stream->now.len : moon_buf_len(&stream->out);
}

static ssize_t h2_read_source(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                              uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct moon_h2_stream *stream = source->ptr;
    size_t left = h2_out_left(stream);
    (void)buf;
    (void)user;
    if (left == 0 && !stream->is_out_last) {
        stream->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    size_t n = left < length ? left : length;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == left && stream->is_out_last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->trailers != NULL) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(session, id, stream->trailers->items,
                                       stream->trailers->count) != 0)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
            free(stream->trailers);
            stream->trailers = NULL;
        }
    }
    return (ssize_t)n;
}

static int h2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t length, nghttp2_data_source *source, void *user)
{
    struct moon_h2 *h2 = user;
    struct moon_h2_stream *stream = source->ptr;
    (void)session;
    MOON_ASSERT(frame->data.padlen == 0); // we pad nothing
    if (moon_buf_reserve(h2->out, H2_FRAME_HEAD_BYTES + length) != MOON_OK)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    char *at = h2->out->data + h2->out->end;
    memcpy(at, head, H2_FRAME_HEAD_BYTES);
    const char *from = stream->now.len > 0 ? stream->now.data : moon_buf_slice(&stream->out).data;
    if (length > 0 && from != NULL)
        memcpy(at + H2_FRAME_HEAD_BYTES, from, length);
    moon_buf_wrote(h2->out, H2_FRAME_HEAD_BYTES + length);
    stream->sent_bytes += length;
    if (stream->now.len > 0) {
        stream->now = moon_slice_from(stream->now, length);
    } else if (length > 0) {
        moon_buf_consume(&stream->out, length);
        if (moon_buf_len(&stream->out) == 0) {
            moon_buf_relax(&stream->out);
            h2_tell(stream, MOON_H2_WRITABLE);
        }
    }
    return 0;
}

static nghttp2_session_callbacks *h2_callbacks;
static nghttp2_option *h2_option;

// Once per process; both are only read from then on.
static bool h2_prepare(void)
{
    if (h2_option != NULL)
        return true;
    if (nghttp2_session_callbacks_new(&h2_callbacks) != 0 || nghttp2_option_new(&h2_option) != 0)
        return false;
    nghttp2_session_callbacks *c = h2_callbacks;
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, h2_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, h2_on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(c, h2_on_invalid_header);
    nghttp2_session_callbacks_set_error_callback2(c, h2_on_error);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, h2_on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, h2_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, h2_on_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, h2_on_sent);
    nghttp2_session_callbacks_set_send_data_callback(c, h2_send_data);
    nghttp2_option_set_no_auto_window_update(h2_option, 1);
    nghttp2_option_set_no_closed_streams(h2_option, 1);
    nghttp2_option_set_max_continuations(h2_option, H2_MOST_CONTINUATIONS);
    nghttp2_option_set_max_settings(h2_option, H2_MOST_SETTINGS);
    nghttp2_option_set_max_send_header_block_length(h2_option, H2_MOST_HEAD_BYTES);
    // Ours comes first, and says why; this one is behind it.
    nghttp2_option_set_stream_reset_rate_limit(h2_option, 1000, 100);
    return true;
}

static bool h2_submit_settings(struct moon_h2 *h2)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, h2->limits.streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h2->limits.stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)h2->limits.head_bytes},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    return nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
                                   sizeof(settings) / sizeof(settings[0])) == 0 &&
           nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)h2->limits.connection_window_bytes) == 0;
}

enum moon_rc moon_h2_new(const struct moon_h2_limits *limits, bool is_tls, moon_h2_open_fn *open,
                         void *owner, struct moon_h2 **out)
{
    struct moon_h2 *h2 = calloc(1, sizeof(*h2));
    if (h2 == NULL)
        return MOON_ERR_MEMORY;
    h2->limits = *limits;
    h2->is_tls = is_tls;
    h2->open = open;
    h2->owner = owner;
    moon_list_init(&h2->ready);
    h2_guard_init(&h2->guard);
    if (!h2_prepare() ||
        nghttp2_session_server_new2(&h2->session, h2_callbacks, h2, h2_option) != 0 ||
        !h2_submit_settings(h2)) {
        moon_h2_free(h2);
        return MOON_ERR_MEMORY;
    }
    *out = h2;
    return MOON_OK;
}

void moon_h2_free(struct moon_h2 *h2)
{
    if (h2 == NULL)
        return;
    nghttp2_session_del(h2->session);
    free(h2);
}

enum moon_rc moon_h2_receive(struct moon_h2 *h2, struct moon_slice bytes)
{
    if (h2->is_failed)
        return MOON_ERR_H2_PROTOCOL;
    if (h2->failure != NULL)
        return MOON_OK; // passed over: GOAWAY is on its way
    const char *excess = h2_guard_receive(&h2->guard, bytes);
    if (excess != NULL) {
        h2_fail(h2, excess);
        return MOON_OK;
    }
    ssize_t used = nghttp2_session_mem_recv(h2->session, (const uint8_t *)bytes.data, bytes.len);
    if (used == NGHTTP2_ERR_NOMEM) {
        h2->is_failed = true;
        return MOON_ERR_MEMORY;
    }
    if (used < 0) {
        h2->is_failed = true;
        h2->failure = nghttp2_strerror((int)used);
        return MOON_ERR_H2_PROTOCOL;
    }
    return MOON_OK;
}

enum moon_rc moon_h2_produce(struct moon_h2 *h2, struct moon_buf *out, size_t most)
{
    enum moon_rc rc = MOON_OK;
    h2->out = out;
    while (rc == MOON_OK && moon_buf_len(out) < most) {
        const uint8_t *data = NULL;
        size_t before = moon_buf_len(out);
        ssize_t n = nghttp2_session_mem_send(h2->session, &data);
        if (n > 0)
            rc = moon_buf_append(out, moon_slice((const char *)data, (size_t)n));
        else if (n < 0)
            rc = n == NGHTTP2_ERR_NOMEM ? MOON_ERR_MEMORY : MOON_ERR_H2_PROTOCOL;
        else if (moon_buf_len(out) == before)
            break;
    }
    h2->out = NULL;
    if (rc != MOON_OK)
        h2->is_failed = true;
    return rc;
}

bool moon_h2_has_events(const struct moon_h2 *h2)
{
    return !moon_list_is_empty(&h2->ready);
}

bool moon_h2_is_open(const struct moon_h2 *h2)
{
    return !h2->is_failed && (nghttp2_session_want_read(h2->session) != 0 ||
                              nghttp2_session_want_write(h2->session) != 0);
}

bool moon_h2_is_within_frame(const struct moon_h2 *h2)
{
    const struct h2_guard *guard = &h2->guard;
    return guard->is_block_open || guard->head_len > 0 || guard->magic_left > 0 ||
           (guard->payload_left > 0 && guard->type != H2_DATA);
}

uint64_t moon_h2_frames(const struct moon_h2 *h2)
{
    return h2->guard.frames;
}

const char *moon_h2_failure(const struct moon_h2 *h2)
{
    return h2->failure;
}

void moon_h2_notice(struct moon_h2 *h2)
{
    if (!h2->is_final_sent && nghttp2_submit_shutdown_notice(h2->session) != 0)
        h2->is_failed = true;
}

void moon_h2_go_away(struct moon_h2 *h2)
{
    if (h2->is_final_sent)
        return;
    h2->is_final_sent = true;
    int32_t last = nghttp2_session_get_last_proc_stream_id(h2->session);
    if (nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0) != 0)
        h2->is_failed = true;
}

void moon_h2_stop(struct moon_h2 *h2)
{
    h2->is_final_sent = true;
    if (nghttp2_session_terminate_session(h2->session, NGHTTP2_NO_ERROR) != 0)
        h2->is_failed = true;
}

enum moon_rc moon_h2_read(struct moon_h2_stream *stream, struct moon_slice *data, bool *is_done)
{
    if (stream->lent > 0) {
        if (!stream->is_closed)
            (void)nghttp2_session_consume(stream->h2->session, stream->id, stream->lent);
        else
            (void)nghttp2_session_consume_connection(stream->h2->session, stream->lent);
        moon_buf_consume(&stream->in, stream->lent);
        stream->lent = 0;
    }
    if (stream->is_closed && !stream->is_in_ended)
        return MOON_ERR_CLIENT_CLOSED;
    *data = moon_buf_slice(&stream->in);
    stream->lent = data->len;
    if (data->len == 0 && !stream->is_in_ended)
        return MOON_AGAIN;
    *is_done = stream->is_in_ended;
    if (data->len == 0)
        moon_buf_relax(&stream->in);
    return MOON_OK;
}

void moon_h2_write_interim(struct moon_h2_stream *stream, int status,
                           const struct moon_fields *fields)
{
    nghttp2_nv nva[H2_MOST_FIELDS];
    struct moon_response response = {.status = status, .content_length = -1};
    char text[4], digits[20];
    if (fields != NULL)
        response.fields = *fields;
    size_t n = h2_response_fields(nva, &response, MOON_METHOD_GET, text, digits);
    if (n > 0 && !stream->is_closed && !stream->is_answered)
        (void)nghttp2_submit_headers(stream->h2->session, NGHTTP2_FLAG_NONE, stream->id, NULL, nva,
                                     n, NULL);
}

// Sends what the windows take of `now`, and keeps the rest.
static enum moon_rc h2_flush(struct moon_h2_stream *stream, struct moon_buf *out, size_t most)
{
    struct moon_h2 *h2 = stream->h2;
    enum moon_rc rc = moon_h2_produce(h2, out, most);
    if (rc == MOON_OK && stream->now.len > 0)
        rc = moon_buf_append(&stream->out, stream->now);
    stream->now = moon_slice(NULL, 0);
    if (rc != MOON_OK)
        return rc;
    return moon_buf_len(&stream->out) > 0 ? MOON_AGAIN : MOON_OK;
}

enum moon_rc moon_h2_write_head(struct moon_h2_stream *stream, const struct moon_response *response,
                                struct moon_slice data, bool is_last, struct moon_buf *out,
                                size_t most)
{
    nghttp2_nv nva[H2_MOST_FIELDS];
    char status[4], digits[20];
    nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = h2_read_source};
    if (stream->is_closed)
        return MOON_ERR_IO;
    enum moon_method method =
        stream->request != NULL ? stream->request->client_method : MOON_METHOD_OTHER;
    size_t n = h2_response_fields(nva, response, method, status, digits);
    if (n == 0)
        return MOON_ERR_LIMIT;
    bool has_body = data.len > 0 || !is_last;
    stream->is_answered = true;
    stream->is_out_last = is_last;
    stream->now = data;
    if (nghttp2_submit_response(stream->h2->session, stream->id, nva, n,
                                has_body ? &provider : NULL) != 0)
        return MOON_ERR_MEMORY;
    return h2_flush(stream, out, most);
}

enum moon_rc moon_h2_write_body(struct moon_h2_stream *stream, struct moon_slice data, bool is_last,
                                const struct moon_fields *trailers, struct moon_buf *out,
                                size_t most)
{
    if (stream->is_closed)
        return MOON_ERR_IO;
    if (moon_buf_len(&stream->out) == 0)
        stream->now = data;
    else if (moon_buf_append(&stream->out, data) != MOON_OK)
        return MOON_ERR_MEMORY;
    stream->is_out_last = is_last;
    if (is_last && trailers != NULL && trailers->count > 0) {
        stream->trailers = h2_response_trailers(trailers);
        if (stream->trailers == NULL)
            return MOON_ERR_MEMORY;
    }
    if (stream->is_deferred) {
        stream->is_deferred = false;
        if (nghttp2_session_resume_data(stream->h2->session, stream->id) != 0)
            return MOON_ERR_IO;
    }
    return h2_flush(stream, out, most);
}

bool moon_h2_has_window(const struct moon_h2_stream *stream)
{
    nghttp2_session *session = stream->h2->session;
    return !stream->is_closed && nghttp2_session_get_remote_window_size(session) > 0 &&
           nghttp2_session_get_stream_remote_window_size(session, stream->id) > 0;
}

void moon_h2_reset(struct moon_h2_stream *stream, uint32_t code)
{
    if (!stream->is_closed &&
        nghttp2_submit_rst_stream(stream->h2->session, NGHTTP2_FLAG_NONE, stream->id, code) != 0)
        stream->h2->is_failed = true;
}

void moon_h2_leave(struct moon_h2_stream *stream)
{
    stream->request = NULL;
    h2_drop_in(stream);
}

void moon_h2_fini_stream(struct moon_h2_stream *stream)
{
    if (stream->h2 != NULL && !stream->is_closed)
        (void)nghttp2_session_set_stream_user_data(stream->h2->session, stream->id, NULL);
    if (stream->events != 0)
        moon_list_remove(&stream->link);
    stream->events = 0;
    moon_buf_fini(&stream->in);
    moon_buf_fini(&stream->out);
    free(stream->trailers);
    stream->trailers = NULL;
}
