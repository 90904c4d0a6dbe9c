/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/maglev.h"

#include "base/hash.h"
#include "base/log.h"

enum { MAGLEV_FREE = UINT16_MAX, MAGLEV_PLACES_EACH = 100 };

// A member's own order of preference over all places.
struct maglev_row {
    size_t offset, skip, next;
    int64_t owed; // turns it has earned by weight
};

static size_t maglev_size(size_t count)
{
    static const size_t primes[] = {1009, 4093, 16381, 65521};
    for (size_t i = 0; i < MOON_COUNT(primes); i++) {
        if (primes[i] >= count * MAGLEV_PLACES_EACH)
            return primes[i];
    }
    return primes[MOON_COUNT(primes) - 1];
}

static int maglev_weight(const struct moon_members *members, size_t i)
{
    return members->targets[i].conf->weight;
}

static void maglev_take_place(struct maglev_row *row, uint16_t *table, size_t size, size_t member)
{
    size_t at;
    do {
        at = (row->offset + row->next * row->skip) % size;
        row->next++;
    } while (table[at] != MAGLEV_FREE);
    table[at] = (uint16_t)member;
}

// Members take places in turns, each as often as its share of the heaviest one's weight.
static void maglev_fill(const struct moon_members *members, struct maglev_row *rows,
                        uint16_t *table, size_t size, int heaviest)
{
    size_t filled = 0;
    while (filled < size) {
        for (size_t i = 0; i < members->count && filled < size; i++) {
            rows[i].owed += maglev_weight(members, i);
            if (rows[i].owed < heaviest)
                continue;
            rows[i].owed -= heaviest;
            maglev_take_place(&rows[i], table, size, i);
            filled++;
        }
    }
}

static bool maglev_build(struct moon_members *members)
{
    size_t size = maglev_size(members->count);
    int heaviest = 0;
    struct maglev_row *rows = calloc(members->count + 1, sizeof(*rows));
    uint16_t *table = malloc(size * sizeof(*table));
    for (size_t i = 0; rows != NULL && i < members->count; i++) {
        uint64_t key = members->targets[i].key;
        rows[i].offset = key % size;
        rows[i].skip = moon_hash_mix(key ^ UINT64_C(0x9e3779b97f4a7c15)) % (size - 1) + 1;
        heaviest = maglev_weight(members, i) > heaviest ? maglev_weight(members, i) : heaviest;
    }
    if (rows == NULL || table == NULL || heaviest == 0) {
        free(rows);
        free(table);
        return false;
    }
    memset(table, 0xff, size * sizeof(*table));
    maglev_fill(members, rows, table, size, heaviest);
    free(rows);
    members->maglev = table;
    members->maglev_size = size;
    return true;
}

struct moon_target *moon_maglev_find(struct moon_members *members, uint64_t hash,
                                     bool (*accepts)(void *arg, size_t i), void *arg)
{
    if (members->maglev == NULL && !maglev_build(members))
        return NULL;
    for (size_t tries = 0; tries < members->count * 2; tries++) {
        size_t i = members->maglev[hash % members->maglev_size];
        if (accepts(arg, i))
            return &members->targets[i];
        hash = moon_hash_mix(hash + UINT64_C(0x9e3779b97f4a7c15));
    }
    for (size_t k = 0; k < members->count; k++) {
        size_t i = (hash + k) % members->count;
        if (accepts(arg, i))
            return &members->targets[i];
    }
    return NULL;
}
