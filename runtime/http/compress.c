/* SPDX-License-Identifier: Apache-2.0 */
#include "http/compress.h"

#include <brotli/encode.h>
#include <stdlib.h>
#include <zlib.h>

enum {
    COMPRESS_PIECE_BYTES = 16384,
    COMPRESS_GZIP_WINDOW = 15 + 16, // 32 KiB, and a gzip header
    COMPRESS_GZIP_MEMORY = 8,
    COMPRESS_BROTLI_WINDOW = 18, // 256 KiB: what a response under way may hold here
};

struct moon_compress {
    enum moon_coding coding;
    z_stream zlib;
    BrotliEncoderState *brotli;
};

struct moon_slice moon_coding_name(enum moon_coding coding)
{
    switch (coding) {
    case MOON_CODING_GZIP:
        return MOON_S("gzip");
    case MOON_CODING_BROTLI:
        return MOON_S("br");
    case MOON_CODING_NONE:
        break;
    }
    return MOON_S("identity");
}

// Weight of a list element in thousandths: "br;q=0.5" is 500.
static int coding_weight(struct moon_slice parameters)
{
    struct moon_slice q = moon_slice_trim(parameters);
    if (q.len < 2 || moon_lower(q.data[0]) != 'q' || q.data[1] != '=')
        return 1000;
    q = moon_slice_from(q, 2);
    if (q.len == 0 || q.len > 5 || (q.data[0] != '0' && q.data[0] != '1'))
        return 0;
    int weight = (q.data[0] - '0') * 1000, unit = 100;
    for (size_t i = 2; i < q.len && q.data[i] >= '0' && q.data[i] <= '9'; i++, unit /= 10)
        weight += (q.data[i] - '0') * unit;
    return weight > 1000 ? 1000 : weight;
}

static int coding_weight_of(struct moon_slice accept, struct moon_slice name, int absent)
{
    struct moon_slice element;
    int any = -1;
    while (moon_slice_next_element(&accept, &element)) {
        size_t semicolon = moon_slice_find(element, ';');
        struct moon_slice own = moon_slice_trim(moon_slice(element.data, semicolon));
        int weight = coding_weight(moon_slice_from(element, semicolon + 1));
        if (moon_slice_is_nocase(own, name))
            return weight;
        if (moon_slice_is(own, MOON_S("*")))
            any = weight;
    }
    return any >= 0 ? any : absent;
}

enum moon_coding moon_coding_choose(struct moon_slice accept, const enum moon_coding *offered,
                                    size_t count)
{
    enum moon_coding best = MOON_CODING_NONE;
    if (accept.data == NULL)
        return best;
    // Identity is always acceptable, and the least wanted unless the client weighs it.
    int best_weight = coding_weight_of(accept, MOON_S("identity"), 1) - 1;
    for (size_t i = 0; i < count; i++) {
        int weight = coding_weight_of(accept, moon_coding_name(offered[i]), 0);
        if (weight > 0 && weight > best_weight) {
            best = offered[i];
            best_weight = weight;
        }
    }
    return best;
}

struct moon_compress *moon_compress_new(enum moon_coding coding, int level)
{
    struct moon_compress *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->coding = coding;
    if (coding == MOON_CODING_BROTLI) {
        c->brotli = BrotliEncoderCreateInstance(NULL, NULL, NULL);
        if (c->brotli != NULL &&
            BrotliEncoderSetParameter(c->brotli, BROTLI_PARAM_QUALITY, (uint32_t)level) &&
            BrotliEncoderSetParameter(c->brotli, BROTLI_PARAM_LGWIN, COMPRESS_BROTLI_WINDOW))
            return c;
    } else if (deflateInit2(&c->zlib, level, Z_DEFLATED, COMPRESS_GZIP_WINDOW, COMPRESS_GZIP_MEMORY,
                            Z_DEFAULT_STRATEGY) == Z_OK) {
        return c;
    }
    if (c->brotli != NULL)
        BrotliEncoderDestroyInstance(c->brotli);
    free(c);
    return NULL;
}

void moon_compress_free(struct moon_compress *c)
{
    if (c == NULL)
        return;
    if (c->coding == MOON_CODING_BROTLI)
        BrotliEncoderDestroyInstance(c->brotli);
    else
        (void)deflateEnd(&c->zlib);
    free(c);
}

static enum moon_rc compress_gzip(struct moon_compress *c, struct moon_slice in, bool is_last,
                                  struct moon_buf *out)
{
    c->zlib.next_in = (Bytef *)(uintptr_t)in.data;
    c->zlib.avail_in = (uInt)in.len;
    for (bool is_more = true; is_more;) {
        char *room;
        size_t n;
        enum moon_rc rc = moon_buf_room(out, COMPRESS_PIECE_BYTES, &room, &n);
        if (rc != MOON_OK)
            return rc;
        c->zlib.next_out = (Bytef *)room;
        c->zlib.avail_out = (uInt)n;
        int result = deflate(&c->zlib, is_last ? Z_FINISH : Z_SYNC_FLUSH);
        moon_buf_wrote(out, n - c->zlib.avail_out);
        if (result == Z_STREAM_ERROR)
            return MOON_ERR_INTERNAL;
        is_more = c->zlib.avail_out == 0 && result != Z_STREAM_END;
    }
    return MOON_OK;
}

static enum moon_rc compress_brotli(struct moon_compress *c, struct moon_slice in, bool is_last,
                                    struct moon_buf *out)
{
    const uint8_t *next_in = (const uint8_t *)in.data;
    size_t left_in = in.len;
    BrotliEncoderOperation operation = is_last ? BROTLI_OPERATION_FINISH : BROTLI_OPERATION_FLUSH;
    do {
        char *room;
        size_t n;
        enum moon_rc rc = moon_buf_room(out, COMPRESS_PIECE_BYTES, &room, &n);
        if (rc != MOON_OK)
            return rc;
        uint8_t *next_out = (uint8_t *)room;
        size_t left_out = n;
        if (!BrotliEncoderCompressStream(c->brotli, operation, &left_in, &next_in, &left_out,
                                         &next_out, NULL))
            return MOON_ERR_INTERNAL;
        moon_buf_wrote(out, n - left_out);
    } while (left_in > 0 || BrotliEncoderHasMoreOutput(c->brotli));
    return MOON_OK;
}

enum moon_rc moon_compress_run(struct moon_compress *c, struct moon_slice in, bool is_last,
                               struct moon_buf *out)
{
    if (in.len == 0 && !is_last)
        return MOON_OK;
    if (in.len > UINT32_MAX / 2)
        return MOON_ERR_LIMIT;
    return c->coding == MOON_CODING_BROTLI ? compress_brotli(c, in, is_last, out)
                                           : compress_gzip(c, in, is_last, out);
}
