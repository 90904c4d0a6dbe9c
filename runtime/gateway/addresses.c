/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/addresses.h"

#include "base/hash.h"

enum { ADDRESS_BUCKETS = 4096 };

struct address_count {
    struct address_count *next; // in its bucket
    struct moon_ip ip;
    size_t count;
};

struct moon_addresses {
    struct address_count *buckets[ADDRESS_BUCKETS];
};

struct moon_addresses *moon_addresses_new(void)
{
    return calloc(1, sizeof(struct moon_addresses));
}

void moon_addresses_free(struct moon_addresses *addresses)
{
    if (addresses == NULL)
        return;
    for (size_t i = 0; i < ADDRESS_BUCKETS; i++) {
        while (addresses->buckets[i] != NULL) {
            struct address_count *next = addresses->buckets[i]->next;
            free(addresses->buckets[i]);
            addresses->buckets[i] = next;
        }
    }
    free(addresses);
}

// The link that leads to the address, or to the end of its bucket.
static struct address_count **address_find(struct moon_addresses *addresses,
                                           const struct moon_ip *ip)
{
    uint64_t hash = moon_hash(moon_slice((const char *)ip->bytes, sizeof(ip->bytes)));
    struct address_count **at = &addresses->buckets[hash & (ADDRESS_BUCKETS - 1)];
    while (*at != NULL && moon_ip_compare(&(*at)->ip, ip) != 0)
        at = &(*at)->next;
    return at;
}

bool moon_addresses_enter(struct moon_addresses *addresses, const struct moon_ip *ip, size_t most)
{
    struct address_count **at = address_find(addresses, ip);
    if (*at != NULL && (*at)->count >= most)
        return false;
    if (*at == NULL) {
        struct address_count *count = calloc(1, sizeof(*count));
        if (count == NULL)
            return false;
        count->ip = *ip;
        *at = count;
    }
    (*at)->count++;
    return true;
}

void moon_addresses_leave(struct moon_addresses *addresses, const struct moon_ip *ip)
{
    struct address_count **at = address_find(addresses, ip);
    if (*at == NULL || --(*at)->count > 0)
        return;
    struct address_count *gone = *at;
    *at = gone->next;
    free(gone);
}
