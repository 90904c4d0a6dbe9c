/* SPDX-License-Identifier: Apache-2.0 */

/// What a backend sends over HTTP/2: any bytes behind a request of ours, in two pieces. The first byte
/// of the input says where they are cut and whether the request has a body that goes on.

#include "http/h2_client.h"

static void fuzz_drain(struct moon_h2c *h2)
{
    unsigned events;
    struct moon_h2c_stream *stream;
    while ((stream = moon_h2c_next(h2, &events)) != NULL) {
        struct moon_slice data;
        bool is_done = false;
        while ((events & MOON_H2C_BODY) != 0 && moon_h2c_read(stream, &data, &is_done) == MOON_OK &&
               !is_done && data.len > 0) {
        }
    }
}

static void fuzz_produce(struct moon_h2c *h2)
{
    struct moon_buf out;
    moon_buf_init(&out, 1 << 20);
    if (moon_h2c_produce(h2, &out, 65536) != MOON_OK)
        moon_buf_clear(&out);
    moon_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct moon_h2c_limits limits = {65536, 64, 65535, 1 << 20};
    struct moon_h2c *h2;
    struct moon_arena arena;
    struct moon_request request;
    struct moon_response response;
    struct moon_h2c_stream stream;
    if (len < 2 || moon_h2c_new(&limits, &h2) != MOON_OK)
        return 0;
    moon_arena_init(&arena, 1 << 20);
    moon_request_init(&request, &arena);
    request.method = MOON_METHOD_POST;
    request.method_name = MOON_S("POST");
    bool has_more = (bytes[0] & 1) != 0;
    request.framing = has_more ? MOON_FRAMING_CHUNKED : MOON_FRAMING_NONE;
    bool is_begun = moon_h2c_request(h2, &stream, &response, &arena, &request, MOON_S("a"),
                                     MOON_S("/"), moon_slice(NULL, 0), !has_more) == MOON_OK;
    fuzz_produce(h2);
    struct moon_slice in = moon_slice((const char *)bytes + 1, len - 1);
    size_t cut = moon_min_size(in.len, bytes[0]);
    if (moon_h2c_receive(h2, moon_slice(in.data, cut)) == MOON_OK) {
        fuzz_drain(h2);
        fuzz_produce(h2);
        if (is_begun && has_more && moon_h2c_write(&stream, MOON_S("x"), true, NULL) == MOON_AGAIN)
            fuzz_produce(h2);
        if (moon_h2c_receive(h2, moon_slice_from(in, cut)) == MOON_OK)
            fuzz_drain(h2);
        fuzz_produce(h2);
    }
    if (is_begun)
        moon_h2c_leave(&stream);
    fuzz_produce(h2);
    moon_h2c_free(h2);
    moon_arena_reset(&arena);
    return 0;
}
