/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ip.h"
#include "base/slice.h"
#include "net/listener.h"

#include <netinet/in.h>
#include <sys/un.h>

static bool address_unix(struct moon_slice path, struct moon_listen_address *out)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (path.len == 0 || !moon_slice_copy_text(path, un.sun_path, sizeof(un.sun_path)))
        return false;
    memcpy(&out->sa, &un, sizeof(un));
    out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    int n = snprintf(out->text, sizeof(out->text), "unix:%s", un.sun_path);
    return n > 0 && (size_t)n < sizeof(out->text);
}

static void address_any(uint16_t port, struct moon_listen_address *out)
{
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_ANY_INIT};
    memcpy(&out->sa, &v6, sizeof(v6));
    out->len = sizeof(v6);
    out->is_dual = true;
    (void)snprintf(out->text, sizeof(out->text), "*:%u", (unsigned)port);
}

static void address_ip(const struct moon_ip *ip, uint16_t port, struct moon_listen_address *out)
{
    char text[MOON_IP_TEXT_BYTES];
    size_t len = moon_ip_format(ip, text);
    const char *form = moon_ip_is_v4(ip) ? "%.*s:%u" : "[%.*s]:%u";
    (void)snprintf(out->text, sizeof(out->text), form, (int)len, text, (unsigned)port);
    if (moon_ip_is_v4(ip)) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&v4.sin_addr, ip->bytes + 12, 4);
        memcpy(&out->sa, &v4, sizeof(v4));
        out->len = sizeof(v4);
    } else {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&v6.sin6_addr, ip->bytes, 16);
        memcpy(&out->sa, &v6, sizeof(v6));
        out->len = sizeof(v6);
    }
}

static bool address_host(struct moon_slice host, struct moon_ip *ip)
{
    if (moon_slice_is_nocase(host, MOON_S("localhost")))
        host = MOON_S("127.0.0.1");
    return moon_ip_parse(host, ip);
}

enum moon_rc moon_listen_address_parse(const char *text, struct moon_listen_address *out)
{
    struct moon_listen_address address = {.len = 0};
    struct moon_slice all = moon_slice_text(text);
    if (moon_slice_starts(all, MOON_S("unix:"))) {
        if (!address_unix(moon_slice_from(all, 5), &address))
            return MOON_ERR_CONFIG;
        *out = address;
        return MOON_OK;
    }
    size_t port_at = all.len; // after the last colon; the whole text when there is none
    while (port_at > 0 && all.data[port_at - 1] != ':')
        port_at--;
    struct moon_slice host = moon_slice(all.data, port_at > 0 ? port_at - 1 : 0);
    bool is_bracketed = host.len > 0 && host.data[0] == '[';
    bool has_colon = moon_slice_find(host, ':') < host.len;
    bool is_any = host.len == 0 || moon_slice_is(host, MOON_S("*"));
    struct moon_ip ip;
    int64_t port;
    if (has_colon != is_bracketed || !moon_slice_number(moon_slice_from(all, port_at), &port) ||
        port > UINT16_MAX || (!is_any && !address_host(host, &ip)))
        return MOON_ERR_CONFIG;
    if (is_any)
        address_any((uint16_t)port, &address);
    else
        address_ip(&ip, (uint16_t)port, &address);
    *out = address;
    return MOON_OK;
}
