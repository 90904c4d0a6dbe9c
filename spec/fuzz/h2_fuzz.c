/* SPDX-License-Identifier: Apache-2.0 */

/// Frames in front of nghttp2's callbacks: the bytes are cut in pieces, each stream is answered,
/// half of them with a body that the client's windows may not take.

#include "http/h2.h"

#include <stdlib.h>

enum { FUZZ_STREAMS = 64 };

struct fuzz_stream {
    struct moon_h2_stream h2;
    struct moon_arena arena;
    struct moon_request request;
    bool is_used;
};

static struct fuzz_stream fuzz_streams[FUZZ_STREAMS];
static struct moon_buf fuzz_out;

static struct moon_h2_stream *fuzz_open(void *owner)
{
    (void)owner;
    for (int i = 0; i < FUZZ_STREAMS; i++) {
        struct fuzz_stream *stream = &fuzz_streams[i];
        if (stream->is_used)
            continue;
        *stream = (struct fuzz_stream){.is_used = true};
        moon_arena_init(&stream->arena, 1 << 20);
        moon_request_init(&stream->request, &stream->arena);
        stream->h2.request = &stream->request;
        return &stream->h2;
    }
    return NULL;
}

static void fuzz_close(struct fuzz_stream *stream)
{
    if (!stream->is_used)
        return;
    moon_h2_fini_stream(&stream->h2);
    moon_arena_reset(&stream->arena);
    stream->is_used = false;
}

static void fuzz_answer(struct fuzz_stream *stream)
{
    static char body[70000];
    struct moon_response response;
    moon_response_init(&response, &stream->arena);
    response.status = stream->h2.head_rc == MOON_OK ? 200 : moon_rc_status(stream->h2.head_rc);
    size_t len = stream->h2.id % 4 == 1 ? sizeof(body) : 5;
    enum moon_rc rc =
        moon_h2_write_head(&stream->h2, &response, moon_slice(body, len), false, &fuzz_out, 65536);
    if (rc == MOON_OK || rc == MOON_AGAIN)
        rc = moon_h2_write_body(&stream->h2, moon_slice(body, 3), true, &stream->request.trailers,
                                &fuzz_out, 65536);
    (void)rc;
}

static void fuzz_handle(struct fuzz_stream *stream, unsigned events)
{
    if ((events & MOON_H2_HEAD) != 0 && (events & MOON_H2_CLOSED) == 0)
        fuzz_answer(stream);
    if ((events & MOON_H2_BODY) != 0) {
        struct moon_slice data = {NULL, 0};
        bool is_done = false;
        while (moon_h2_read(&stream->h2, &data, &is_done) == MOON_OK && !is_done && data.len > 0) {
        }
        if (is_done)
            moon_h2_leave(&stream->h2);
    }
    if ((events & MOON_H2_CLOSED) != 0)
        fuzz_close(stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    const struct moon_h2_limits limits = {4096, 1024, 32, 32, 65536, 262144};
    struct moon_h2 *h2 = NULL;
    if (size < 1 || moon_h2_new(&limits, false, fuzz_open, NULL, &h2) != MOON_OK)
        return 0;
    moon_buf_init(&fuzz_out, 4 << 20);
    size_t step = data[0] == 0 ? size : data[0], at = 1;
    enum moon_rc rc = MOON_OK;
    // Seeds that begin with the preface bring their own.
    if (size < 5 || data[1] != 'P' || data[2] != 'R')
        rc = moon_h2_receive(h2, moon_slice(start, sizeof(start) - 1));
    while (rc == MOON_OK && at < size && moon_h2_is_open(h2)) {
        size_t n = size - at < step ? size - at : step;
        struct moon_h2_stream *stream;
        unsigned events;
        rc = moon_h2_receive(h2, moon_slice((const char *)data + at, n));
        at += n;
        do {
            while ((stream = moon_h2_next(h2, &events)) != NULL)
                fuzz_handle((struct fuzz_stream *)(void *)stream, events);
            if (moon_h2_produce(h2, &fuzz_out, 65536) != MOON_OK)
                break;
            moon_buf_clear(&fuzz_out);
        } while (moon_h2_has_events(h2));
    }
    for (int i = 0; i < FUZZ_STREAMS; i++)
        fuzz_close(&fuzz_streams[i]);
    moon_h2_free(h2);
    moon_buf_fini(&fuzz_out);
    return 0;
}
