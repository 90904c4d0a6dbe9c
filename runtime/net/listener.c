/* SPDX-License-Identifier: Apache-2.0 */
#include "net/listener.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ACCEPT_BURST = 16,
    ACCEPT_PAUSE_MS = 100,
    ACCEPT_RESERVE_LEAST = 16, // descriptors left for backends, logs and files
};

struct moon_acceptor {
    struct moon_io io;
    struct moon_timer resume;
    moon_accept_fn *on_accept;
    void *owner;
    int burst;      // 1 <= burst <= ACCEPT_BURST; grows while connections keep waiting
    int fd_max;     // a descriptor numbered above it means that few are left
    bool was_short; // the shortage has been logged
    bool *is_freed; // set while accepting: tells that on_accept freed the acceptor
};

// A socket file that nobody listens on is left over from a process that died.
static bool listen_unlink_stale(const struct moon_listen_address *address)
{
    struct sockaddr_un un;
    memcpy(&un, &address->sa, sizeof(un));
    struct stat info;
    if (lstat(un.sun_path, &info) == -1 || !S_ISSOCK(info.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return false;
    bool is_stale = connect(fd, (const struct sockaddr *)&address->sa, address->len) == -1 &&
                    errno == ECONNREFUSED;
    (void)close(fd);
    return is_stale && unlink(un.sun_path) == 0;
}

static int listen_set_options(int fd, int family, bool is_dual, bool is_reuseport)
{
    int on = 1;
    int is_v6_only = is_dual ? 0 : 1;
    if (family == AF_UNIX)
        return 0;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1)
        return -1;
    if (is_reuseport && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == -1)
        return -1;
    // "0.0.0.0:80" and "[::]:80" are two listeners, and "*:80" is both, whatever the system's default.
    if (family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6_only, sizeof(is_v6_only)) == -1)
        return -1;
    // Accepted sockets inherit it on Linux: one call here, none per connection.
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

// What a system without IPv6 can do for "*:port".
static void listen_keep_v4(struct moon_listen_address *address)
{
    struct sockaddr_in6 any;
    memcpy(&any, &address->sa, sizeof(any));
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = any.sin6_port};
    memcpy(&address->sa, &in, sizeof(in));
    address->len = sizeof(in);
    address->is_dual = false;
}

// A socket of the address's family; of "*:port" what there is.
static int listen_socket(struct moon_listen_address *address)
{
    enum { KIND = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC };
    int fd = socket(address->sa.ss_family, KIND, 0);
    if (fd == -1 && errno == EAFNOSUPPORT && address->is_dual) {
        listen_keep_v4(address);
        fd = socket(AF_INET, KIND, 0);
    }
    return fd;
}

int moon_listen_set_mode(const struct moon_listen_address *address)
{
    struct sockaddr_un un;
    memcpy(&un, &address->sa, sizeof(un));
    return chmod(un.sun_path, address->mode);
}

static int listen_bind(int fd, const struct moon_listen_address *address)
{
    const struct sockaddr *sa = (const struct sockaddr *)&address->sa;
    int rc = bind(fd, sa, address->len);
    if (rc == -1 && errno == EADDRINUSE && sa->sa_family == AF_UNIX && listen_unlink_stale(address))
        rc = bind(fd, sa, address->len);
    // Before listen(2), so that nobody connects with other permissions than these.
    if (rc == 0 && sa->sa_family == AF_UNIX && address->mode != 0)
        rc = moon_listen_set_mode(address);
    return rc;
}

enum moon_rc moon_listen_bind(const struct moon_listen_address *address, int backlog,
                              bool is_reuseport, char *error, size_t error_cap, int *fd_out)
{
    struct moon_listen_address own = *address;
    int fd = listen_socket(&own);
    if (fd == -1 || listen_set_options(fd, own.sa.ss_family, own.is_dual, is_reuseport) == -1 ||
        listen_bind(fd, &own) == -1 || listen(fd, backlog) == -1) {
        (void)snprintf(error, error_cap, "cannot listen on %s: %m", address->text);
        if (fd != -1)
            (void)close(fd);
        return MOON_ERR_SYSTEM;
    }
    *fd_out = fd;
    return MOON_OK;
}

void moon_listen_text(int fd, char *into, size_t cap)
{
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);
    char ip[INET6_ADDRSTRLEN] = "";
    int is_v6_only = 1;
    socklen_t only_len = sizeof(is_v6_only);
    const void *at = &sa;
    into[0] = '\0';
    if (getsockname(fd, (struct sockaddr *)&sa, &len) == -1)
        return;
    if (sa.ss_family == AF_UNIX)
        (void)snprintf(into, cap, "unix:%.107s", ((const struct sockaddr_un *)at)->sun_path);
    if (sa.ss_family == AF_INET) {
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)at)->sin_addr, ip, sizeof(ip));
        (void)snprintf(into, cap, "%s:%u", ip, moon_listen_port(fd));
    }
    if (sa.ss_family == AF_INET6) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)at)->sin6_addr;
        (void)getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6_only, &only_len);
        (void)inet_ntop(AF_INET6, v6, ip, sizeof(ip));
        if (is_v6_only == 0 && IN6_IS_ADDR_UNSPECIFIED(v6))
            (void)snprintf(into, cap, "*:%u", moon_listen_port(fd));
        else
            (void)snprintf(into, cap, "[%s]:%u", ip, moon_listen_port(fd));
    }
}

uint16_t moon_listen_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &len) == -1)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
    return 0;
}

static void acceptor_rest(struct moon_acceptor *acceptor, const char *reason)
{
    if (!acceptor->was_short)
        moon_log_warn("accepting pauses for %d ms at a time: %s", ACCEPT_PAUSE_MS, reason);
    acceptor->was_short = true;
    moon_io_watch(&acceptor->io, 0);
    moon_timer_set(&acceptor->resume, ACCEPT_PAUSE_MS);
}

static void acceptor_resume(struct moon_timer *timer)
{
    struct moon_acceptor *acceptor = timer->owner;
    moon_io_watch(&acceptor->io, MOON_IO_READ);
}

/// @return true when another connection may wait
static bool acceptor_take_one(struct moon_acceptor *acceptor, int *fd_out,
                              struct sockaddr_storage *peer, socklen_t *peer_len)
{
    *peer_len = sizeof(*peer);
    *fd_out =
        accept4(acceptor->io.fd, (struct sockaddr *)peer, peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (*fd_out != -1)
        return true;
    switch (errno) {
    case EAGAIN:
        acceptor->burst = 1;
        return false;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        acceptor_rest(acceptor, strerrordesc_np(errno));
        return false;
    default: // ECONNABORTED, EINTR, network errors of the new socket: accept(2) says go on
        return true;
    }
}

static void acceptor_ready(struct moon_io *io, int events)
{
    (void)events;
    struct moon_acceptor *acceptor = io->owner;
    bool is_freed = false;
    acceptor->is_freed = &is_freed;
    int fd, fd_max = acceptor->fd_max;
    struct sockaddr_storage peer;
    socklen_t peer_len;
    // At a low rate one accept4 a turn, and none that only hears EAGAIN.
    int burst = acceptor->burst;
    acceptor->burst = burst < ACCEPT_BURST ? burst * 2 : ACCEPT_BURST;
    for (int i = 0; i < burst; i++) {
        if (!acceptor_take_one(acceptor, &fd, &peer, &peer_len))
            break;
        if (fd == -1)
            continue;
        acceptor->on_accept(acceptor->owner, fd, (const struct sockaddr *)&peer, peer_len);
        if (is_freed)
            return;
        if (fd >= fd_max) {
            acceptor_rest(acceptor, "descriptors run short");
            break;
        }
        acceptor->was_short = false;
    }
    acceptor->is_freed = NULL;
}

static int acceptor_fd_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur > INT32_MAX)
        return INT32_MAX;
    size_t reserve = moon_max_size((size_t)limit.rlim_cur / 16, ACCEPT_RESERVE_LEAST);
    return (size_t)limit.rlim_cur > 2 * reserve ? (int)((size_t)limit.rlim_cur - reserve)
                                                : INT32_MAX;
}

struct moon_acceptor *moon_acceptor_new(struct moon_loop *loop, int listen_fd,
                                        moon_accept_fn *on_accept, void *owner)
{
    struct moon_acceptor *acceptor = calloc(1, sizeof(*acceptor));
    if (acceptor == NULL)
        return NULL;
    acceptor->on_accept = on_accept;
    acceptor->owner = owner;
    acceptor->burst = 1;
    acceptor->fd_max = acceptor_fd_max();
    // A socket that was handed over (systemd, upgrade) may lack what moon_listen_bind sets.
    int flags = fcntl(listen_fd, F_GETFL);
    if (flags != -1 && (flags & O_NONBLOCK) == 0)
        (void)fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK);
    int on = 1;
    if (moon_listen_port(listen_fd) != 0)
        (void)setsockopt(listen_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    moon_io_init(&acceptor->io, loop, listen_fd, acceptor_ready, acceptor);
    moon_timer_init(&acceptor->resume, loop, acceptor_resume, acceptor);
    moon_io_watch(&acceptor->io, MOON_IO_READ);
    return acceptor;
}

void moon_acceptor_free(struct moon_acceptor *acceptor)
{
    if (acceptor == NULL)
        return;
    if (acceptor->is_freed != NULL)
        *acceptor->is_freed = true;
    moon_timer_stop(&acceptor->resume);
    moon_io_stop(&acceptor->io);
    free(acceptor);
}
