// SPDX-License-Identifier: Apache-2.0
#include "waf/digest.h"

#include <math.h>

typedef void (*block_fn)(uint32_t *h, const unsigned char *p);

static uint32_t rotate(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static void sha1_block(uint32_t *h, const unsigned char *p)
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)p[i * 4] << 24 | (uint32_t)p[i * 4 + 1] << 16 |
               (uint32_t)p[i * 4 + 2] << 8 | p[i * 4 + 3];
    }
    for (int i = 16; i < 80; i++) {
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    }
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) {
            f = (b & c) | (~b & d);
            k = 0x5a827999;
        } else if (i < 40) {
            f = b ^ c ^ d;
            k = 0x6ed9eba1;
        } else if (i < 60) {
            f = (b & c) | (b & d) | (c & d);
            k = 0x8f1bbcdc;
        } else {
            f = b ^ c ^ d;
            k = 0xca62c1d6;
        }
        uint32_t t = rotate(a, 5) + f + e + k + w[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = t;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

static void md5_block(uint32_t *h, const unsigned char *p)
{
    static const unsigned char shift[4][4] = {
        {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t w[16], a = h[0], b = h[1], c = h[2], d = h[3];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)p[i * 4 + 3] << 24 | (uint32_t)p[i * 4 + 2] << 16 |
               (uint32_t)p[i * 4 + 1] << 8 | p[i * 4];
    }
    for (int i = 0; i < 64; i++) {
        uint32_t f;
        int g;
        switch (i / 16) {
        case 0:
            f = (b & c) | (~b & d);
            g = i;
            break;
        case 1:
            f = (d & b) | (~d & c);
            g = (5 * i + 1) % 16;
            break;
        case 2:
            f = b ^ c ^ d;
            g = (3 * i + 5) % 16;
            break;
        default:
            f = c ^ (b | ~d);
            g = 7 * i % 16;
        }
        uint32_t k = (uint32_t)(fabs(sin((double)(i + 1))) * 4294967296.0);
        f += a + k + w[g];
        a = d;
        d = c;
        c = b;
        b += rotate(f, shift[i / 16][i % 4]);
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
}

static void digest(struct waf_str in, uint32_t *h, block_fn block, bool big_endian)
{
    unsigned char tail[128] = {0};
    size_t whole = in.n / 64 * 64, rest = in.n - whole, size = rest < 56 ? 64 : 128;
    for (size_t i = 0; i < whole; i += 64) {
        block(h, (const unsigned char *)in.p + i);
    }
    if (rest != 0) {
        memcpy(tail, in.p + whole, rest);
    }
    tail[rest] = 0x80;
    uint64_t bits = (uint64_t)in.n * 8;
    for (size_t i = 0; i < 8; i++) {
        tail[size - 8 + i] = (unsigned char)(big_endian ? bits >> (56 - 8 * i) : bits >> (8 * i));
    }
    for (size_t i = 0; i < size; i += 64) {
        block(h, tail + i);
    }
}

void waf_sha1(struct waf_str in, unsigned char out[20])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    digest(in, h, sha1_block, true);
    for (unsigned i = 0; i < 20; i++) {
        out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
    }
}

void waf_md5(struct waf_str in, unsigned char out[16])
{
    uint32_t h[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    digest(in, h, md5_block, false);
    for (unsigned i = 0; i < 16; i++) {
        out[i] = (unsigned char)(h[i / 4] >> (8 * (i % 4)));
    }
}
