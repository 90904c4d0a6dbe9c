/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// One request and its response, from the parsed head to the access log, as a table of steps
/// (steps.def). The exchange does not know which protocol version the client speaks: the session
/// gives it the request, and takes the response through `struct moon_peer_ops`.

#include "gateway/cache.h"
#include "gateway/gateway.h"
#include "http/replace.h"
#include "upstream/call.h"

struct moon_exchange;

/// What a session does for its exchange.
struct moon_peer_ops {
    /// Takes the next run of the request's body. Lent until the next call.
    /// @return MOON_OK, MOON_AGAIN (moon_exchange_on_request_body follows), or how it broke
    enum moon_rc (*read_body)(void *peer, struct moon_slice *data, bool *is_done);
    /// Tells the client to send the body (100 Continue).
    void (*send_continue)(void *peer);
    /// Sends an interim (1xx) head.
    void (*write_interim)(void *peer, int status, const struct moon_fields *fields);
    /// Sends a response's head, with the first of its body behind it.
    /// @return MOON_OK, MOON_AGAIN (taken; moon_exchange_on_writable follows), MOON_ERR_IO
    enum moon_rc (*write_head)(void *peer, const struct moon_response *response,
                               struct moon_slice data, bool is_last);
    enum moon_rc (*write_body)(void *peer, struct moon_slice data, bool is_last,
                               const struct moon_fields *trailers);
    /// The response broke off behind its head: the client must see that.
    void (*abort)(void *peer);
    /// The exchange is over and freed when this is called.
    void (*finished)(void *peer);
};

enum moon_step {
#define STEP(name, function) MOON_STEP_##name,
#include "gateway/steps.def"
#undef STEP
};

/// When each stage ended (moon_clock_us; the first two: when the loop woke); the phases of the access log are their differences.
struct moon_exchange_times {
    int64_t started, head, routed, inbound, called, connected, answered, outbound, ended;
};

struct moon_exchange {
    struct moon_list link; // in the pool of unused ones
    struct moon_gateway *gateway;
    struct moon_generation *generation;
    struct moon_arena arena;
    struct moon_request request;
    struct moon_response response; // to the client
    struct moon_ctx ctx;
    struct moon_call call;
    const struct moon_peer_ops *ops;
    void *peer;
    const struct moon_client *client;

    enum moon_step step;
    bool is_running;   // in the loop of steps: callbacks only note what came
    bool is_called;    // the call was started and has not been ended
    bool is_answered;  // the call has a head
    bool is_head_sent; // the response's head went out
    bool is_response_done;
    bool is_client_blocked;
    bool is_client_gone;
    bool is_failed_in_on_error;
    bool is_from_cache; // x->response came out of the store; there is no call to read from
    bool is_tunnel;     // after 101: bytes both ways
    bool is_grpc;
    bool is_grpc_web;     // for browsers: trailers within the body
    bool is_grpc_error;   // the response is ours, told as gRPC tells it
    bool is_forwarding;   // a policy waits for the call's head
    bool are_fields_made; // the request has the fields that the gateway adds
    struct moon_slice
        accept_encoding;  // the client's, where the backend is sent another; data NULL: it is not
    enum moon_rc failure; // why the gateway answered instead of a backend; MOON_OK: it did not
    enum moon_section resumed; // section that waits

    // Request body.
    bool is_body_done;  // all of it was read from the client
    bool is_body_kept;  // it is in request_body, whole
    bool is_collecting; // a policy waits for it
    bool is_continue_sent;
    struct moon_buf request_body;
    int64_t request_bytes;
    struct moon_replaces request_rewrites; // what the backend gets is what these leave

    // Response body.
    bool is_response_kept; // it is in response_body, whole
    bool is_collecting_response;
    struct moon_buf response_body;
    int64_t response_bytes;
    struct moon_replaces response_rewrites;

    struct moon_cache_state *cache; // moon_cache_none where no cache policy ran
    struct moon_compress *compress; // the coding under way; NULL: none
    struct moon_buf encoded;        // its last run

    struct moon_timer
        deadline; // the client's own (grpc-timeout); initialised only where there is one

    struct moon_slice original_path, original_query;
    struct moon_slice target; // that answered, or was tried last; a copy: it may be gone
    int64_t connecting_us;    // of all calls, before they had a connection
    int call_tries;
    struct moon_proxy_header introduction; // call.client
    struct moon_exchange_times times;
    struct moon_timer forward_timer; // while is_forwarding
    char id[33];
};

/// Takes an unused exchange or makes one; NULL when out of memory. The session parses the request
/// into x->request with x->arena, then starts it.
struct moon_exchange *moon_exchange_new(struct moon_gateway *gateway,
                                        const struct moon_client *client,
                                        const struct moon_peer_ops *ops, void *peer);

/// Handles the request. May call ops->finished before it returns.
void moon_exchange_start(struct moon_exchange *x);

/// Answers a request that could not be parsed: `rc` says why. The same rules as for start.
/// @param head  what came of an HTTP/1.x head, in the exchange's arena; may be empty
void moon_exchange_refuse(struct moon_exchange *x, enum moon_rc rc, struct moon_slice head);

/// More of the request's body can be read.
void moon_exchange_on_request_body(struct moon_exchange *x);

/// What was written to the client is out.
void moon_exchange_on_writable(struct moon_exchange *x);

/// The client is gone, or its body broke: ends without an answer where none was begun. `finished` is
/// called.
void moon_exchange_on_client_gone(struct moon_exchange *x, enum moon_rc rc);

/// The client's deadline has passed.
void moon_exchange_on_deadline(struct moon_exchange *x);

/// What an exchange's call tells it.
extern const struct moon_call_events moon_exchange_call_events;

/// Frees those that wait for reuse.
void moon_exchange_trim(struct moon_gateway *gateway);
