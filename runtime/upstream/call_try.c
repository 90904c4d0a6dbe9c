/* SPDX-License-Identifier: Apache-2.0 */

/// Which target a call goes to, what a failure means for target and backend, and whether there is
/// another try.

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "upstream/call_internal.h"

enum {
    TRY_BUDGET_LEAST = 3, // calls that may always be retrying, however few are under way
    TRY_RETRY_AFTER_MOST_S = 3600,
};

enum try_next { TRY_GIVE_UP, TRY_NOW, TRY_LATER };

static struct moon_health *try_health(const struct moon_call *call)
{
    return call->target == NULL || call->is_probe ? NULL : call->target->pool->health;
}

void call_leave_target(struct moon_call *call)
{
    if (call->target == NULL)
        return;
    if (try_health(call) != NULL)
        moon_health_leave(try_health(call));
    moon_list_remove(&call->of_target);
    call->target = NULL;
    moon_members_release(call->members);
    call->members = NULL;
}

static void try_enter_target(struct moon_call *call, struct moon_target *target)
{
    call->target = target;
    moon_list_push_back(&target->calls, &call->of_target);
    call->members = call->backend->members;
    call->members->users++;
    call->tries++;
    struct moon_health *health = try_health(call);
    if (health != NULL) {
        moon_health_enter(health);
        atomic_fetch_add_explicit(&health->requests, 1, memory_order_relaxed);
    }
}

void call_uncount(struct moon_call *call)
{
    if (call->backend == NULL)
        return; // nothing was counted
    struct moon_group *group = call->backend->group;
    if (call->is_retrying)
        group->retrying--;
    if (call->is_counted)
        group->active--;
    if (call->is_circuit_probe)
        moon_circuit_give_back(group->circuit); // no outcome: its client left
    call->is_retrying = call->is_counted = call->is_circuit_probe = false;
}

// True when one more of the backend's members may be ejected.
static bool try_may_eject(const struct moon_call *call, int64_t now_us)
{
    size_t count = call->members->count;
    size_t most = count * (size_t)call->backend->conf->outlier.max_ejected_percent / 100;
    if (most == 0 && count > 1 && call->backend->conf->outlier.max_ejected_percent > 0)
        most = 1;
    return moon_members_ejected(call->members, now_us) < most;
}

static void try_mark_failure(struct moon_call *call, enum moon_rc rc)
{
    struct moon_health *health = try_health(call);
    const struct moon_outlier_conf *outlier = &call->backend->conf->outlier;
    if (health == NULL)
        return;
    atomic_fetch_add_explicit(&health->errors, 1, memory_order_relaxed);
    if (outlier->failures == 0)
        return;
    int64_t now_us = moon_clock_us();
    if (moon_health_failure(health, outlier->failures, outlier->ejection_ms,
                            outlier->max_ejection_ms, try_may_eject(call, now_us), now_us,
                            moon_rc_text(rc)))
        moon_log_warn("backend %.*s: target %.*s ejected: %s",
                      MOON_SLICE_ARG(call->backend->conf->name),
                      MOON_SLICE_ARG(call->target->conf->identity), moon_rc_text(rc));
}

static void try_circuit_done(struct moon_call *call, bool is_failure, int64_t open_us,
                             const char *why)
{
    const struct moon_breaker_conf *breaker = &call->backend->conf->breaker;
    struct moon_circuit *circuit = call->backend->group->circuit;
    if (!breaker->is_on || circuit == NULL)
        return;
    struct moon_circuit_rule rule = call_circuit_rule(breaker);
    bool has_changed =
        moon_circuit_done(circuit, &rule, moon_loop_now_ms(call->upstreams->loop) * 1000,
                          call->is_circuit_probe, is_failure, open_us);
    call->is_circuit_probe = false;
    if (!has_changed)
        return;
    if (is_failure)
        moon_log_warn("backend %.*s: breaker opened: %s", MOON_SLICE_ARG(call->backend->conf->name),
                      why);
    else
        moon_log_info("backend %.*s: breaker closed", MOON_SLICE_ARG(call->backend->conf->name));
}

// How long the target asks to be left alone; 0 when it does not say.
static int64_t try_retry_after_us(const struct moon_call *call)
{
    const struct moon_field *field =
        moon_fields_find(&call->response.fields, MOON_S("Retry-After"));
    int64_t seconds, at_ms;
    if (field == NULL)
        return 0;
    if (!moon_slice_number(field->value, &seconds)) {
        if (!moon_clock_parse_http_date(field->value, &at_ms))
            return 0;
        seconds = (at_ms - moon_clock_wall_ms() + 999) / 1000;
    }
    if (seconds <= 0)
        return 0;
    return (seconds < TRY_RETRY_AFTER_MOST_S ? seconds : TRY_RETRY_AFTER_MOST_S) * 1000000;
}

void call_count_answer(struct moon_call *call)
{
    const struct moon_breaker_conf *breaker = &call->backend->conf->breaker;
    int status = call->response.status;
    struct moon_health *health = try_health(call);
    if (health != NULL && status >= 502 && status <= 504)
        try_mark_failure(call, MOON_ERR_UPSTREAM_PROTOCOL);
    else
        call->is_answer_good = true;
    if (!breaker->is_on)
        return;
    bool is_failure = moon_status_is_in(breaker->statuses, breaker->status_count, status);
    int64_t open_us = is_failure && breaker->takes_retry_after ? try_retry_after_us(call) : 0;
    try_circuit_done(call, is_failure, open_us, "failing statuses");
}

static bool try_is_caused_by_target(enum moon_rc rc)
{
    switch ((int)rc) {
    case MOON_ERR_QUEUE_FULL:
    case MOON_ERR_QUEUE_TIMEOUT:
    case MOON_ERR_MEMORY:
    case MOON_ERR_BAD_TARGET:
    case MOON_ERR_LIMIT:
        return false;
    default:
        return true;
    }
}

void call_body_failed(struct moon_call *call, enum moon_rc rc)
{
    call->failure = rc;
    call->state = MOON_CALL_FAILED;
    if (call->is_answer_good && try_is_caused_by_target(rc))
        try_mark_failure(call, rc);
    call->is_answer_good = false;
}

// Not at the head already: a target that cuts every answer short would never be seen as failing.
void call_credit_answer(struct moon_call *call)
{
    if (call->is_answer_good && try_health(call) != NULL)
        moon_health_success(try_health(call));
    call->is_answer_good = false;
}

void call_drop(struct moon_call *call)
{
    call_stop_connecting(call);
    if (call->transport != NULL) {
        call->transport->drop(call);
    } else {
        moon_uconn_free(call->conn);
        call->conn = NULL;
    }
    call->transport = NULL;
    call->used = 0;
}

static bool try_is_repeatable(const struct moon_call *call)
{
    return !call->was_written && (!call->is_head_sent || call->is_retry_allowed ||
                                  moon_method_is_idempotent(call->request->method));
}

// A kept connection that the peer closed meanwhile says nothing about the target's health.
static bool try_was_stale(const struct moon_call *call, enum moon_rc rc)
{
    return call->is_reused && !call->has_response_bytes &&
           (rc == MOON_ERR_UPSTREAM_CLOSED || rc == MOON_ERR_UPSTREAM_RESET);
}

static bool try_is_connect(enum moon_rc rc)
{
    return rc == MOON_ERR_CONNECT || rc == MOON_ERR_REFUSED || rc == MOON_ERR_DNS ||
           rc == MOON_ERR_CONNECT_TIMEOUT || rc == MOON_ERR_UPSTREAM_TLS;
}

static bool try_is_retried_on(const struct moon_retry_conf *retry, enum moon_rc rc)
{
    if (try_is_connect(rc))
        return retry->on_connect;
    switch ((int)rc) {
    case MOON_ERR_UPSTREAM_CLOSED:
    case MOON_ERR_UPSTREAM_RESET:
        return retry->on_reset;
    case MOON_ERR_FIRST_BYTE_TIMEOUT:
    case MOON_ERR_UPSTREAM_SEND_TIMEOUT:
        return retry->on_timeout;
    default:
        return false;
    }
}

// Takes a place in the budget: however many calls fail, only a share of them is tried again.
static bool try_take_budget(struct moon_call *call)
{
    struct moon_group *group = call->backend->group;
    size_t percent = (size_t)call->backend->conf->retry.budget_percent;
    if (call->is_retrying)
        return true;
    if (percent == 0)
        return false;
    if (group->retrying >= moon_max_size(group->active * percent / 100, TRY_BUDGET_LEAST))
        return false;
    call->is_retrying = true;
    group->retrying++;
    return true;
}

static bool try_has_untried(const struct moon_call *call)
{
    const struct moon_members *members = call->backend->members;
    for (size_t i = 0; i < members->count; i++) {
        if ((call->choice.tried >> (i & 63) & 1) == 0 && members->targets[i].conf->weight > 0)
            return true;
    }
    return false;
}

static void try_note_tried(struct moon_call *call)
{
    if (call->target != NULL && call->members == call->backend->members)
        call->choice.tried |= UINT64_C(1) << ((size_t)(call->target - call->members->targets) & 63);
}

// Another target at once where the last did not even take the request; else after a while.
static enum try_next try_again(struct moon_call *call, bool is_connect)
{
    call->retries++;
    if (!try_has_untried(call)) {
        call->choice.tried = 0;
        return TRY_LATER;
    }
    return is_connect ? TRY_NOW : TRY_LATER;
}

static void try_reset(struct moon_call *call)
{
    call_drop(call);
    call_leave_target(call);
    call->is_head_sent = call->is_body_sent = call->is_send_broken = false;
    call->is_closed = call->has_response_bytes = call->is_answer_good = false;
    call->interims = 0;
    call->try_deadline_ms = INT64_MAX;
    if (call->times.unconnected_us == 0)
        call->times.unconnected_us = moon_clock_us();
}

static enum try_next try_after_failure(struct moon_call *call, enum moon_rc rc)
{
    const struct moon_backend_conf *conf = call->backend->conf;
    bool was_stale = try_was_stale(call, rc);
    bool is_free = try_is_repeatable(call) && !call->has_response_bytes;
    if (!was_stale && try_is_caused_by_target(rc)) {
        try_mark_failure(call, rc);
        try_circuit_done(call, true, 0, moon_rc_text(rc));
        try_note_tried(call);
    }
    enum try_next next = TRY_GIVE_UP;
    // Going on to another target costs the one that cannot be connected to nothing: no budget.
    bool is_passed_on = try_is_connect(rc) && try_has_untried(call);
    if (is_free && was_stale)
        next = TRY_NOW;
    else if (is_free && call->retries < conf->retries && try_is_retried_on(&conf->retry, rc) &&
             (is_passed_on || try_take_budget(call)))
        next = try_again(call, try_is_connect(rc));
    if (next != TRY_GIVE_UP)
        try_reset(call);
    return next;
}

static void try_wait(struct moon_call *call)
{
    const struct moon_retry_conf *retry = &call->backend->conf->retry;
    int doublings = call->retries < 20 ? call->retries - 1 : 20;
    int64_t wait_ms = retry->backoff_ms << (doublings > 0 ? doublings : 0);
    if (wait_ms > retry->max_backoff_ms)
        wait_ms = retry->max_backoff_ms;
    wait_ms = wait_ms / 2 + (int64_t)(moon_random_fast() % (uint64_t)(wait_ms / 2 + 1));
    call->state = MOON_CALL_WAITING;
    call_arm(call, wait_ms > 0 ? wait_ms : 1, MOON_ERR_TOTAL_TIMEOUT);
}

static enum moon_rc try_target(struct moon_call *call, struct moon_target *target)
{
    int64_t try_ms = call->backend->conf->retry.try_ms;
    try_enter_target(call, target);
    if (try_ms > 0)
        call->try_deadline_ms = moon_loop_now_ms(call->upstreams->loop) + try_ms;
    return call_take_connection(call);
}

enum moon_rc call_try(struct moon_call *call)
{
    enum moon_rc rc = MOON_ERR_NO_TARGET;
    for (;;) {
        if (call->tried_of != call->backend->members)
            call->choice.tried = 0; // DNS has told of others meanwhile
        call->tried_of = call->backend->members;
        struct moon_target *target = moon_backend_choose(call->backend, &call->choice);
        if (target == NULL && call->choice.tried != 0 && call->retries > 0 &&
            try_take_budget(call)) {
            call->choice.tried = 0; // those that are left are down: the others once more
            try_wait(call);
            return MOON_OK;
        }
        if (target == NULL)
            return rc;
        rc = try_target(call, target);
        if (rc == MOON_OK)
            return rc;
        rc = call_stream_failure(rc);
        enum try_next next = try_after_failure(call, rc);
        if (next == TRY_GIVE_UP) {
            call_drop(call);
            return rc;
        }
        if (next == TRY_LATER) {
            try_wait(call);
            return MOON_OK;
        }
    }
}

static void try_give_up(struct moon_call *call, enum moon_rc rc)
{
    if (call->state == MOON_CALL_PREPARING)
        moon_list_remove(&call->waiter.link);
    call->state = MOON_CALL_FAILED;
    call->failure = rc;
    moon_timer_stop(&call->timer);
    call_end_connecting(call);
    call_drop(call);
    call->events->on_failed(call->owner, rc);
}

void call_failed(struct moon_call *call, enum moon_rc rc)
{
    if (call->state == MOON_CALL_BODY || call->state == MOON_CALL_TUNNEL) {
        call_body_failed(call, rc);
        moon_timer_stop(&call->timer);
        call->events->on_body(call->owner);
        return;
    }
    if (call->target == NULL) {
        try_give_up(call, rc);
        return;
    }
    enum try_next next = try_after_failure(call, rc);
    if (next == TRY_LATER) {
        try_wait(call);
        return;
    }
    if (next == TRY_NOW) {
        enum moon_rc after = call_try(call);
        if (after == MOON_OK)
            return;
        if (after != MOON_ERR_NO_TARGET)
            rc = after;
    }
    try_give_up(call, rc);
}

bool call_retry_status(struct moon_call *call)
{
    const struct moon_backend_conf *conf = call->backend->conf;
    if (!moon_status_is_in(conf->retry.statuses, conf->retry.status_count, call->response.status) ||
        !try_is_repeatable(call) || call->retries >= conf->retries || !try_take_budget(call))
        return false;
    try_note_tried(call);
    (void)try_again(call, false);
    try_reset(call);
    try_wait(call);
    return true;
}

void call_resume_try(struct moon_call *call)
{
    enum moon_rc rc = call_try(call);
    if (rc != MOON_OK)
        try_give_up(call, rc);
}
