/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the files of a call share: call.c, call_try.c, call_connect.c, call_h1.c, call_h2.c.

#include "upstream/call.h"

/// How a call's bytes travel: one table for HTTP/1.1, one for HTTP/2.
struct call_transport {
    /// Sends head and first body on what stands. @return MOON_OK, MOON_AGAIN (queued), or why not
    enum moon_rc (*send)(struct moon_call *call);
    enum moon_rc (*write)(struct moon_call *call, struct moon_slice data, bool is_last);
    enum moon_rc (*read)(struct moon_call *call, struct moon_slice *data, bool *is_done);
    /// Bytes of the request that were written here and that the target has not taken yet.
    size_t (*unsent)(const struct moon_call *call);
    /// Bytes of the body that have come and that the owner has not taken.
    size_t (*unread)(const struct moon_call *call);
    /// moon_call_look, without its limits.
    enum moon_rc (*look)(struct moon_call *call);
    /// Gives the connection back where it can serve another call. @return false: drop it
    bool (*keep)(struct moon_call *call);
    void (*drop)(struct moon_call *call);
};

extern const struct call_transport call_h1, call_h2;

static inline struct moon_circuit_rule call_circuit_rule(const struct moon_breaker_conf *breaker)
{
    return (struct moon_circuit_rule){.failures = breaker->failures,
                                      .ratio_permille = breaker->ratio_permille,
                                      .probes = breaker->probes,
                                      .window_us = breaker->window_ms * 1000,
                                      .open_us = breaker->open_ms * 1000};
}

// ---- call.c ------------------------------------------------------------------------------------

void call_arm(struct moon_call *call, int64_t after_ms, enum moon_rc meaning);

/// The request is on its way: from here on the target may be silent for `timeout.send`.
void call_arm_send(struct moon_call *call);

/// Path and query as the target gets them: below its own path, unless it is "*", the server itself.
/// @return false when memory is short
MUST_CHECK bool call_target_path(struct moon_call *call, struct moon_slice *path);

/// Its target has been removed, and ends what it has by drain_until_ms.
void call_drain(struct moon_call *call);
enum moon_rc call_stream_failure(enum moon_rc rc);

/// The head is in call->response: counts it, tries again where the status says so, else tells the
/// owner. May end the call.
void call_head_is_whole(struct moon_call *call);

/// The request's last byte is out.
void call_sent(struct moon_call *call);
bool call_has_body(const struct moon_call *call);

// ---- call_try.c --------------------------------------------------------------------------------

/// Tries target after target for as long as they fail at once, or waits for the next try.
/// @return MOON_OK (under way), or why none was left
MUST_CHECK enum moon_rc call_try(struct moon_call *call);

/// Goes on with another try, or tells the owner.
void call_failed(struct moon_call *call, enum moon_rc rc);

/// A response that the configuration wants tried again. @return true when another try is under way
bool call_retry_status(struct moon_call *call);

/// Counts an answer's head for the target's health and the backend's breaker.
void call_count_answer(struct moon_call *call);

/// The body behind a head that was counted broke: counts against the target, once.
void call_body_failed(struct moon_call *call, enum moon_rc rc);

/// Credits the target with an answer that did not break.
void call_credit_answer(struct moon_call *call);

/// The time before a further try is over.
void call_resume_try(struct moon_call *call);

void call_leave_target(struct moon_call *call);
void call_drop(struct moon_call *call); // connection, query, place in a queue
void call_uncount(struct moon_call *call);

// ---- call_connect.c ----------------------------------------------------------------------------

/// Takes an idle connection of the target, waits for one, or makes one.
MUST_CHECK enum moon_rc call_take_connection(struct moon_call *call);

/// The connection stands. May end the call.
void call_connected(struct moon_call *call);

/// There is a connection, or nobody waits for one any more: ends the span of call->times.
void call_end_connecting(struct moon_call *call);
void call_stop_connecting(struct moon_call *call);

// ---- call_h1.c ---------------------------------------------------------------------------------

/// Binds the connection to the call; its events come here from now on.
void call_h1_bind(struct moon_call *call, struct moon_uconn *conn);

// ---- call_h2.c ---------------------------------------------------------------------------------

/// Finds an HTTP/2 connection of the pool with room for a stream. @return false when there is none
bool call_h2_take(struct moon_call *call);

/// Makes the connection, which speaks HTTP/2, one of the pool's, and takes a stream on it.
MUST_CHECK enum moon_rc call_h2_begin(struct moon_call *call, struct moon_uconn *conn);
