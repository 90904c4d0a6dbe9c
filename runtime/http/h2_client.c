/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h2_client.h"

#include <nghttp2/nghttp2.h>

enum {
    H2C_MOST_FIELDS = 512,
    H2C_FIELD_BYTES = 32, // that a field counts besides its own (RFC 9113 §6.5.2)
    H2C_IN_BYTES = 1 << 20,
    H2C_OUT_BYTES = 8 << 20,
    H2C_MOST_SETTINGS = 32,
    H2C_MOST_HEAD_BYTES = 1 << 20, // of a request, whose own limit is the listener's
    H2C_MOST_CONTINUATIONS = 40,   // of 16 KiB: more than the longest head that may be configured
    H2C_MOST_INTERIM = 16,
};

struct moon_h2c {
    nghttp2_session *session;
    struct moon_h2c_limits limits;
    struct moon_list ready;
    size_t open; // streams begun and not closed
    bool is_going_away;
    bool is_failed;
};

static void h2c_tell(struct moon_h2c_stream *stream, unsigned event)
{
    stream->events |= event;
    if (moon_list_is_empty(&stream->link))
        moon_list_push_back(&stream->h2->ready, &stream->link);
}

static struct moon_h2c_stream *h2c_stream(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

// Heads coming in

static enum moon_rc h2c_add(struct moon_fields *fields, struct moon_slice name,
                            struct moon_slice value)
{
    enum moon_field_id id = moon_field_id(name);
    struct moon_slice own = moon_field_name(id), copy;
    if (id == MOON_FIELD_OTHER && !moon_arena_copy(fields->arena, name, &own))
        return MOON_ERR_MEMORY;
    if (!moon_arena_copy(fields->arena, value, &copy))
        return MOON_ERR_MEMORY;
    return moon_fields_add_known(fields, id, own, copy);
}

static enum moon_rc h2c_head_field(struct moon_h2c_stream *stream, struct moon_slice name,
                                   struct moon_slice value)
{
    struct moon_response *response = stream->response;
    const struct moon_h2c_limits *limits = &stream->h2->limits;
    int64_t status;
    stream->head_bytes += name.len + value.len + H2C_FIELD_BYTES;
    if (stream->head_bytes > limits->head_bytes || !moon_field_value_is_valid(value))
        return MOON_ERR_UPSTREAM_PROTOCOL;
    if (moon_slice_is(name, MOON_S(":status"))) {
        if (value.len != 3 || !moon_slice_number(value, &status))
            return MOON_ERR_UPSTREAM_PROTOCOL;
        response->status = (int)status;
        return MOON_OK;
    }
    struct moon_fields *fields = stream->is_head_whole ? &response->trailers : &response->fields;
    if (fields->count >= limits->header_count)
        return MOON_ERR_UPSTREAM_PROTOCOL;
    bool is_refused = stream->is_head_whole &&
                      (moon_field_flags(moon_field_id(name)) & MOON_FIELD_NO_TRAILER) != 0;
    return is_refused ? MOON_OK : h2c_add(fields, name, value);
}

static int h2c_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                         size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                         void *arg)
{
    (void)flags;
    (void)arg;
    struct moon_h2c_stream *stream = h2c_stream(session, frame->hd.stream_id);
    if (stream == NULL || stream->head_rc != MOON_OK)
        return 0;
    stream->head_rc = h2c_head_field(stream, moon_slice((const char *)name, name_len),
                                     moon_slice((const char *)value, value_len));
    return 0;
}

static void h2c_frame_body(struct moon_h2c_stream *stream)
{
    struct moon_response *response = stream->response;
    const struct moon_field *length =
        moon_fields_find_id(&response->fields, MOON_FIELD_CONTENT_LENGTH);
    response->version_major = 2;
    response->is_keep_alive = true;
    response->content_length = -1;
    if (length != NULL && !moon_slice_number(length->value, &response->content_length))
        stream->head_rc = MOON_ERR_UPSTREAM_PROTOCOL;
    if (moon_response_is_bodiless(stream->method, response->status)) {
        response->framing = MOON_FRAMING_NONE;
    } else if (response->content_length >= 0 || stream->is_in_ended) {
        response->framing = MOON_FRAMING_LENGTH;
        response->content_length = response->content_length < 0 ? 0 : response->content_length;
    } else {
        response->framing = MOON_FRAMING_CHUNKED;
    }
}

// Puts an interim answer (RFC 9110 §15.2) aside for its owner.
static enum moon_rc h2c_keep_interim(struct moon_h2c_stream *stream)
{
    struct moon_h2c_interim **last = &stream->interim;
    if (++stream->interim_count > H2C_MOST_INTERIM)
        return MOON_ERR_UPSTREAM_PROTOCOL;
    if (stream->response->status == 100)
        return MOON_OK;
    while (*last != NULL)
        last = &(*last)->next;
    *last = moon_arena_zalloc(stream->arena, sizeof(**last));
    if (*last == NULL)
        return MOON_ERR_MEMORY;
    (*last)->response = *stream->response;
    h2c_tell(stream, MOON_H2C_INTERIM);
    return MOON_OK;
}

static void h2c_head_is_whole(struct moon_h2c_stream *stream)
{
    struct moon_response *response = stream->response;
    if (response->status < 200 && stream->head_rc == MOON_OK && !stream->is_in_ended)
        stream->head_rc = h2c_keep_interim(stream);
    if (response->status < 200 && stream->head_rc == MOON_OK && !stream->is_in_ended) {
        stream->head_bytes = 0;
        moon_response_init(response, stream->arena);
        return;
    }
    if (response->status < 200 && stream->head_rc == MOON_OK)
        stream->head_rc = MOON_ERR_UPSTREAM_PROTOCOL;
    stream->is_head_whole = true;
    h2c_frame_body(stream);
    h2c_tell(stream, MOON_H2C_HEAD);
}

static int h2c_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct moon_h2c *h2 = arg;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        h2->is_going_away = true;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct moon_h2c_stream *stream = h2c_stream(session, frame->hd.stream_id);
    if (stream == NULL)
        return 0;
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
        stream->is_in_ended = true;
    if (frame->hd.type == NGHTTP2_HEADERS && !stream->is_head_whole)
        h2c_head_is_whole(stream);
    if (stream->is_in_ended)
        h2c_tell(stream, MOON_H2C_BODY);
    return 0;
}

static int h2c_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                       size_t len, void *arg)
{
    (void)flags;
    (void)arg;
    struct moon_h2c_stream *stream = h2c_stream(session, id);
    if (stream == NULL)
        return nghttp2_session_consume_connection(session, len) == 0 ? 0
                                                                     : NGHTTP2_ERR_CALLBACK_FAILURE;
    if (moon_buf_append(&stream->in, moon_slice((const char *)data, len)) != MOON_OK)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    h2c_tell(stream, MOON_H2C_BODY);
    return 0;
}

static int h2c_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct moon_h2c *h2 = arg;
    struct moon_h2c_stream *stream = h2c_stream(session, id);
    h2->open--;
    if (stream == NULL)
        return 0;
    stream->is_closed = true;
    stream->close_code = code;
    h2c_tell(stream, MOON_H2C_CLOSED);
    return 0;
}

// Requests going out

static int h2c_submit_trailers(nghttp2_session *session, int32_t id,
                               const struct moon_fields *fields)
{
    nghttp2_nv nva[H2C_MOST_FIELDS];
    char names[8192];
    size_t n = 0, used = 0;
    for (size_t i = 0; i < fields->count && n < H2C_MOST_FIELDS; i++) {
        struct moon_slice name = fields->items[i].name, value = fields->items[i].value;
        if (used + name.len > sizeof(names))
            break;
        for (size_t k = 0; k < name.len; k++)
            names[used + k] = moon_lower(name.data[k]);
        nva[n++] = (nghttp2_nv){(uint8_t *)names + used, (uint8_t *)(uintptr_t)value.data, name.len,
                                value.len, NGHTTP2_NV_FLAG_NONE};
        used += name.len;
    }
    return nghttp2_submit_trailer(session, id, nva, n);
}

static ssize_t h2c_read_out(nghttp2_session *session, int32_t id, uint8_t *into, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    (void)source;
    (void)arg;
    struct moon_h2c_stream *stream = h2c_stream(session, id);
    if (stream == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; // reset already
    struct moon_slice out = moon_buf_slice(&stream->out);
    size_t n = moon_min_size(out.len, room);
    if (n == 0 && !stream->is_out_last) {
        stream->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0)
        // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): its length is 0 where it is NULL
        memcpy(into, out.data, n);
    moon_buf_consume(&stream->out, n);
    if (n == out.len && stream->is_out_last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        stream->is_out_ended = true;
        if (stream->trailers != NULL && stream->trailers->count > 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (h2c_submit_trailers(session, id, stream->trailers) != 0)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    if (n == out.len)
        h2c_tell(stream, MOON_H2C_WRITABLE);
    return (ssize_t)n;
}

struct h2c_head {
    nghttp2_nv nva[H2C_MOST_FIELDS];
    size_t count;
    char *names; // lower-case ones; arena
    size_t used;
};

static void h2c_set(struct h2c_head *head, struct moon_slice name, struct moon_slice value)
{
    head->nva[head->count++] =
        (nghttp2_nv){(uint8_t *)(uintptr_t)name.data, (uint8_t *)(uintptr_t)value.data, name.len,
                     value.len, NGHTTP2_NV_FLAG_NONE};
}

static bool h2c_is_forwarded(const struct moon_fields *fields, size_t i)
{
    enum moon_field_id id = (enum moon_field_id)fields->ids[i];
    return id != MOON_FIELD_HOST && id != MOON_FIELD_CONTENT_LENGTH &&
           (moon_field_flags(id) & MOON_FIELD_HOP) == 0;
}

static void h2c_set_fields(struct h2c_head *head, const struct moon_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        struct moon_slice name = fields->items[i].name;
        if (!h2c_is_forwarded(fields, i))
            continue;
        char *lower = head->names + head->used;
        for (size_t k = 0; k < name.len; k++)
            lower[k] = moon_lower(name.data[k]);
        head->used += name.len;
        h2c_set(head, moon_slice(lower, name.len), fields->items[i].value);
    }
}

static enum moon_rc h2c_fill_head(struct h2c_head *head, const struct moon_request *request,
                                  struct moon_arena *arena, struct moon_slice authority,
                                  struct moon_slice path)
{
    const struct moon_fields *fields = &request->fields;
    size_t bytes = 1;
    for (size_t i = 0; i < fields->count; i++)
        bytes += fields->items[i].name.len;
    if (fields->count + 8 > H2C_MOST_FIELDS)
        return MOON_ERR_LIMIT;
    head->names = moon_arena_alloc(arena, bytes);
    if (head->names == NULL)
        return MOON_ERR_MEMORY;
    h2c_set(head, MOON_S(":method"), request->method_name);
    h2c_set(head, MOON_S(":scheme"), request->scheme.len > 0 ? request->scheme : MOON_S("http"));
    h2c_set(head, MOON_S(":authority"), authority);
    h2c_set(head, MOON_S(":path"), path);
    h2c_set_fields(head, fields);
    const struct moon_field *type = moon_fields_find(fields, MOON_S("Content-Type"));
    if (type != NULL && moon_slice_starts_nocase(type->value, MOON_S("application/grpc")))
        h2c_set(head, MOON_S("te"), MOON_S("trailers")); // RFC 9113 §8.2.2; gRPC asks for it
    if (request->framing == MOON_FRAMING_LENGTH) {
        struct moon_slice length =
            moon_arena_printf(arena, "%lld", (long long)request->content_length);
        if (length.len == 0)
            return MOON_ERR_MEMORY;
        h2c_set(head, MOON_S("content-length"), length);
    }
    return MOON_OK;
}

enum moon_rc moon_h2c_request(struct moon_h2c *h2, struct moon_h2c_stream *stream,
                              struct moon_response *response, struct moon_arena *arena,
                              const struct moon_request *request, struct moon_slice authority,
                              struct moon_slice path, struct moon_slice data, bool is_last)
{
    struct h2c_head head;
    head.count = head.used = 0;
    memset(stream, 0, sizeof(*stream));
    moon_list_init(&stream->link);
    moon_buf_init(&stream->in, H2C_IN_BYTES);
    moon_buf_init(&stream->out, H2C_OUT_BYTES);
    stream->h2 = h2;
    stream->response = response;
    stream->arena = arena;
    stream->method = request->method;
    stream->trailers = &request->trailers;
    moon_response_init(response, arena);
    enum moon_rc rc = h2c_fill_head(&head, request, arena, authority, path);
    if (rc == MOON_OK)
        rc = moon_buf_append(&stream->out, data);
    if (rc != MOON_OK)
        return rc;
    bool has_body = request->framing != MOON_FRAMING_NONE;
    nghttp2_data_provider provider = {.read_callback = h2c_read_out};
    stream->is_out_last = is_last;
    stream->is_out_ended = !has_body;
    int32_t id = nghttp2_submit_request(h2->session, NULL, head.nva, head.count,
                                        has_body ? &provider : NULL, stream);
    if (id < 0) {
        moon_buf_fini(&stream->out);
        return id == NGHTTP2_ERR_NOMEM ? MOON_ERR_MEMORY : MOON_ERR_LIMIT;
    }
    stream->id = id;
    h2->open++;
    return MOON_OK;
}

const struct moon_response *moon_h2c_interim(struct moon_h2c_stream *stream)
{
    struct moon_h2c_interim *first = stream->interim;
    if (first == NULL)
        return NULL;
    stream->interim = first->next;
    return &first->response;
}

enum moon_rc moon_h2c_write(struct moon_h2c_stream *stream, struct moon_slice data, bool is_last,
                            const struct moon_fields *trailers)
{
    if (stream->is_closed || stream->is_out_ended)
        return MOON_ERR_IO;
    enum moon_rc rc = moon_buf_append(&stream->out, data);
    if (rc != MOON_OK)
        return rc;
    stream->is_out_last = is_last;
    if (trailers != NULL)
        stream->trailers = trailers;
    if (stream->is_deferred) {
        stream->is_deferred = false;
        if (nghttp2_session_resume_data(stream->h2->session, stream->id) != 0)
            return MOON_ERR_IO;
    }
    return MOON_AGAIN;
}

enum moon_rc moon_h2c_read(struct moon_h2c_stream *stream, struct moon_slice *data, bool *is_done)
{
    if (stream->lent > 0) {
        nghttp2_session *session = stream->h2->session;
        moon_buf_consume(&stream->in, stream->lent);
        int rc = stream->is_closed ? nghttp2_session_consume_connection(session, stream->lent)
                                   : nghttp2_session_consume(session, stream->id, stream->lent);
        stream->lent = 0;
        if (rc != 0)
            return MOON_ERR_MEMORY;
    }
    *data = moon_buf_slice(&stream->in);
    stream->lent = data->len;
    *is_done = stream->is_in_ended;
    if (data->len > 0 || stream->is_in_ended)
        return MOON_OK;
    moon_buf_relax(&stream->in);
    return stream->is_closed ? MOON_ERR_UPSTREAM_TRUNCATED : MOON_AGAIN;
}

void moon_h2c_leave(struct moon_h2c_stream *stream)
{
    nghttp2_session *session = stream->h2->session;
    size_t left = moon_buf_len(&stream->in);
    if (!stream->is_closed) {
        bool is_whole = stream->is_in_ended && stream->is_out_ended;
        (void)nghttp2_session_set_stream_user_data(session, stream->id, NULL);
        if (!is_whole)
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id,
                                            stream->is_in_ended ? NGHTTP2_NO_ERROR
                                                                : NGHTTP2_CANCEL);
    }
    if (left > 0)
        (void)nghttp2_session_consume_connection(session, left);
    moon_list_remove(&stream->link);
    moon_buf_fini(&stream->in);
    moon_buf_fini(&stream->out);
}

// The connection

static nghttp2_session_callbacks *h2c_callbacks;
static nghttp2_option *h2c_option;

// Once per process; both are only read from then on.
static bool h2c_prepare(void)
{
    if (h2c_option != NULL)
        return true;
    if (nghttp2_session_callbacks_new(&h2c_callbacks) != 0 || nghttp2_option_new(&h2c_option) != 0)
        return false;
    nghttp2_session_callbacks *c = h2c_callbacks;
    nghttp2_session_callbacks_set_on_header_callback(c, h2c_on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, h2c_on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, h2c_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, h2c_on_close);
    nghttp2_option_set_no_auto_window_update(h2c_option, 1);
    nghttp2_option_set_peer_max_concurrent_streams(h2c_option, 100); // until it says
    nghttp2_option_set_max_continuations(h2c_option, H2C_MOST_CONTINUATIONS);
    nghttp2_option_set_max_settings(h2c_option, H2C_MOST_SETTINGS);
    nghttp2_option_set_max_send_header_block_length(h2c_option, H2C_MOST_HEAD_BYTES);
    return true;
}

static bool h2c_submit_settings(struct moon_h2c *h2)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h2->limits.stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)h2->limits.head_bytes},
    };
    return nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
                                   MOON_COUNT(settings)) == 0 &&
           nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)h2->limits.connection_window_bytes) == 0;
}

enum moon_rc moon_h2c_new(const struct moon_h2c_limits *limits, struct moon_h2c **out)
{
    struct moon_h2c *h2 = calloc(1, sizeof(*h2));
    if (h2 == NULL)
        return MOON_ERR_MEMORY;
    h2->limits = *limits;
    moon_list_init(&h2->ready);
    if (!h2c_prepare() ||
        nghttp2_session_client_new2(&h2->session, h2c_callbacks, h2, h2c_option) != 0 ||
        !h2c_submit_settings(h2)) {
        moon_h2c_free(h2);
        return MOON_ERR_MEMORY;
    }
    *out = h2;
    return MOON_OK;
}

void moon_h2c_free(struct moon_h2c *h2)
{
    if (h2 == NULL)
        return;
    nghttp2_session_del(h2->session);
    free(h2);
}

enum moon_rc moon_h2c_receive(struct moon_h2c *h2, struct moon_slice bytes)
{
    ssize_t n = nghttp2_session_mem_recv(h2->session, (const uint8_t *)bytes.data, bytes.len);
    if (n >= 0 && (size_t)n == bytes.len)
        return MOON_OK;
    h2->is_failed = true;
    return n == NGHTTP2_ERR_NOMEM ? MOON_ERR_MEMORY : MOON_ERR_UPSTREAM_PROTOCOL;
}

struct moon_h2c_stream *moon_h2c_next(struct moon_h2c *h2, unsigned *events)
{
    if (moon_list_is_empty(&h2->ready))
        return NULL;
    struct moon_h2c_stream *stream = MOON_LIST_ENTRY(h2->ready.next, struct moon_h2c_stream, link);
    moon_list_remove(&stream->link);
    *events = stream->events;
    stream->events = 0;
    return stream;
}

enum moon_rc moon_h2c_produce(struct moon_h2c *h2, struct moon_buf *out, size_t most)
{
    while (moon_buf_len(out) < most) {
        const uint8_t *data;
        ssize_t n = nghttp2_session_mem_send(h2->session, &data);
        if (n < 0)
            return n == NGHTTP2_ERR_NOMEM ? MOON_ERR_MEMORY : MOON_ERR_UPSTREAM_PROTOCOL;
        if (n == 0)
            return MOON_OK;
        enum moon_rc rc = moon_buf_append(out, moon_slice((const char *)data, (size_t)n));
        if (rc != MOON_OK)
            return rc;
    }
    return MOON_OK;
}

size_t moon_h2c_room(const struct moon_h2c *h2)
{
    uint32_t most =
        nghttp2_session_get_remote_settings(h2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    if (h2->is_failed || h2->is_going_away ||
        nghttp2_session_check_request_allowed(h2->session) == 0)
        return 0;
    return most > h2->open ? most - h2->open : 0;
}

static bool h2c_is_over(const struct moon_h2c *h2)
{
    return h2->is_failed || (nghttp2_session_want_read(h2->session) == 0 &&
                             nghttp2_session_want_write(h2->session) == 0);
}

bool moon_h2c_is_broken(const struct moon_h2c *h2)
{
    return h2->open > 0 && h2c_is_over(h2); // nghttp2 has sent GOAWAY, and closes no stream
}

bool moon_h2c_is_open(const struct moon_h2c *h2)
{
    return !h2c_is_over(h2) && (!h2->is_going_away || h2->open > 0);
}
