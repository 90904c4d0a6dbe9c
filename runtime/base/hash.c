/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <sys/random.h>

static uint64_t hash_key[2] = {UINT64_C(0x6d6f6f6e67617465), UINT64_C(0x676174656d6f6f6e)};

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t sip_rotl(uint64_t x, int b)
{
    return (x << b) | (x >> (64 - b));
}

static inline void sip_round(struct sip_state *s)
{
    s->v0 += s->v1;
    s->v1 = sip_rotl(s->v1, 13) ^ s->v0;
    s->v0 = sip_rotl(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = sip_rotl(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = sip_rotl(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = sip_rotl(s->v1, 17) ^ s->v2;
    s->v2 = sip_rotl(s->v2, 32);
}

static inline void sip_word(struct sip_state *s, uint64_t m)
{
    s->v3 ^= m;
    sip_round(s);
    s->v0 ^= m;
}

static struct sip_state sip_init(void)
{
    return (struct sip_state){
        .v0 = hash_key[0] ^ UINT64_C(0x736f6d6570736575),
        .v1 = hash_key[1] ^ UINT64_C(0x646f72616e646f6d),
        .v2 = hash_key[0] ^ UINT64_C(0x6c7967656e657261),
        .v3 = hash_key[1] ^ UINT64_C(0x7465646279746573),
    };
}

static uint64_t sip_fini(struct sip_state *s)
{
    s->v2 ^= 0xff;
    sip_round(s);
    sip_round(s);
    sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

// Reads up to seven bytes, little-endian: two loads that overlap, or three bytes that do.
static uint64_t sip_load(const char *at, size_t left)
{
    if (left >= 4) {
        uint32_t low, high;
        memcpy(&low, at, 4);
        memcpy(&high, at + left - 4, 4);
        return low | (uint64_t)high << (8 * (left - 4));
    }
    if (left == 0)
        return 0;
    const unsigned char *byte = (const unsigned char *)at;
    return byte[0] | (uint64_t)byte[left / 2] << (8 * (left / 2)) |
           (uint64_t)byte[left - 1] << (8 * (left - 1));
}

// The length's low byte closes the last word.
static uint64_t sip_tail(const char *at, size_t left, size_t total)
{
    return sip_load(at, left) | (uint64_t)(total & 0xff) << 56;
}

static void sip_fini128(struct sip_state *s, uint64_t out[2])
{
    s->v2 ^= 0xee;
    for (int i = 0; i < 3; i++)
        sip_round(s);
    out[0] = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    s->v1 ^= 0xdd;
    for (int i = 0; i < 3; i++)
        sip_round(s);
    out[1] = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t moon_hash(struct moon_slice bytes)
{
    struct sip_state s = sip_init();
    const char *at = bytes.data;
    size_t left = bytes.len;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t m;
        memcpy(&m, at, 8);
        sip_word(&s, m);
    }
    sip_word(&s, sip_tail(at, left, bytes.len));
    return sip_fini(&s);
}

void moon_hash128(uint64_t seed, struct moon_slice bytes, uint64_t out[2])
{
    struct sip_state s = sip_init();
    s.v1 ^= 0xee;
    sip_word(&s, seed);
    const char *at = bytes.data;
    size_t left = bytes.len;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t m;
        memcpy(&m, at, 8);
        sip_word(&s, m);
    }
    sip_word(&s, sip_tail(at, left, bytes.len));
    sip_fini128(&s, out);
}

// The top byte of a text's first word says what the word is: seven bytes at most and their number, or the
// number of bytes in the words that follow.
enum { HASH_LONG = 0x80, HASH_ABSENT = 0xff };

static inline void sip_text(struct sip_state *s, struct moon_slice text)
{
    const char *at = text.data;
    size_t left = text.len;
    if (at == NULL) {
        sip_word(s, (uint64_t)HASH_ABSENT << 56);
        return;
    }
    if (left < 8) {
        sip_word(s, sip_load(at, left) | (uint64_t)left << 56);
        return;
    }
    sip_word(s, left | (uint64_t)HASH_LONG << 56);
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t m;
        memcpy(&m, at, 8);
        sip_word(s, m);
    }
    if (left > 0)
        sip_word(s, sip_load(at, left));
}

void moon_hash128_list(uint64_t seed, const struct moon_slice *texts, size_t count, uint64_t out[2])
{
    struct sip_state s = sip_init();
    s.v1 ^= 0xee;
    sip_word(&s, seed);
    for (size_t i = 0; i < count; i++)
        sip_text(&s, texts[i]);
    sip_word(&s, count);
    sip_fini128(&s, out);
}

void moon_hash_seed(void)
{
    static bool is_seeded; // tables made under the first key stay good
    if (is_seeded)
        return;
    is_seeded = true;
    moon_random_bytes(hash_key, sizeof(hash_key));
}

void moon_random_bytes(void *into, size_t n)
{
    char *at = into;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        MOON_ASSERT(got > 0);
        at += got;
        n -= (size_t)got;
    }
}

static uint64_t random_state;

uint64_t moon_random_fast(void)
{
    if (random_state == 0)
        moon_random_bytes(&random_state, sizeof(random_state));
    random_state += UINT64_C(0x9e3779b97f4a7c15);
    return moon_hash_mix(random_state);
}

void moon_random_seed(uint64_t seed)
{
    random_state = seed | 1;
}
