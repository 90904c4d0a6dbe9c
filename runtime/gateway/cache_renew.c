/* SPDX-License-Identifier: Apache-2.0 */

/// Renewing an object in the background (stale-while-revalidate): the request once more, as an
/// exchange without a client, through the same policies.

#include "base/log.h"
#include "gateway/exchange.h"
#include "gateway/forward.h"

enum { RENEW_MOST = 64 }; // at once, of one worker

struct cache_renewal {
    struct moon_list link;
    bool is_started;
    struct moon_task task;
    struct moon_gateway *gateway;
    struct moon_client client;
    struct moon_exchange *exchange;
};

static enum moon_rc renew_read_body(void *peer, struct moon_slice *data, bool *is_done)
{
    (void)peer;
    *data = moon_slice(NULL, 0);
    *is_done = true;
    return MOON_OK;
}

static void renew_nothing(void *peer)
{
    (void)peer;
}

static enum moon_rc renew_write_head(void *peer, const struct moon_response *response,
                                     struct moon_slice data, bool is_last)
{
    (void)peer;
    (void)response;
    (void)data;
    (void)is_last;
    return MOON_OK;
}

static enum moon_rc renew_write_body(void *peer, struct moon_slice data, bool is_last,
                                     const struct moon_fields *trailers)
{
    (void)peer;
    (void)data;
    (void)is_last;
    (void)trailers;
    return MOON_OK;
}

static void renew_finished(void *peer)
{
    struct cache_renewal *renewal = peer;
    moon_list_remove(&renewal->link);
    renewal->gateway->renewal_count--;
    free(renewal);
}

static const struct moon_peer_ops renew_ops = {
    .read_body = renew_read_body,
    .send_continue = renew_nothing,
    .write_head = renew_write_head,
    .write_body = renew_write_body,
    .abort = renew_nothing,
    .finished = renew_finished,
};

static bool renew_copy(struct moon_exchange *y, struct moon_slice *s)
{
    return s->data == NULL || moon_arena_copy(&y->arena, *s, s);
}

// The client's own conditions and wishes are no part of it.
static bool renew_is_dropped(enum moon_field_id id)
{
    return id == MOON_FIELD_IF_NONE_MATCH || id == MOON_FIELD_IF_MODIFIED_SINCE ||
           id == MOON_FIELD_RANGE || id == MOON_FIELD_IF_RANGE || id == MOON_FIELD_CACHE_CONTROL ||
           id == MOON_FIELD_PRAGMA;
}

static bool renew_request(struct moon_exchange *y, const struct moon_exchange *x)
{
    // As they were at the look-up, where later policies and the call have changed them.
    const struct moon_fields *asked =
        x->cache->asked.arena != NULL ? &x->cache->asked : &x->request.fields;
    struct moon_fields fields = y->request.fields, trailers = y->request.trailers;
    y->request = x->request;
    y->request.method = y->request.client_method = MOON_METHOD_GET;
    y->request.method_name = MOON_S("GET");
    y->request.path = x->original_path;
    y->request.query = x->original_query;
    y->request.fields = fields;
    y->request.trailers = trailers;
    struct moon_slice *texts[] = {&y->request.target,    &y->request.line, &y->request.scheme,
                                  &y->request.authority, &y->request.host, &y->request.path_raw,
                                  &y->request.path,      &y->request.query};
    for (size_t i = 0; i < MOON_COUNT(texts); i++) {
        if (!renew_copy(y, texts[i]))
            return false;
    }
    for (size_t i = 0; i < asked->count; i++) {
        struct moon_field field = asked->items[i];
        enum moon_field_id id = (enum moon_field_id)asked->ids[i];
        if (renew_is_dropped(id))
            continue;
        if (!renew_copy(y, &field.name) || !renew_copy(y, &field.value) ||
            moon_fields_add_known(&y->request.fields, id, field.name, field.value) != MOON_OK)
            return false;
    }
    return true;
}

static void renew_run(struct moon_task *task)
{
    struct cache_renewal *renewal = task->owner;
    renewal->is_started = true;
    moon_exchange_start(renewal->exchange);
}

void moon_cache_end_renewals(struct moon_gateway *gateway)
{
    while (!moon_list_is_empty(&gateway->renewals)) {
        struct cache_renewal *renewal =
            MOON_LIST_ENTRY(gateway->renewals.next, struct cache_renewal, link);
        if (!renewal->is_started)
            moon_task_cancel(&renewal->task);
        moon_exchange_on_client_gone(renewal->exchange, MOON_ERR_CANCELLED);
    }
}

void moon_cache_renew(struct moon_exchange *x)
{
    struct moon_gateway *gateway = x->gateway;
    struct cache_renewal *renewal;
    if (gateway->renewal_count >= RENEW_MOST || gateway->is_draining)
        goto give_up;
    renewal = calloc(1, sizeof(*renewal));
    if (renewal == NULL)
        goto give_up;
    renewal->gateway = gateway;
    renewal->client = *x->client;
    renewal->client.tls = NULL; // the connection may be gone by then
    renewal->client.stream = NULL;
    struct moon_exchange *y = moon_exchange_new(gateway, &renewal->client, &renew_ops, renewal);
    if (y == NULL) {
        free(renewal);
        goto give_up;
    }
    gateway->renewal_count++;
    moon_list_push_back(&gateway->renewals, &renewal->link);
    renewal->exchange = y;
    y->ctx.is_background = true;
    if (!moon_cache_take_state(y) || !renew_request(y, x)) {
        moon_exchange_refuse(y, MOON_ERR_MEMORY, moon_slice(NULL, 0));
        goto give_up;
    }
    // The flight goes over to it; the key is made anew by its own look-up, and is the same.
    y->cache->key = x->cache->key;
    y->cache->has_flight = true;
    x->cache->has_flight = false;
    moon_task_init(&renewal->task, renew_run, renewal);
    moon_task_post(gateway->env.loop, &renewal->task);
    return;
give_up:
    x->cache->has_flight = false;
    moon_store_flight_end(gateway->env.flights->seat, x->cache->key);
}
