/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A client's connection: its stream, who is at the other end, and the protocol spoken on it.
///
/// Thread: one worker.

#include "gateway/exchange.h"
#include "http/h1.h"

/// An HTTP/1.x connection. One exchange at a time; what a client sends ahead waits in `in`.
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
    int client_minor;
    bool is_processing; // in session_process: what ends there goes on there
    bool is_reading_body;
    bool is_head_written;
    bool is_chunked;    // the response under way
    bool is_keep_alive; // after the present exchange
    bool is_eof;        // the client will send no more
    bool is_broken;     // reset: nothing can be written
    bool is_lingering;
    bool is_skipping;   // passes over the rest of a body nobody wants
};

/// Takes a connected descriptor. @return NULL when it cannot be served (fd is closed)
struct moon_session *moon_session_new(struct moon_gateway_listener *listener, int fd,
                                      const struct sockaddr *peer);

/// Closes at once, whatever goes on.
void moon_session_kill(struct moon_session *session);

/// Closes now if idle, else after the present exchange.
void moon_session_drain(struct moon_session *session);
