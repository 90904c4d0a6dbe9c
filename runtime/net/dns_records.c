/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_records.h"

enum { DNS_HEAD = 12, DNS_CLASS_IN = 1, DNS_TYPE_SRV = 33, DNS_POINTERS = 64 };

struct dns_reader {
    struct moon_slice reply;
    size_t at; // <= reply.len
};

static bool reader_number(struct dns_reader *r, size_t bytes, uint32_t *out)
{
    if (r->reply.len - r->at < bytes)
        return false;
    uint32_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n = n << 8 | (uint8_t)r->reply.data[r->at++];
    *out = n;
    return true;
}

/// Steps over a name without following pointers.
static bool reader_skip_name(struct dns_reader *r)
{
    uint32_t n;
    while (reader_number(r, 1, &n)) {
        if (n == 0)
            return true;
        if ((n & 0xc0) == 0xc0)
            return reader_number(r, 1, &n);
        if ((n & 0xc0) != 0 || r->reply.len - r->at < n)
            return false;
        r->at += n;
    }
    return false;
}

/// The name at `at`, pointers followed; only characters that a host name may have.
static bool reader_name(const struct dns_reader *r, size_t start, char into[256])
{
    struct dns_reader name = {r->reply, start};
    size_t used = 0;
    uint32_t n, low;
    for (int pointers = 0; reader_number(&name, 1, &n);) {
        if (n == 0) {
            into[used > 0 ? used - 1 : 0] = '\0'; // the last dot
            return true;
        }
        if ((n & 0xc0) == 0xc0) {
            if (++pointers > DNS_POINTERS || !reader_number(&name, 1, &low))
                return false;
            name.at = moon_min_size((n & 0x3f) << 8 | low, r->reply.len);
            continue;
        }
        if ((n & 0xc0) != 0 || r->reply.len - name.at < n || used + n + 1 > 255)
            return false;
        for (uint32_t i = 0; i < n; i++) {
            char c = moon_lower(name.reply.data[name.at++]);
            bool is_usual =
                (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
            if (!is_usual)
                return false;
            into[used++] = c;
        }
        into[used++] = '.';
    }
    return false;
}

static bool records_before(const struct moon_dns_srv *a, const struct moon_dns_srv *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->weight > b->weight;
}

static void records_insert(struct moon_dns_srv *into, size_t count, const struct moon_dns_srv *one)
{
    size_t at = count;
    for (; at > 0 && records_before(one, &into[at - 1]); at--)
        into[at] = into[at - 1];
    into[at] = *one;
}

/// @return false: malformed. *is_srv tells whether `out` was filled
static bool reader_record(struct dns_reader *r, struct moon_dns_srv *out, uint32_t *ttl_s,
                          bool *is_srv)
{
    uint32_t type, class, len, priority, weight, port;
    *is_srv = false;
    if (!reader_skip_name(r) || !reader_number(r, 2, &type) || !reader_number(r, 2, &class) ||
        !reader_number(r, 4, ttl_s) || !reader_number(r, 2, &len) || r->reply.len - r->at < len)
        return false;
    size_t end = r->at + len;
    if (type == DNS_TYPE_SRV && class == DNS_CLASS_IN && len >= 7) {
        if (!reader_number(r, 2, &priority) || !reader_number(r, 2, &weight) ||
            !reader_number(r, 2, &port))
            return false;
        out->priority = (uint16_t)priority;
        out->weight = (uint16_t)weight;
        out->port = (uint16_t)port;
        // An empty target says that the service is not there (RFC 2782).
        *is_srv = reader_name(r, r->at, out->target) && out->target[0] != '\0';
    }
    r->at = end;
    return true;
}

size_t moon_dns_read_srv(struct moon_slice reply, struct moon_dns_srv into[MOON_DNS_RECORDS],
                         int64_t *ttl_ms)
{
    struct dns_reader r = {reply, 4};
    uint32_t questions, answers, skipped, ttl_s, lowest_s = UINT32_MAX;
    size_t count = 0;
    if (reply.len < DNS_HEAD || !reader_number(&r, 2, &questions) ||
        !reader_number(&r, 2, &answers) || !reader_number(&r, 4, &skipped))
        return 0;
    for (uint32_t i = 0; i < questions; i++) {
        if (!reader_skip_name(&r) || !reader_number(&r, 4, &skipped))
            return 0;
    }
    for (uint32_t i = 0; i < answers && count < MOON_DNS_RECORDS; i++) {
        struct moon_dns_srv one = {.port = 0};
        bool is_srv;
        if (!reader_record(&r, &one, &ttl_s, &is_srv))
            break;
        if (!is_srv)
            continue;
        records_insert(into, count++, &one);
        lowest_s = ttl_s < lowest_s ? ttl_s : lowest_s;
    }
    if (count > 0)
        *ttl_ms = (int64_t)lowest_s * 1000;
    return count;
}
