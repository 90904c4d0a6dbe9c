/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Listening sockets. The supervisor binds one per worker (SO_REUSEPORT; one shared for a UNIX
/// path) and keeps them open, so that a dead worker's queue is not lost; a worker accepts.

#include "net/loop.h"

#include <sys/socket.h>

struct moon_listen_address {
    struct sockaddr_storage sa;
    socklen_t len;
    char text[128]; // "0.0.0.0:8080", "[::]:8080", "*:8080", "unix:/run/x.sock"
    mode_t mode;    // permissions of a UNIX socket's file; 0: as the umask leaves them
    bool is_dual;   // one IPv6 socket takes IPv4 too: "*:8080"
};

/// Reads "IP:port", "[IPv6]:port", "unix:PATH"; "*:port", ":port" and "port" are all addresses of both
/// families. @return MOON_ERR_CONFIG
MUST_CHECK enum moon_rc moon_listen_address_parse(const char *text,
                                                  struct moon_listen_address *out);

/// Gives the file of a UNIX socket the permissions of `address`. @return -1 and errno on failure
int moon_listen_set_mode(const struct moon_listen_address *address);

/// Binds and listens; close-on-exec, non-blocking.
/// @param error  text for people: what could not be bound and why
MUST_CHECK enum moon_rc moon_listen_bind(const struct moon_listen_address *address, int backlog,
                                         bool is_reuseport, char *error, size_t error_cap,
                                         int *fd_out);

/// The address that a socket is bound to, in the form of moon_listen_address.text; "" on failure.
void moon_listen_text(int fd, char *into, size_t cap);

/// The port a socket is bound to (for port 0). 0 for a UNIX socket.
uint16_t moon_listen_port(int fd);

struct moon_acceptor;

/// @param fd       taken over: set non-blocking, TCP_NODELAY; `peer` and `local` are borrowed
typedef void moon_accept_fn(void *owner, int fd, const struct sockaddr *peer, socklen_t peer_len);

/// Accepts in bursts of at most 16. When descriptors run out it pauses and tries again after 100 ms.
struct moon_acceptor *moon_acceptor_new(struct moon_loop *loop, int listen_fd,
                                        moon_accept_fn *on_accept, void *owner);

/// Stops accepting; the listening descriptor stays open. Accepts NULL.
void moon_acceptor_free(struct moon_acceptor *acceptor);
