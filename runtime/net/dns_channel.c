/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_channel.h"

#include "base/log.h"

#include <sys/stat.h>
#include <sys/time.h>

enum { DNS_TIMEOUT_MS = 1500, DNS_TRIES = 3, DNS_CHECK_MS = 1000 };

struct dns_socket {
    struct moon_list link;
    struct moon_io io;
    struct dns_channel *channel;
};

static int64_t channel_conf_changed_ns(void)
{
    struct stat info;
    if (stat("/etc/resolv.conf", &info) == -1)
        return 0;
    return (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
}

static void channel_set_timer(struct dns_channel *channel)
{
    struct timeval wait;
    if (channel->ares == NULL || ares_timeout(channel->ares, NULL, &wait) == NULL) {
        moon_timer_stop(&channel->timeout);
        return;
    }
    moon_timer_set(&channel->timeout, (int64_t)wait.tv_sec * 1000 + wait.tv_usec / 1000 + 1);
}

static void channel_timed_out(struct moon_timer *timer)
{
    struct dns_channel *channel = timer->owner;
    ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    channel_set_timer(channel);
}

static void channel_socket_ready(struct moon_io *io, int events)
{
    struct dns_channel *channel = ((struct dns_socket *)io->owner)->channel;
    ares_socket_t fd = io->fd; // the socket may be gone after this call
    ares_process_fd(channel->ares, (events & MOON_IO_READ) != 0 ? fd : ARES_SOCKET_BAD,
                    (events & MOON_IO_WRITE) != 0 ? fd : ARES_SOCKET_BAD);
    channel_set_timer(channel);
}

static struct dns_socket *channel_socket(struct dns_channel *channel, int fd)
{
    MOON_LIST_EACH(at, after, &channel->sockets)
    {
        struct dns_socket *socket = MOON_LIST_ENTRY(at, struct dns_socket, link);
        if (socket->io.fd == fd)
            return socket;
    }
    return NULL;
}

static void channel_socket_changed(void *arg, ares_socket_t fd, int is_read, int is_written)
{
    struct dns_channel *channel = arg;
    struct dns_socket *socket = channel_socket(channel, fd);
    if (!is_read && !is_written) {
        if (socket == NULL)
            return;
        moon_io_stop(&socket->io);
        moon_list_remove(&socket->link);
        free(socket);
        return;
    }
    if (socket == NULL) {
        socket = calloc(1, sizeof(*socket));
        if (socket == NULL)
            return; // the query times out
        socket->channel = channel;
        moon_io_init(&socket->io, channel->loop, fd, channel_socket_ready, socket);
        moon_list_push_back(&channel->sockets, &socket->link);
    }
    moon_io_watch(&socket->io, (is_read ? MOON_IO_READ : 0) | (is_written ? MOON_IO_WRITE : 0));
}

static bool channel_open(struct dns_channel *channel)
{
    static char lookups[] = "fb"; // /etc/hosts, then name servers, whatever nsswitch.conf says
    struct ares_options options = {.lookups = lookups,
                                   .timeout = DNS_TIMEOUT_MS,
                                   .tries = DNS_TRIES,
                                   .sock_state_cb = channel_socket_changed,
                                   .sock_state_cb_data = channel};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
    channel->conf_changed_ns = channel_conf_changed_ns();
    int status = ares_init_options(&channel->ares, &options, mask);
    if (status != ARES_SUCCESS) {
        moon_log_error("dns: %s", ares_strerror(status));
        channel->ares = NULL;
        return false;
    }
    if (channel->servers != NULL)
        status = ares_set_servers_ports_csv(channel->ares, channel->servers);
    if (status != ARES_SUCCESS)
        moon_log_error("dns: servers %s: %s", channel->servers, ares_strerror(status));
    return status == ARES_SUCCESS;
}

enum moon_rc moon_dns_channel_init(struct dns_channel *channel, struct moon_loop *loop,
                                   const char *servers)
{
    *channel = (struct dns_channel){.loop = loop};
    moon_list_init(&channel->sockets);
    moon_timer_init(&channel->timeout, loop, channel_timed_out, channel);
    if (servers != NULL && (channel->servers = strdup(servers)) == NULL)
        return MOON_ERR_MEMORY;
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        return MOON_ERR_SYSTEM;
    return channel_open(channel) ? MOON_OK : MOON_ERR_CONFIG;
}

static void channel_close(struct dns_channel *channel)
{
    if (channel->ares != NULL)
        ares_destroy(channel->ares); // answers what is under way with an error
    channel->ares = NULL;
    moon_timer_stop(&channel->timeout);
    while (!moon_list_is_empty(&channel->sockets)) {
        struct dns_socket *socket = MOON_LIST_ENTRY(channel->sockets.next, struct dns_socket, link);
        channel_socket_changed(channel, socket->io.fd, 0, 0);
    }
}

void moon_dns_channel_fini(struct dns_channel *channel)
{
    channel_close(channel);
    free(channel->servers);
    channel->servers = NULL;
    ares_library_cleanup();
}

void moon_dns_channel_set_servers(struct dns_channel *channel, struct moon_slice servers)
{
    struct moon_slice old = moon_slice_text(channel->servers);
    if (moon_slice_is(old, servers))
        return;
    char *copy = servers.len > 0 ? strndup(servers.data, servers.len) : NULL;
    if (servers.len > 0 && copy == NULL)
        return;
    free(channel->servers);
    channel->servers = copy;
    channel->is_outdated = true;
}

void moon_dns_channel_check(struct dns_channel *channel)
{
    int64_t now_ms = moon_loop_now_ms(channel->loop);
    if (channel->under_way > 0 ||
        (!channel->is_outdated && now_ms - channel->checked_ms < DNS_CHECK_MS))
        return;
    channel->checked_ms = now_ms;
    bool has_changed =
        channel->is_outdated ||
        (channel->servers == NULL && channel_conf_changed_ns() != channel->conf_changed_ns);
    channel->is_outdated = false;
    if (channel->ares != NULL && !has_changed)
        return;
    channel_close(channel);
    (void)channel_open(channel);
}

void moon_dns_channel_started(struct dns_channel *channel)
{
    channel_set_timer(channel);
}
