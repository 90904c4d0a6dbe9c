/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The inside of a stream, shared by stream.c, stream_plain.c and stream_tls.c; nobody else
/// includes it. stream.c owns the descriptor, the queue and the callbacks; what differs between
/// plain and TLS is the table of operations. A transport that is no TCP socket (QUIC) is one more
/// table.

#include "net/stream.h"

enum stream_state {
    STREAM_CONNECTING,
    STREAM_HANDSHAKING,
    STREAM_OPEN,
    STREAM_FAILED, // `failure` says why
};

struct moon_stream_ops {
    /// One attempt. @return MOON_OK, MOON_AGAIN, MOON_EOF, MOON_ERR_IO, MOON_ERR_TLS
    enum moon_rc (*read)(struct moon_stream *s, char *room, size_t n, size_t *n_read);
    /// Writes what goes; *n_written is set on every return. @return MOON_OK (all), MOON_AGAIN, ...
    enum moon_rc (*write)(struct moon_stream *s, const struct iovec *iov, int count,
                          size_t *n_written);
    /// NULL: none. @return MOON_OK, MOON_AGAIN, MOON_ERR_TLS, MOON_ERR_IO
    enum moon_rc (*handshake)(struct moon_stream *s);
    bool (*has_pending)(struct moon_stream *s);
    /// Whether nothing but an end or an error is left to read; what is left stays.
    bool (*has_ended)(struct moon_stream *s);
    void (*shutdown)(struct moon_stream *s); // before the FIN
    void (*fini)(struct moon_stream *s);
};

struct moon_stream {
    const struct moon_stream_ops *ops;
    const struct moon_stream_events *events;
    void *owner;
    struct moon_io io;
    struct moon_task again;      // on_readable for bytes that wait inside the stream
    struct moon_buf queue;       // taken by moon_stream_write and not yet sent
    struct moon_stream_tls *tls; // stream_tls.c; NULL for a plain stream
    char *preamble;              // moon_stream_preamble; ours until it is sent
    size_t preamble_len;
    uint64_t bytes_out;
    enum stream_state state;
    enum moon_rc failure; // MOON_OK unless STREAM_FAILED
    int callback_depth;   // > 0: freeing waits
    bool is_client;
    bool may_have_input; // false: the socket was drained; epoll tells when there is more
    bool is_read_ended;  // EOF or error was given out
    bool is_paused;
    bool is_shutdown_wanted; // after the queue
    bool is_shutdown_done;
    bool wants_write_to_read; // TLS: reading waits for the socket to take bytes
    bool is_dead;             // moon_stream_free was called
    struct moon_stream *next_free;
};

extern const struct moon_stream_ops moon_stream_plain_ops;
extern const struct moon_stream_ops moon_stream_tls_ops;

/// The raw socket: EINTR handled, no SIGPIPE, `may_have_input` kept.
/// @return bytes; 0: EOF; -1 with errno
ssize_t moon_stream_socket_recv(struct moon_stream *s, void *into, size_t n);
ssize_t moon_stream_socket_send(struct moon_stream *s, const void *from, size_t n);

/// Makes `s->tls` for a server or a client. @return MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_stream_tls_accept(struct moon_stream *s,
                                               struct moon_tls_server *server);
MUST_CHECK enum moon_rc moon_stream_tls_connect(struct moon_stream *s,
                                                struct moon_tls_client *client, const char *name,
                                                const struct sockaddr *address,
                                                socklen_t address_len);
