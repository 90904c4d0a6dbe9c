/* SPDX-License-Identifier: Apache-2.0 */
#include "regex/filter.h"

#include "regex/pattern.h"

#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define PIECES_MAX 16
#define PAIR_BITS 10

// A pair of neighbouring bytes stands for each piece, the rarest of it, by a hash in which the letters of
// both cases are the same: what is found by it is compared whole.
struct piece {
    char text[64];              // in lower case
    size_t len, at;             // `at`: of the pair
    char first[16], second[16]; // the pair's bytes with bit 0x20 set, as often as one step looks at
};

struct piece_filter {
    bool pairs[1 << PAIR_BITS]; // those that stand for a piece
    size_t count;
    struct piece pieces[];
};

static unsigned pair_at(const char *at)
{
    uint16_t two;
    memcpy(&two, at, sizeof two);
    return ((two | 0x2020U) * 40503U & 0xFFFFU) >> (16 - PAIR_BITS);
}

// How often a byte stands in what is matched, roughly: letters by their frequency in English, all else
// as a letter of the middle.
static unsigned commonness(char c)
{
    static const char by_rank[] = "zqxjkvbpygfwmucldrhsnioate";
    const char *found = strchr(by_rank, c);
    return found != NULL ? (unsigned)(found - by_rank) + 1 : 13;
}

static void choose_pair(struct piece *piece)
{
    unsigned best = UINT32_MAX;
    for (size_t i = 0; i + 1 < piece->len; i++) {
        unsigned common = commonness(piece->text[i]) * commonness(piece->text[i + 1]);
        if (common < best) {
            best = common;
            piece->at = i;
        }
    }
}

struct piece_filter *regex_filter_new(struct moon_slice text, const char *flags)
{
    char texts[PIECES_MAX][64];
    size_t count = regex_pattern_required(text, flags, texts, PIECES_MAX);
    if (count == 0) {
        return NULL;
    }
    struct piece_filter *filter = calloc(1, sizeof *filter + count * sizeof filter->pieces[0]);
    if (filter == NULL) {
        return NULL;
    }
    filter->count = count;
    for (size_t i = 0; i < count; i++) {
        struct piece *piece = &filter->pieces[i];
        piece->len = strlen(texts[i]);
        memcpy(piece->text, texts[i], piece->len);
        choose_pair(piece);
        filter->pairs[pair_at(piece->text + piece->at)] = true;
        memset(piece->first, piece->text[piece->at] | 0x20, sizeof piece->first);
        memset(piece->second, piece->text[piece->at + 1] | 0x20, sizeof piece->second);
    }
    return filter;
}

void regex_filter_free(struct piece_filter *filter)
{
    free(filter);
}

static bool is_piece(const struct piece *piece, const char *at)
{
    for (size_t i = 0; i < piece->len; i++) {
        char c = at[i] >= 'A' && at[i] <= 'Z' ? (char)(at[i] | 0x20) : at[i];
        if (c != piece->text[i]) {
            return false;
        }
    }
    return true;
}

// Whether a piece stands where its pair was found.
static bool has_piece(const struct piece_filter *filter, const char *begin, const char *pair,
                      const char *end)
{
    for (size_t i = 0; i < filter->count; i++) {
        const struct piece *piece = &filter->pieces[i];
        if ((size_t)(pair - begin) >= piece->at && (size_t)(end - pair) + piece->at >= piece->len &&
            is_piece(piece, pair - piece->at)) {
            return true;
        }
    }
    return false;
}

#ifdef __SSE2__
enum { STEP = 16 };

static __m128i load(const char *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

// A bit for each of the sixteen bytes at `at` where the pair of a piece may begin. Reads one more.
static unsigned pairs_of_step(const struct piece_filter *filter, const char *at)
{
    const __m128i fold = _mm_set1_epi8(0x20);
    __m128i first = _mm_or_si128(load(at), fold), second = _mm_or_si128(load(at + 1), fold);
    __m128i found = _mm_setzero_si128();
    for (size_t i = 0; i < filter->count; i++) {
        const struct piece *piece = &filter->pieces[i];
        __m128i is_first = _mm_cmpeq_epi8(first, load(piece->first));
        __m128i is_second = _mm_cmpeq_epi8(second, load(piece->second));
        found = _mm_or_si128(found, _mm_and_si128(is_first, is_second));
    }
    return (unsigned)_mm_movemask_epi8(found);
}
#endif

bool regex_filter_passes(const struct piece_filter *filter, struct moon_slice subject, size_t from)
{
    const char *begin = subject.data + from, *end = subject.data + subject.len, *at = begin;
#ifdef __SSE2__
    for (; end - at > STEP; at += STEP) {
        for (unsigned pairs = pairs_of_step(filter, at); pairs != 0; pairs &= pairs - 1) {
            if (has_piece(filter, begin, at + __builtin_ctz(pairs), end)) {
                return true;
            }
        }
    }
#endif
    for (; at + 1 < end; at++) {
        if (filter->pairs[pair_at(at)] && has_piece(filter, begin, at, end)) {
            return true;
        }
    }
    return false;
}
