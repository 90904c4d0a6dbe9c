// SPDX-License-Identifier: Apache-2.0
#include "waf/waf.h"

#include <arpa/inet.h>

bool waf_address_parse(struct waf_str s, unsigned char out[16])
{
    char text[64];
    struct in_addr v4;
    struct in6_addr v6;
    if (s.n == 0 || s.n >= sizeof text) {
        return false;
    }
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    if (inet_pton(AF_INET, text, &v4) == 1) {
        memset(out, 0, 10);
        out[10] = out[11] = 0xff;
        memcpy(out + 12, &v4, 4);
        return true;
    }
    if (inet_pton(AF_INET6, text, &v6) == 1) {
        memcpy(out, &v6, 16);
        return true;
    }
    return false;
}

bool waf_cidr_parse(struct waf_str s, struct waf_cidr *out)
{
    const char *slash = s.n == 0 ? NULL : memchr(s.p, '/', s.n);
    struct waf_str host = {s.p, slash == NULL ? s.n : (size_t)(slash - s.p)};
    if (!waf_address_parse(host, out->address)) {
        return false;
    }
    bool is_v4 = memchr(host.p, ':', host.n) == NULL;
    out->bits = 128;
    if (slash == NULL) {
        return true;
    }
    struct waf_str mask = {slash + 1, s.n - host.n - 1};
    for (size_t i = 0; i < mask.n; i++) {
        if (!waf_is_digit((unsigned char)mask.p[i])) {
            return false;
        }
    }
    long bits = waf_to_long(mask);
    if (mask.n == 0 || bits > (is_v4 ? 32 : 128)) {
        return false;
    }
    out->bits = (unsigned)bits + (is_v4 ? 96 : 0);
    return true;
}

bool waf_cidr_holds(const struct waf_cidr *c, const unsigned char address[16])
{
    unsigned whole = c->bits / 8, rest = c->bits % 8;
    if (memcmp(c->address, address, whole) != 0) {
        return false;
    }
    return rest == 0 || (c->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}
