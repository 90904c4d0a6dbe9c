/* SPDX-License-Identifier: Apache-2.0 */
#include "regex/filter.h"

#include "regex/pattern.h"

#include <stdlib.h>
#include <string.h>

#define PIECES_MAX 16
#define PAIR_BITS 10

// A pair of neighbouring bytes stands for each piece, the rarest of it, by a hash in which the letters of
// both cases are the same: what is found by it is compared whole.
struct piece {
    char text[64];  // in lower case
    size_t len, at; // `at`: of the pair
    unsigned pair;
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
            piece->pair = pair_at(piece->text + i);
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
        filter->pairs[piece->pair] = true;
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

bool regex_filter_passes(const struct piece_filter *filter, struct moon_slice subject, size_t from)
{
    const char *begin = subject.data + from, *end = subject.data + subject.len;
    for (const char *at = begin; at + 1 < end; at++) {
        if (filter->pairs[pair_at(at)] && has_piece(filter, begin, at, end)) {
            return true;
        }
    }
    return false;
}
