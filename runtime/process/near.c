/* SPDX-License-Identifier: Apache-2.0 */
#include "process/near.h"

#include "base/macros.h"

#include <string.h>

enum { NEAR_BYTES = 32 };

static size_t near_least(size_t a, size_t b, size_t c)
{
    return moon_min_size(moon_min_size(a, b), c);
}

/// Edit distance with transpositions. Both are shorter than NEAR_BYTES.
static size_t near_distance(const char *a, const char *b)
{
    size_t rows[NEAR_BYTES + 1][NEAR_BYTES + 1];
    size_t a_len = strlen(a), b_len = strlen(b);
    for (size_t i = 0; i <= a_len; i++) {
        for (size_t j = 0; j <= b_len; j++) {
            if (i == 0 || j == 0) {
                rows[i][j] = i + j;
                continue;
            }
            size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;
            rows[i][j] =
                near_least(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + cost);
            bool is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (is_swap)
                rows[i][j] = moon_min_size(rows[i][j], rows[i - 2][j - 2] + 1);
        }
    }
    return rows[a_len][b_len];
}

const char *moon_near_find(const char *name, const char *const names[], size_t count)
{
    const char *best = NULL;
    size_t best_distance = strlen(name) < 5 ? 2 : 3; // exclusive
    if (strlen(name) >= NEAR_BYTES)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (strlen(names[i]) >= NEAR_BYTES)
            continue;
        size_t distance = near_distance(name, names[i]);
        if (distance < best_distance) {
            best = names[i];
            best_distance = distance;
        }
    }
    return best;
}
