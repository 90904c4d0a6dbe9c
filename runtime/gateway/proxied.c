/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/proxied.h"

#include "base/log.h"
#include "gateway/admission.h"
#include "gateway/client.h"
#include "gateway/session.h"
#include "net/proxy_protocol.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

struct moon_proxied {
    struct moon_list link; // in the gateway
    struct moon_gateway_listener *listener;
    struct moon_io io;
    struct moon_timer timer;
    struct sockaddr_storage peer;
    size_t len; // of `bytes`: taken from the socket
    char bytes[MOON_PROXY_V2_BYTES];
};

static void proxied_free(struct moon_proxied *p)
{
    moon_io_stop(&p->io);
    moon_timer_stop(&p->timer);
    moon_list_remove(&p->link);
    free(p);
}

static void proxied_refuse(struct moon_proxied *p, const char *why)
{
    char text[MOON_IP_TEXT_BYTES];
    uint16_t port;
    struct moon_ip ip = moon_ip_from_sockaddr((struct sockaddr *)&p->peer, &port);
    moon_log_warn("connection of a trusted proxy closed: %s client=%.*s", why,
                  (int)moon_ip_format(&ip, text), text);
    moon_admission_refuse(p->listener->gateway, MOON_REFUSED_PROXY_HEADER, &ip);
    (void)close(p->io.fd);
    proxied_free(p);
}

static void proxied_timeout(struct moon_timer *timer)
{
    proxied_refuse(timer->owner, "no PROXY header in head_timeout");
}

static void proxied_address(const struct moon_ip *ip, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (moon_ip_is_v4(ip)) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&v4.sin_addr, ip->bytes + 12, 4);
        memcpy(out, &v4, sizeof(v4));
    } else {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&v6.sin6_addr, ip->bytes, 16);
        memcpy(out, &v6, sizeof(v6));
    }
}

// Frees the waiting one; its descriptor lives on as a session.
static void proxied_hand_over(struct moon_proxied *p, const struct moon_proxy_header *header)
{
    struct moon_gateway_listener *listener = p->listener;
    struct sockaddr_storage peer = p->peer;
    int fd = p->io.fd;
    if (header->has_addresses)
        proxied_address(&header->source, header->source_port, &peer);
    proxied_free(p);
    struct moon_session *session = moon_session_new(listener, fd, (struct sockaddr *)&peer);
    if (session != NULL && header->has_addresses) {
        session->client.server_ip = header->destination;
        session->client.server_port = header->destination_port;
    }
}

static void proxied_readable(struct moon_io *io, int events)
{
    struct moon_proxied *p = io->owner;
    struct moon_proxy_header header;
    size_t used = 0;
    (void)events;
    ssize_t n = recv(io->fd, p->bytes + p->len, sizeof(p->bytes) - p->len, MSG_PEEK | MSG_DONTWAIT);
    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        (void)close(io->fd);
        proxied_free(p);
        return;
    }
    size_t seen = p->len + (size_t)n;
    enum moon_rc rc = moon_proxy_parse(moon_slice(p->bytes, seen), &header, &used);
    if (rc == MOON_AGAIN && seen < sizeof(p->bytes))
        used = seen; // all of it is header
    else if (rc != MOON_OK) {
        proxied_refuse(p, "its PROXY header is missing or malformed");
        return;
    }
    // What was looked at is taken out of the socket, and nothing behind the header.
    if (used > p->len &&
        recv(io->fd, p->bytes + p->len, used - p->len, MSG_DONTWAIT) != (ssize_t)(used - p->len)) {
        proxied_refuse(p, "the socket lost bytes that it had shown");
        return;
    }
    p->len = used;
    if (rc == MOON_OK)
        proxied_hand_over(p, &header);
}

bool moon_proxied_is_expected(const struct moon_gateway_listener *listener,
                              const struct sockaddr *peer)
{
    const struct moon_plan *plan = listener->gateway->generation->plan;
    if (listener->index < 0 || !plan->listeners[listener->index].has_proxy_protocol)
        return false;
    return peer->sa_family == AF_UNIX || moon_client_is_trusted(plan, peer);
}

void moon_proxied_new(struct moon_gateway_listener *listener, int fd, const struct sockaddr *peer)
{
    struct moon_gateway *gateway = listener->gateway;
    struct moon_proxied *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        (void)close(fd);
        return;
    }
    socklen_t len = peer->sa_family == AF_INET    ? sizeof(struct sockaddr_in)
                    : peer->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                  : sizeof(sa_family_t);
    memcpy(&p->peer, peer, len);
    p->listener = listener;
    moon_list_push_back(&gateway->proxied, &p->link);
    moon_io_init(&p->io, gateway->env.loop, fd, proxied_readable, p);
    moon_timer_init(&p->timer, gateway->env.loop, proxied_timeout, p);
    moon_timer_set(&p->timer, gateway->generation->plan->limits.head_timeout_ms);
    moon_io_watch(&p->io, MOON_IO_READ);
}

void moon_proxied_clear(struct moon_gateway *gateway, const struct moon_gateway_listener *listener)
{
    MOON_LIST_EACH(at, after, &gateway->proxied)
    {
        struct moon_proxied *p = MOON_LIST_ENTRY(at, struct moon_proxied, link);
        if (listener != NULL && p->listener != listener)
            continue;
        (void)close(p->io.fd);
        proxied_free(p);
    }
}
