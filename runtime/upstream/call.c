/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/call.h"

#include "base/clock.h"
#include "upstream/auth.h"
#include "upstream/call_internal.h"
#include "upstream/service.h"

enum { CALL_LOOK_BYTES = 16384 }; // of a body that came with its head: longer ones are on their way

void call_arm(struct moon_call *call, int64_t after_ms, enum moon_rc meaning)
{
    int64_t now = moon_loop_now_ms(call->upstreams->loop);
    call->stage_deadline_ms = after_ms > 0 ? now + after_ms : INT64_MAX;
    call->timeout_rc = meaning;
    int64_t at = call->stage_deadline_ms < call->total_deadline_ms ? call->stage_deadline_ms
                                                                   : call->total_deadline_ms;
    at = call->try_deadline_ms < at ? call->try_deadline_ms : at;
    if (call->target != NULL && call->target->drain_until_ms != 0 &&
        call->target->drain_until_ms < at)
        at = call->target->drain_until_ms;
    if (at == INT64_MAX)
        moon_timer_stop(&call->timer);
    else
        moon_timer_set_at(&call->timer, at);
}

void call_arm_send(struct moon_call *call)
{
    call->unsent_bytes = call->transport->unsent(call);
    call_arm(call, call->backend->conf->send_ms, MOON_ERR_UPSTREAM_SEND_TIMEOUT);
}

// The target has taken some of what waits for it, or all: then it is the owner that has no more yet.
static bool call_is_sending_on(const struct moon_call *call)
{
    if (call->state != MOON_CALL_SENDING || call->timeout_rc != MOON_ERR_UPSTREAM_SEND_TIMEOUT)
        return false;
    size_t unsent = call->transport->unsent(call);
    return unsent == 0 || unsent < call->unsent_bytes;
}

bool call_target_path(struct moon_call *call, struct moon_slice *path)
{
    struct moon_slice parts[2] = {call->target->conf->path, call->target_path};
    *path = call->target_path;
    if (parts[0].len == 0 || moon_slice_is(parts[1], MOON_S("*")))
        return true;
    return moon_arena_join(call->arena, parts, 2, path);
}

void call_drain(struct moon_call *call)
{
    int64_t until = call->target->drain_until_ms;
    if (call->timer.deadline_ms > until)
        moon_timer_set_at(&call->timer, until);
}

static void call_timeout(struct moon_timer *timer)
{
    struct moon_call *call = timer->owner;
    int64_t now = moon_loop_now_ms(call->upstreams->loop);
    bool is_drained = call->target != NULL && call->target->drain_until_ms != 0 &&
                      now >= call->target->drain_until_ms;
    if (now >= call->total_deadline_ms || is_drained) {
        call_failed(call, MOON_ERR_TOTAL_TIMEOUT);
    } else if (call->state == MOON_CALL_WAITING) {
        call_resume_try(call);
    } else if (now >= call->try_deadline_ms) {
        call_failed(call, MOON_ERR_FIRST_BYTE_TIMEOUT);
    } else if (call_is_sending_on(call)) {
        call_arm_send(call);
    } else if (call->state == MOON_CALL_BODY && !call->is_awaited &&
               call->transport->unread(call) > 0) { // the owner is slow, not the target
        call_arm(call, call->backend->conf->idle_ms, call->timeout_rc);
    } else {
        call_failed(call, call->timeout_rc);
    }
}

void moon_call_init(struct moon_call *call, struct moon_upstreams *upstreams,
                    struct moon_arena *arena, const struct moon_call_events *events, void *owner)
{
    memset(call, 0, sizeof(*call));
    call->upstreams = upstreams;
    call->arena = arena;
    call->events = events;
    call->owner = owner;
    moon_list_init(&call->waiter.link);
    moon_timer_init(&call->timer, upstreams->loop, call_timeout, call);
}

enum moon_rc call_stream_failure(enum moon_rc rc)
{
    switch ((int)rc) {
    case MOON_EOF:
        return MOON_ERR_UPSTREAM_CLOSED;
    case MOON_ERR_IO:
        return MOON_ERR_UPSTREAM_RESET;
    case MOON_ERR_TLS:
        return MOON_ERR_UPSTREAM_TLS;
    default:
        return rc;
    }
}

void call_end_connecting(struct moon_call *call)
{
    if (call->times.unconnected_us == 0)
        return;
    call->times.connecting_us += moon_clock_us() - call->times.unconnected_us;
    call->times.unconnected_us = 0;
}

bool call_has_body(const struct moon_call *call)
{
    return call->request->framing != MOON_FRAMING_NONE;
}

void call_sent(struct moon_call *call)
{
    call->is_body_sent = true;
    if (call->state == MOON_CALL_SENDING)
        call_arm(call, call->backend->conf->first_byte_ms, MOON_ERR_FIRST_BYTE_TIMEOUT);
}

void call_head_is_whole(struct moon_call *call)
{
    call_count_answer(call);
    if (call->backend->conf->retry.status_count > 0 && call_retry_status(call))
        return;
    if (call->backend->auth != NULL && call->response.status == 401)
        moon_auth_forget(call->backend->auth);
    call->times.head_us = moon_clock_us();
    call->state = call->response.status == 101 ? MOON_CALL_TUNNEL : MOON_CALL_BODY;
    call->try_deadline_ms = INT64_MAX;
    if (call->state == MOON_CALL_TUNNEL) // only silence ends it
        call->total_deadline_ms = INT64_MAX;
    call_arm(call, call->backend->conf->idle_ms, MOON_ERR_UPSTREAM_IDLE_TIMEOUT);
    call->events->on_head(call->owner);
}

// Limits come first: a call that is refused here costs the backend nothing.
static enum moon_rc call_admit(struct moon_call *call)
{
    const struct moon_backend_conf *conf = call->backend->conf;
    struct moon_group *group = call->backend->group;
    if (conf->max_requests > 0 && group->active >= conf->max_requests)
        return MOON_ERR_OVERLOAD;
    if (conf->breaker.is_on && group->circuit != NULL) {
        struct moon_circuit_rule rule = call_circuit_rule(&conf->breaker);
        int64_t now_us = moon_loop_now_ms(call->upstreams->loop) * 1000, wait_us;
        if (!moon_circuit_admit(group->circuit, &rule, now_us, &call->is_circuit_probe, &wait_us)) {
            call->retry_after_ms = (wait_us + 999) / 1000;
            return MOON_ERR_BREAKER_OPEN;
        }
    }
    call->is_counted = true;
    group->active++;
    return MOON_OK;
}

// Targets are known and the request says who we are. @return MOON_AGAIN: moon_call_prepared follows
static enum moon_rc call_prepare(struct moon_call *call)
{
    struct moon_backend *backend = call->backend;
    enum moon_rc rc = MOON_OK;
    call->state = MOON_CALL_PREPARING;
    if (backend->service != NULL)
        rc = moon_service_wait(backend->service, call);
    if (rc == MOON_OK && backend->auth != NULL)
        rc = moon_auth_wait(backend->auth, call);
    if (rc == MOON_OK && moon_auth_is_needed(backend->conf))
        rc = moon_auth_apply(call);
    return rc;
}

static enum moon_rc call_begin(struct moon_call *call)
{
    enum moon_rc rc = call_admit(call);
    if (rc == MOON_OK)
        rc = call_prepare(call);
    if (rc == MOON_AGAIN) {
        call_arm(call, call->backend->conf->connect_ms, MOON_ERR_CONNECT_TIMEOUT);
        return MOON_OK;
    }
    return rc == MOON_OK ? call_try(call) : rc;
}

void moon_call_prepared(struct moon_call *call, enum moon_rc rc)
{
    if (rc == MOON_OK)
        rc = call_prepare(call);
    if (rc == MOON_AGAIN)
        return;
    if (rc == MOON_OK)
        rc = call_try(call);
    if (rc == MOON_OK)
        return;
    call->state = MOON_CALL_FAILED;
    call->failure = rc;
    moon_timer_stop(&call->timer);
    call_end_connecting(call);
    call->events->on_failed(call->owner, rc);
}

enum moon_rc moon_call_start(struct moon_call *call, struct moon_backend *backend,
                             const struct moon_request *request, struct moon_slice path,
                             struct moon_slice first_body, bool is_first_last)
{
    const struct moon_backend_conf *conf = backend->conf;
    call->backend = backend;
    call->request = request;
    call->trailers = &request->trailers;
    call->target_path = path;
    call->first_body = first_body;
    call->interims = 0;
    call->is_first_last = is_first_last;
    call->times.started_us = call->times.unconnected_us = moon_clock_us();
    call->total_deadline_ms =
        conf->total_ms > 0 ? moon_loop_now_ms(call->upstreams->loop) + conf->total_ms : INT64_MAX;
    call->try_deadline_ms = INT64_MAX;
    enum moon_rc rc = call_begin(call);
    if (rc != MOON_OK) {
        call->state = MOON_CALL_FAILED;
        call->failure = rc;
        moon_timer_stop(&call->timer);
        call_end_connecting(call);
        call_uncount(call);
    }
    return rc;
}

bool moon_call_is_writable(const struct moon_call *call)
{
    if (call->transport == NULL)
        return false;
    bool is_open = call->state == MOON_CALL_SENDING || call->state == MOON_CALL_BODY ||
                   call->state == MOON_CALL_TUNNEL;
    return is_open && call->is_head_sent &&
           (call->is_send_broken || call->transport->unsent(call) == 0);
}

enum moon_rc moon_call_write(struct moon_call *call, struct moon_slice data, bool is_last)
{
    call->was_written = true;
    call->first_body = moon_slice(NULL, 0);
    if (call->is_send_broken || call->transport == NULL)
        return MOON_OK; // the answer, or the reason why there is none, comes by reading
    enum moon_rc rc = call->transport->write(call, data, is_last);
    if (rc == MOON_ERR_IO || rc == MOON_ERR_TLS) {
        call->is_send_broken = true;
        return MOON_OK;
    }
    if (call->state == MOON_CALL_TUNNEL) {
        call_arm(call, call->backend->conf->idle_ms, MOON_ERR_UPSTREAM_IDLE_TIMEOUT);
        if (is_last && call->conn != NULL)
            moon_stream_shutdown_write(call->conn->stream);
    } else if (is_last) {
        call->is_body_sent = true;
        if (rc == MOON_OK)
            call_sent(call);
    }
    if (call->state == MOON_CALL_SENDING && !(is_last && rc == MOON_OK))
        call_arm_send(call);
    return rc;
}

enum moon_rc moon_call_read(struct moon_call *call, struct moon_slice *data, bool *is_done)
{
    if (call->transport == NULL)
        return call->failure != MOON_OK ? call->failure : MOON_AGAIN;
    enum moon_rc rc = call->transport->read(call, data, is_done);
    if (rc != MOON_OK && rc != MOON_AGAIN)
        call_body_failed(call, rc);
    return rc;
}

bool moon_call_awaits(struct moon_call *call, int64_t body_bytes)
{
    bool may_come = call->state == MOON_CALL_BODY && call->failure == MOON_OK && !call->is_closed &&
                    call->transport != NULL;
    call->is_awaited = may_come && (int64_t)call->transport->unread(call) < body_bytes;
    return call->is_awaited;
}

enum moon_rc moon_call_look(struct moon_call *call)
{
    if (call->failure != MOON_OK)
        return call->failure;
    if (call->state != MOON_CALL_BODY || call->transport == NULL ||
        call->transport->unread(call) > CALL_LOOK_BYTES)
        return MOON_AGAIN;
    enum moon_rc rc = call->transport->look(call);
    if (rc != MOON_OK && rc != MOON_AGAIN)
        call_body_failed(call, rc);
    return rc;
}

void moon_call_end(struct moon_call *call)
{
    if (call->upstreams->current_call == call)
        call->upstreams->current_call = NULL;
    moon_timer_stop(&call->timer);
    if (call->state == MOON_CALL_PREPARING)
        moon_list_remove(&call->waiter.link);
    if (call->transport != NULL && call->transport->keep(call))
        call->transport = NULL;
    call_end_connecting(call);
    call_credit_answer(call);
    call_drop(call);
    call_leave_target(call);
    call_uncount(call);
    call->state = MOON_CALL_IDLE;
}
