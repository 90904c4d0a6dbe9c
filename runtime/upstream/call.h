/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// One call of a backend: a target is chosen, a connection taken, waited for or made, the request
/// sent, the response read; with deadlines for each stage and further tries where that is safe. A
/// body streams in both directions and is never held here beyond the connection's buffer.
///
/// A call is tried again only when nothing was sent, or when the method is idempotent (or the owner
/// allows it) and nothing of an answer has reached the owner (RFC 9110 §9.2.2); and never once
/// moon_call_write was used, for what was written is gone.
///
/// Files: call.c (start, end, deadlines), call_try.c (targets and further tries), call_connect.c
/// (names, addresses), call_h1.c and call_h2.c (the two transports).

#include "http/h1.h"
#include "net/proxy_protocol.h"
#include "upstream/upstream.h"

enum moon_call_state {
    MOON_CALL_IDLE,
    MOON_CALL_PREPARING, // targets are looked up, or a token is fetched
    MOON_CALL_PENDING,   // the pool is full
    MOON_CALL_WAITING,   // before a further try
    MOON_CALL_RESOLVING,
    MOON_CALL_CONNECTING,
    MOON_CALL_SENDING, // request under way, no answer yet
    MOON_CALL_BODY,    // the response's head is whole
    MOON_CALL_TUNNEL,  // after 101: bytes both ways
    MOON_CALL_FAILED,
};

struct moon_call_events {
    void (*on_head)(void *owner);                    // call->response is whole
    void (*on_body)(void *owner);                    // moon_call_read has more, an end or an error
    void (*on_writable)(void *owner);                // moon_call_write may go on
    void (*on_failed)(void *owner, enum moon_rc rc); // there will be no head
    /// An interim answer (1xx, but neither 100 nor 101). NULL: passed over
    void (*on_interim)(void *owner, const struct moon_response *response);
};

/// Moments (moon_clock_us), 0 where a stage was not reached, and what all tries together took until they
/// had a connection: names, queues, waits between them, handshakes, failures to connect.
struct moon_call_times {
    int64_t started_us, head_us;
    int64_t
        unconnected_us; // since when there is no connection; 0: there is one, or nobody wants one
    int64_t connecting_us; // a span: without that of `unconnected_us`
};

/// Lies in the owner's struct.
struct moon_call {
    struct moon_upstreams *upstreams;
    struct moon_backend *backend;
    struct moon_arena *arena;
    const struct moon_call_events *events;
    void *owner;

    enum moon_call_state state;
    const struct moon_request *request; // borrowed until the call ends
    const struct moon_fields *trailers; // of the request as it was given: they come with its end
    struct moon_slice target_path;      // path and query as sent, without the target's prefix
    struct moon_slice first_body;       // lent by the owner until it calls moon_call_write
    bool is_first_last;                 // first_body is all of it

    struct moon_target *target;          // counted as in flight while not NULL
    struct moon_list of_target;          // in its list of calls
    struct moon_members *members;        // that it is one of; counted
    const struct moon_members *tried_of; // what choice.tried counts
    struct moon_choice choice;           // hash and affinity: the owner's
    const struct call_transport *transport;
    struct moon_uconn *conn;    // HTTP/1.1: its own
    struct call_stream *stream; // HTTP/2: its place on a shared connection
    struct moon_dns_query *query;
    struct call_dial *dial; // several addresses are tried
    struct moon_waiter waiter;
    int tries, retries;
    bool is_probe;         // of active health checks: counts for nothing else
    bool is_counted;       // in the group's `active`
    bool is_retrying;      // in the group's `retrying`
    bool is_circuit_probe; // its outcome closes the breaker or opens it again
    bool is_queued;        // `waiter` is on the pool's list
    bool is_h2_leader;     // makes the connection that others wait for
    bool is_reused;        // the connection served a call before
    bool is_head_sent;
    bool is_body_sent;   // the last byte of the request
    bool was_written;    // moon_call_write was used: no more tries
    bool is_send_broken; // the target stopped reading; its answer may still come
    bool has_response_bytes;
    bool is_answer_good; // its head was; the target is credited when the body has not failed
    bool is_upgrade_asked;
    unsigned interims;      // answers of this try before the final one
    bool is_retry_allowed;  // by the owner, for methods that are not idempotent
    bool is_awaited;        // the owner waits for more than what has come
    bool is_closed;         // the connection or stream ended; what came before is read first
    enum moon_rc closed_rc; // HTTP/1.1: why

    const struct moon_proxy_header *client; // whom a PROXY header names; lent by the owner; NULL:
                                            // the gateway speaks for itself
    struct moon_timer timer;
    int64_t stage_deadline_ms, try_deadline_ms, total_deadline_ms;
    enum moon_rc timeout_rc; // what the running stage's deadline means
    size_t unsent_bytes;     // when the time to send them was set

    struct moon_h1_scan scan;
    struct moon_h1_body body;
    struct moon_response response;
    size_t used; // bytes of conn->in behind what moon_call_read lent
    struct moon_call_times times;
    uint64_t body_bytes;
    enum moon_rc failure;
    int64_t retry_after_ms; // with MOON_ERR_BREAKER_OPEN
};

/// @param arena  of the exchange; the response lives there
void moon_call_init(struct moon_call *call, struct moon_upstreams *upstreams,
                    struct moon_arena *arena, const struct moon_call_events *events, void *owner);

/// Starts. Events come later, never from inside (but for a failure that is known at once, which is
/// returned).
///
/// @param request     head as it is to be sent: fields final, framing of the body
/// @param path        path and query of the target
/// @param first_body  what is there of the body already
/// @return MOON_OK, MOON_ERR_NO_TARGET, MOON_ERR_OVERLOAD, MOON_ERR_BREAKER_OPEN,
///         MOON_ERR_QUEUE_FULL
MUST_CHECK enum moon_rc moon_call_start(struct moon_call *call, struct moon_backend *backend,
                                        const struct moon_request *request, struct moon_slice path,
                                        struct moon_slice first_body, bool is_first_last);

/// What the call waited for before its first try is there, or will not come. May end the call.
void moon_call_prepared(struct moon_call *call, enum moon_rc rc);

/// Sends more of the request body; what the socket does not take is copied.
/// @return MOON_OK, MOON_AGAIN (taken; wait for on_writable before the next)
MUST_CHECK enum moon_rc moon_call_write(struct moon_call *call, struct moon_slice data,
                                        bool is_last);

/// True when moon_call_write makes sense now.
bool moon_call_is_writable(const struct moon_call *call);

/// Takes the next run of the response body.
/// @param data  lent until the next moon_call_read, moon_call_end or return to the loop
/// @return MOON_OK, MOON_AGAIN, or how the body broke: MOON_ERR_UPSTREAM_TRUNCATED,
///         MOON_ERR_UPSTREAM_PROTOCOL, MOON_ERR_TOTAL_TIMEOUT ...
MUST_CHECK enum moon_rc moon_call_read(struct moon_call *call, struct moon_slice *data,
                                       bool *is_done);

/// Before the first moon_call_read: whether it is worth to wait until `body_bytes` have come. While
/// true is given, on_body follows, and silence is the target's. `body_bytes` must be well below what
/// a connection holds (64 KiB).
MUST_CHECK bool moon_call_awaits(struct moon_call *call, int64_t body_bytes);

/// Behind the first moon_call_read: what is known of the rest of the body, which is not taken by that.
/// @return MOON_OK (it is here, whole), MOON_AGAIN (more must come; long bodies are not looked at),
///         or how it breaks, as moon_call_read will tell
MUST_CHECK enum moon_rc moon_call_look(struct moon_call *call);

/// Ends the call, whole or not: the connection goes back to its pool where it can be used again.
/// Harmless on a call that never started or has ended.
void moon_call_end(struct moon_call *call);
