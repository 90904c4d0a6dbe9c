/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A client's connection: its stream, who is at the other end, and the protocol spoken on it.
///
/// Thread: one worker.

#include "gateway/exchange.h"
#include "gateway/slow_reader.h"
#include "http/h1.h"

struct moon_h2_conn; // session_h2.c

/// An HTTP/1.x connection, or the frame of an HTTP/2 one. One exchange at a time; what a client sends ahead waits in `in`.
struct moon_session {
    struct moon_list link; // in the gateway
    struct moon_gateway *gateway;
    struct moon_gateway_listener *listener;
    struct moon_generation *tls_generation; // whose TLS context the connection uses
    struct moon_stream *stream;
    struct moon_buf in;
    struct moon_client client;
    struct moon_timer timer;
    enum moon_rc timeout_rc; // what the timer means
    struct moon_exchange *exchange;
    struct moon_h1_scan scan;
    struct moon_h1_body body;
    size_t body_used; // of `in`, behind what read_body lent
    uint64_t requests;
    int64_t idle_ms; // that the last request's route lets the connection be silent; 0: none yet
    struct moon_reader_rule send_rule; // how it must read its answer; all 0: none yet
    struct moon_slow_reader reader;    // of what is written to the stream
    int client_minor;
    bool is_processing; // in session_process: what ends there goes on there
    bool is_reading_body;
    bool is_head_written;
    bool is_chunked;    // the response under way
    bool is_keep_alive; // after the present exchange
    bool is_eof;        // the client will send no more
    bool is_broken;     // reset: nothing can be written
    bool is_lingering;
    bool is_address_counted; // against connections_per_address
    bool is_skipping;        // passes over the rest of a body nobody wants
    bool is_protocol_known;  // HTTP/1.x or HTTP/2
    struct moon_h2_conn *h2; // HTTP/2; NULL: HTTP/1.x
};

/// Goes on in HTTP/2 with the bytes that are here already. The session may be gone afterwards.
void moon_session_h2_take(struct moon_session *session);

/// What moon_session_kill and moon_session_drain do for HTTP/2.
void moon_session_h2_kill(struct moon_session *session);
void moon_session_h2_drain(struct moon_session *session);

/// Ends an HTTP/2 connection that has no stream open, with GOAWAY, at once.
/// @return false when there is one, or the first is awaited
MUST_CHECK bool moon_session_h2_yield(struct moon_session *session);

/// Frees the session and what it holds (session_h1.c).
void moon_session_free(struct moon_session *session);

/// Ends the connection: reads on for a while, so that no reset takes the last bytes from the client.
void moon_session_linger(struct moon_session *session);

/// Takes a connected descriptor. @return NULL when it cannot be served (fd is closed)
struct moon_session *moon_session_new(struct moon_gateway_listener *listener, int fd,
                                      const struct sockaddr *peer);

/// Closes at once, whatever goes on.
void moon_session_kill(struct moon_session *session);

/// Closes now if idle, else after the present exchange.
void moon_session_drain(struct moon_session *session);
