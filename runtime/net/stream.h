/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A connected byte stream, plain or TLS, behind one table. Nothing waits; whoever gets MOON_AGAIN
/// is called back when going on makes sense. The read interest is on by default and stays on, so
/// that a steady connection costs no epoll_ctl.
///
/// Thread: the worker that owns the stream.

#include "base/buf.h"
#include "base/ip.h"
#include "net/loop.h"

#include <sys/uio.h>

struct moon_stream;
struct moon_tls_server; // net/tls.h
struct moon_tls_client; // net/tls.h

/// What a TLS connection has become. Lent: as long as the stream.
struct moon_tls_info {
    const char *version;    // "TLSv1.3"
    const char *cipher;     // "TLS_AES_256_GCM_SHA384"
    struct moon_slice sni;  // empty: none sent
    struct moon_slice alpn; // "h2", "http/1.1" or empty
    struct moon_slice ja4;  // fingerprint of the ClientHello (servers); empty where unknown
    bool is_resumed;
    bool has_client_certificate;
    bool is_client_verified;
    struct moon_slice client_verify_error;           // text; empty when verified
    struct moon_slice client_subject, client_issuer; // RFC 2253
    struct moon_slice client_serial;                 // hex
    struct moon_slice client_fingerprint;            // SHA-256, hex
    struct moon_slice client_common_name;
    struct moon_slice client_not_before, client_not_after; // ISO 8601
    struct moon_slice client_dns_names;                    // comma-separated
    struct moon_slice client_pem; // made on demand by moon_stream_client_pem
};

struct moon_stream_events {
    /// Bytes, an end, or an error wait: call moon_stream_read. Also after a TLS handshake ended.
    void (*on_readable)(void *owner);
    /// What moon_stream_write had queued is out; or a connect or handshake is over.
    void (*on_writable)(void *owner);
};

/// Takes a connected descriptor (taken: closed by moon_stream_free, also when this fails).
/// @param tls  NULL for a plain stream; otherwise the handshake starts by itself
/// @return NULL when out of memory
struct moon_stream *moon_stream_accept(struct moon_loop *loop, int fd, struct moon_tls_server *tls,
                                       const struct moon_stream_events *events, void *owner);

/// Starts a connection. on_writable tells the outcome; moon_stream_write before that queues.
/// @param tls   NULL for a plain stream
/// @param name  server name for SNI and verification; copied; may be NULL for a plain stream
/// @return MOON_ERR_CONNECT when it fails at once
MUST_CHECK enum moon_rc moon_stream_connect(struct moon_loop *loop, const struct sockaddr *address,
                                            socklen_t address_len, struct moon_tls_client *tls,
                                            const char *name,
                                            const struct moon_stream_events *events, void *owner,
                                            struct moon_stream **out);

/// Closes and frees; accepts NULL. May be called from a callback of this stream. TLS: close_notify
/// is sent where it goes without waiting.
void moon_stream_free(struct moon_stream *stream);

/// Hands the stream to another owner (upstream connections between calls).
void moon_stream_set_owner(struct moon_stream *stream, const struct moon_stream_events *events,
                           void *owner);

/// Has the connection (and handshake) been made? MOON_AGAIN while under way, else MOON_OK or what
/// went wrong: MOON_ERR_CONNECT, MOON_ERR_REFUSED, MOON_ERR_TLS.
enum moon_rc moon_stream_state(const struct moon_stream *stream);

/// Reads what the peer has sent so far; never waits.
///
/// @param into    borrowed; appended to, never past its ceiling
/// @param most    how much room to ask for
/// @param n_read  bytes appended; 0 unless MOON_OK
/// @return MOON_OK, MOON_AGAIN (nothing yet), MOON_EOF (peer closed), MOON_ERR_IO (reset),
///         MOON_ERR_TLS (is logged), MOON_ERR_LIMIT (buffer is full)
MUST_CHECK enum moon_rc moon_stream_read(struct moon_stream *stream, struct moon_buf *into,
                                         size_t most, size_t *n_read);

/// Writes all of `iov`: what the socket does not take now is copied and sent later. After
/// MOON_AGAIN the caller should write no more before on_writable (what is queued stays bounded by
/// what one call brings).
///
/// @return MOON_OK (all out), MOON_AGAIN (all taken, some queued), MOON_ERR_IO, MOON_ERR_TLS
MUST_CHECK enum moon_rc moon_stream_write(struct moon_stream *stream, const struct iovec *iov,
                                          int count);

/// Bytes queued and not yet sent.
size_t moon_stream_queued(const struct moon_stream *stream);

/// Stops or resumes reading (back-pressure).
void moon_stream_pause_reading(struct moon_stream *stream, bool is_paused);

/// True while bytes wait inside the stream (TLS) although the socket is not readable.
bool moon_stream_has_pending(const struct moon_stream *stream);

/// Whether this turn of the loop has found it readable, and on_readable is still to come. Costs no
/// system call.
bool moon_stream_is_due(const struct moon_stream *stream);

/// Has on_readable follow now instead of later in this turn, where it is due.
void moon_stream_hasten(struct moon_stream *stream);

/// Whether the peer has closed or reset the connection and all that it sent before was read.
bool moon_stream_has_ended(struct moon_stream *stream);

/// Bytes that go out before everything else, TLS included, as soon as the connection stands (a PROXY
/// header). At most a hundred or so; right after moon_stream_connect only. Copied.
MUST_CHECK enum moon_rc moon_stream_preamble(struct moon_stream *stream, struct moon_slice bytes);

/// No more will be written: FIN, or close_notify and FIN, after what is queued.
void moon_stream_shutdown_write(struct moon_stream *stream);

/// Closes so that the peer sees a reset: a cut answer must not look whole. moon_stream_free must
/// still follow.
void moon_stream_abort(struct moon_stream *stream);

/// NULL for a plain stream.
const struct moon_tls_info *moon_stream_tls(struct moon_stream *stream);
/// The client's certificate; empty where it sent none. Lent: as long as the stream.
struct moon_slice moon_stream_client_pem(struct moon_stream *stream);

int moon_stream_fd(const struct moon_stream *stream);
/// How much of what was written the peer has acknowledged, TLS's own bytes aside. Costs a system call.
uint64_t moon_stream_bytes_read(const struct moon_stream *stream);
