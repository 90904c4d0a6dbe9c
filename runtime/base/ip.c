/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ip.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static const uint8_t ip_v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct ip_range {
    struct moon_ip first, last;
};

struct moon_ipset {
    struct ip_range *ranges;
    size_t count;
    size_t cap;
    uint32_t *v4; // where the ranges of each 16-bit prefix of IPv4 begin; NULL: searched without
    bool is_sealed;
};

enum { IP_PREFIXES = 1 << 16, IP_INDEXED_RANGES = 4096 };

bool moon_ip_parse(struct moon_slice text, struct moon_ip *out)
{
    char plain[MOON_IP_TEXT_BYTES];
    if (text.len >= 2 && text.data[0] == '[' && text.data[text.len - 1] == ']')
        text = moon_slice(text.data + 1, text.len - 2);
    if (!moon_slice_copy_text(text, plain, sizeof(plain)))
        return false;
    struct moon_ip ip;
    if (inet_pton(AF_INET6, plain, ip.bytes) == 1) {
        *out = ip;
        return true;
    }
    memcpy(ip.bytes, ip_v4_prefix, sizeof(ip_v4_prefix));
    if (inet_pton(AF_INET, plain, ip.bytes + 12) != 1)
        return false;
    *out = ip;
    return true;
}

bool moon_ip_is_v4(const struct moon_ip *ip)
{
    return memcmp(ip->bytes, ip_v4_prefix, sizeof(ip_v4_prefix)) == 0;
}

size_t moon_ip_format(const struct moon_ip *ip, char into[MOON_IP_TEXT_BYTES])
{
    const char *text = moon_ip_is_v4(ip)
                           ? inet_ntop(AF_INET, ip->bytes + 12, into, MOON_IP_TEXT_BYTES)
                           : inet_ntop(AF_INET6, ip->bytes, into, MOON_IP_TEXT_BYTES);
    MOON_ASSERT(text != NULL);
    return strlen(text);
}

int moon_ip_compare(const struct moon_ip *a, const struct moon_ip *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

struct moon_ip moon_ip_from_sockaddr(const struct sockaddr *address, uint16_t *port)
{
    struct moon_ip ip = {{0}};
    *port = 0;
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        memcpy(ip.bytes, ip_v4_prefix, sizeof(ip_v4_prefix));
        memcpy(ip.bytes + 12, &v4.sin_addr, 4);
        *port = ntohs(v4.sin_port);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        memcpy(ip.bytes, &v6.sin6_addr, 16);
        *port = ntohs(v6.sin6_port);
    }
    return ip;
}

struct moon_ipset *moon_ipset_new(void)
{
    return calloc(1, sizeof(struct moon_ipset));
}

void moon_ipset_free(struct moon_ipset *set)
{
    if (set == NULL)
        return;
    free(set->v4);
    free(set->ranges);
    free(set);
}

// The range of a prefix of `bits` bits. @return false when bits beyond the prefix are set
static bool ip_range_of_prefix(struct moon_ip ip, unsigned bits, struct ip_range *out)
{
    out->first = out->last = ip;
    for (unsigned i = 0; i < 16; i++) {
        unsigned kept = bits >= (i + 1) * 8 ? 8 : (bits <= i * 8 ? 0 : bits - i * 8);
        uint8_t host_mask = (uint8_t)(0xFFu >> kept);
        if ((ip.bytes[i] & host_mask) != 0)
            return false;
        out->last.bytes[i] = ip.bytes[i] | host_mask;
    }
    return true;
}

static bool ip_range_parse(struct moon_slice text, struct ip_range *out)
{
    size_t dash = moon_slice_find(text, '-');
    size_t slash = moon_slice_find(text, '/');
    if (dash < text.len) {
        return moon_ip_parse(moon_slice_trim(moon_slice(text.data, dash)), &out->first) &&
               moon_ip_parse(moon_slice_trim(moon_slice_from(text, dash + 1)), &out->last) &&
               moon_ip_is_v4(&out->first) == moon_ip_is_v4(&out->last) &&
               moon_ip_compare(&out->first, &out->last) <= 0;
    }
    struct moon_ip ip;
    if (!moon_ip_parse(moon_slice(text.data, slash), &ip))
        return false;
    int64_t bits = moon_ip_is_v4(&ip) ? 32 : 128;
    int64_t most = bits;
    if (slash < text.len &&
        (!moon_slice_number(moon_slice_from(text, slash + 1), &bits) || bits > most))
        return false;
    return ip_range_of_prefix(ip, (unsigned)(bits + (128 - most)), out);
}

enum moon_rc moon_ipset_add(struct moon_ipset *set, struct moon_slice text)
{
    struct ip_range range;
    MOON_ASSERT(!set->is_sealed);
    if (!ip_range_parse(moon_slice_trim(text), &range))
        return MOON_ERR_CONFIG;
    if (set->count == set->cap) {
        size_t cap = set->cap == 0 ? 16 : set->cap * 2;
        struct ip_range *ranges = realloc(set->ranges, cap * sizeof(*ranges));
        if (ranges == NULL)
            return MOON_ERR_MEMORY;
        set->ranges = ranges;
        set->cap = cap;
    }
    set->ranges[set->count++] = range;
    return MOON_OK;
}

static int ip_range_order(const void *a, const void *b)
{
    return moon_ip_compare(&((const struct ip_range *)a)->first,
                           &((const struct ip_range *)b)->first);
}

static unsigned ip_v4_prefix_of(const struct moon_ip *ip)
{
    return (unsigned)ip->bytes[12] << 8 | ip->bytes[13];
}

// Saves a large set the far jumps of a binary search; without memory for it, the search does.
static void ip_make_index(struct moon_ipset *set)
{
    if (set->count < IP_INDEXED_RANGES || set->count > UINT32_MAX ||
        (set->v4 = malloc((IP_PREFIXES + 1) * sizeof(*set->v4))) == NULL)
        return;
    struct moon_ip at = {{0}};
    memcpy(at.bytes, ip_v4_prefix, sizeof(ip_v4_prefix));
    size_t i = 0;
    for (unsigned prefix = 0; prefix < IP_PREFIXES; prefix++) {
        at.bytes[12] = (uint8_t)(prefix >> 8);
        at.bytes[13] = (uint8_t)prefix;
        while (i < set->count && moon_ip_compare(&set->ranges[i].first, &at) < 0)
            i++;
        set->v4[prefix] = (uint32_t)i;
    }
    memset(at.bytes + 12, 0xff, 4);
    while (i < set->count && moon_ip_compare(&set->ranges[i].first, &at) <= 0)
        i++;
    set->v4[IP_PREFIXES] = (uint32_t)i;
}

void moon_ipset_seal(struct moon_ipset *set)
{
    set->is_sealed = true;
    if (set->count == 0)
        return;
    qsort(set->ranges, set->count, sizeof(set->ranges[0]), ip_range_order);
    size_t kept = 0;
    for (size_t i = 1; i < set->count; i++) {
        struct ip_range *top = &set->ranges[kept];
        if (moon_ip_compare(&set->ranges[i].first, &top->last) <= 0) {
            if (moon_ip_compare(&set->ranges[i].last, &top->last) > 0)
                top->last = set->ranges[i].last;
        } else {
            set->ranges[++kept] = set->ranges[i];
        }
    }
    set->count = kept + 1;
    ip_make_index(set);
}

bool moon_ipset_has(const struct moon_ipset *set, const struct moon_ip *ip)
{
    MOON_ASSERT(set->is_sealed);
    size_t low = 0, high = set->count;
    if (set->v4 != NULL && moon_ip_is_v4(ip)) {
        unsigned prefix = ip_v4_prefix_of(ip);
        low = set->v4[prefix];
        high = set->v4[prefix + 1];
    }
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (moon_ip_compare(&set->ranges[mid].first, ip) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low > 0 && moon_ip_compare(ip, &set->ranges[low - 1].last) <= 0;
}

size_t moon_ipset_count(const struct moon_ipset *set)
{
    return set->count;
}
