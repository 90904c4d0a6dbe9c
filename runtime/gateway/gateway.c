/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway.h"

#include "base/hash.h"
#include "base/log.h"
#include "gateway/access_log.h"
#include "gateway/addresses.h"
#include "gateway/admission.h"
#include "gateway/cache.h"
#include "gateway/mirror.h"
#include "gateway/proxied.h"
#include "gateway/session.h"

#include <unistd.h>

static void gateway_make_metrics(struct moon_gateway *gateway)
{
    struct moon_metrics *metrics = gateway->env.metrics;
    struct moon_slice none = {"", 0};
    gateway->metrics = (struct moon_gateway_metrics){
        .connections =
            moon_metrics_series(metrics, MOON_METRIC_COUNTER, "moongate_connections_total",
                                "Client connections accepted.", none),
        .bytes_in =
            moon_metrics_series(metrics, MOON_METRIC_COUNTER, "moongate_request_body_bytes_total",
                                "Bytes of request bodies.", none),
        .bytes_out =
            moon_metrics_series(metrics, MOON_METRIC_COUNTER, "moongate_response_body_bytes_total",
                                "Bytes of response bodies.", none),
        .log_dropped =
            moon_metrics_series(metrics, MOON_METRIC_COUNTER, "moongate_access_log_dropped_total",
                                "Lines that the logger was too slow for.", none),
        .mirrors_dropped =
            moon_metrics_series(metrics, MOON_METRIC_COUNTER, "moongate_mirrors_dropped_total",
                                "Copies not sent: too many under way.", none),
    };
    for (size_t i = 0; i < MOON_CACHE_OUTCOMES; i++) {
        char label[64];
        int n = snprintf(label, sizeof(label), "result=\"%s\"", moon_cache_outcome_names[i]);
        gateway->metrics.cache[i] =
            moon_metrics_series(metrics, MOON_METRIC_COUNTER, "moongate_cache_requests_total",
                                "Requests that the policy cache looked at, by what came of them.",
                                moon_slice(label, (size_t)n));
    }
}

static void gateway_errands_done(void *owner)
{
    moon_gateway_settle(owner);
}

void moon_gateway_init(struct moon_gateway *gateway, const struct moon_script_env *env,
                       struct moon_board *board, struct moon_tls_tickets *tickets)
{
    memset(gateway, 0, sizeof(*gateway));
    gateway->env = *env;
    gateway->errands = (struct moon_errands){.on_done = gateway_errands_done, .owner = gateway};
    gateway->board = board;
    gateway->tickets = tickets;
    moon_list_init(&gateway->sessions);
    moon_list_init(&gateway->proxied);
    moon_list_init(&gateway->exchange_pool);
    moon_list_init(&gateway->renewals);
    moon_list_init(&gateway->mirrors);
    moon_random_bytes(&gateway->id_salt, sizeof(gateway->id_salt));
    gateway->addresses = moon_addresses_new();
    MOON_ASSERT(gateway->addresses != NULL);
    gateway_make_metrics(gateway);
    moon_admission_init(gateway);
}

void moon_gateway_fini(struct moon_gateway *gateway)
{
    gateway->on_drained = NULL;
    for (size_t i = 0; i < gateway->listener_count; i++)
        moon_acceptor_free(gateway->listeners[i].acceptor);
    moon_proxied_clear(gateway, NULL);
    MOON_LIST_EACH(at, after, &gateway->sessions)
    moon_session_kill(MOON_LIST_ENTRY(at, struct moon_session, link));
    moon_cache_end_renewals(gateway);
    moon_mirror_end_all(gateway);
    moon_script_end_sends(gateway->env.loop);
    moon_generation_release(gateway->generation);
    gateway->generation = NULL;
    moon_exchange_trim(gateway);
    moon_addresses_free(gateway->addresses);
    moon_access_log_free(gateway->access_log);
}

void moon_gateway_flip(struct moon_gateway *gateway, struct moon_generation *generation)
{
    struct moon_generation *old = gateway->generation;
    const struct moon_plan *plan = generation->plan;
    gateway->generation = generation;
    moon_dns_configure(gateway->env.dns, plan->dns_servers, plan->dns_min_ttl_ms,
                       plan->dns_max_ttl_ms);
    if (gateway->env.slot != NULL)
        atomic_store_explicit(&gateway->env.slot->generation, generation->number,
                              memory_order_relaxed);
    for (size_t i = 0; old != NULL && i < old->plan->backend_count; i++)
        moon_backend_drain(old->backends[i], plan->backends, plan->backend_count);
    moon_generation_release(old);
}

void moon_gateway_accept(struct moon_gateway_listener *listener, int fd,
                         const struct sockaddr *peer)
{
    struct moon_gateway *gateway = listener->gateway;
    if (!listener->is_management && !moon_admission_has_room(gateway, peer)) {
        (void)close(fd);
        return;
    }
    if (moon_proxied_is_expected(listener, peer))
        moon_proxied_new(listener, fd, peer);
    else
        (void)moon_session_new(listener, fd, peer);
}

static void gateway_accepted(void *owner, int fd, const struct sockaddr *peer, socklen_t peer_len)
{
    (void)peer_len;
    moon_gateway_accept(owner, fd, peer);
}

static bool gateway_is_listener_used(const struct moon_gateway *gateway,
                                     const struct moon_gateway_listener *listener)
{
    for (const struct moon_list *at = gateway->sessions.next; at != &gateway->sessions;
         at = at->next) {
        if (MOON_LIST_ENTRY(at, struct moon_session, link)->listener == listener)
            return true;
    }
    return false;
}

// Connections point to their listener: a place is free when the last of them is gone.
static struct moon_gateway_listener *gateway_free_listener(struct moon_gateway *gateway)
{
    for (size_t i = 0; i < gateway->listener_count; i++) {
        struct moon_gateway_listener *listener = &gateway->listeners[i];
        if (listener->fd == -1 && !gateway_is_listener_used(gateway, listener))
            return listener;
    }
    if (gateway->listener_count == MOON_GATEWAY_LISTENERS)
        return NULL;
    return &gateway->listeners[gateway->listener_count++];
}

static void gateway_set_listener(struct moon_gateway_listener *listener, int index)
{
    const struct moon_listener_conf *conf = &listener->gateway->generation->plan->listeners[index];
    listener->index = index;
    listener->is_management = conf->is_management;
    if (!moon_slice_copy_text(conf->address, listener->address, sizeof(listener->address)))
        listener->address[0] = '\0';
}

enum moon_rc moon_gateway_listen(struct moon_gateway *gateway, int index, int fd)
{
    struct moon_gateway_listener *listener = gateway_free_listener(gateway);
    if (listener == NULL)
        return MOON_ERR_LIMIT;
    *listener = (struct moon_gateway_listener){.gateway = gateway, .fd = -1};
    gateway_set_listener(listener, index);
    listener->acceptor = moon_acceptor_new(gateway->env.loop, fd, gateway_accepted, listener);
    if (listener->acceptor == NULL)
        return MOON_ERR_MEMORY;
    listener->fd = fd;
    return MOON_OK;
}

static void gateway_unlisten(struct moon_gateway_listener *listener)
{
    moon_acceptor_free(listener->acceptor);
    listener->acceptor = NULL;
    listener->fd = -1;
    listener->index = -1;
    moon_proxied_clear(listener->gateway, listener); // nothing says how to serve them
    MOON_LIST_EACH(at, after, &listener->gateway->sessions)
    {
        struct moon_session *session = MOON_LIST_ENTRY(at, struct moon_session, link);
        if (session->listener == listener)
            moon_session_drain(session);
    }
}

static struct moon_gateway_listener *gateway_find_listener(struct moon_gateway *gateway, int fd)
{
    for (size_t i = 0; i < gateway->listener_count; i++) {
        if (gateway->listeners[i].fd == fd)
            return &gateway->listeners[i];
    }
    return NULL;
}

void moon_gateway_relisten(struct moon_gateway *gateway, const struct moon_gateway_socket *sockets,
                           size_t count)
{
    for (size_t i = 0; i < gateway->listener_count; i++) {
        struct moon_gateway_listener *listener = &gateway->listeners[i];
        bool is_kept = false;
        for (size_t k = 0; k < count; k++)
            is_kept = is_kept || sockets[k].fd == listener->fd;
        if (listener->fd != -1 && !is_kept)
            gateway_unlisten(listener);
    }
    for (size_t k = 0; k < count; k++) {
        struct moon_gateway_listener *listener = gateway_find_listener(gateway, sockets[k].fd);
        if (listener != NULL)
            gateway_set_listener(listener, sockets[k].index);
        else if (moon_gateway_listen(gateway, sockets[k].index, sockets[k].fd) != MOON_OK)
            moon_log_error("listener %d cannot be served: too many", sockets[k].index + 1);
    }
}

void moon_gateway_drain(struct moon_gateway *gateway)
{
    gateway->is_draining = true;
    if (gateway->env.slot != NULL)
        atomic_store_explicit(&gateway->env.slot->is_draining, 1, memory_order_relaxed);
    for (size_t i = 0; i < gateway->listener_count; i++) {
        moon_acceptor_free(gateway->listeners[i].acceptor);
        gateway->listeners[i].acceptor = NULL;
    }
    moon_proxied_clear(gateway, NULL);
    MOON_LIST_EACH(at, after, &gateway->sessions)
    moon_session_drain(MOON_LIST_ENTRY(at, struct moon_session, link));
    moon_gateway_settle(gateway);
}

void moon_gateway_settle(struct moon_gateway *gateway)
{
    if (gateway->is_draining && gateway->session_count == 0 && gateway->errands.count == 0 &&
        gateway->on_drained != NULL)
        gateway->on_drained(gateway);
}

void moon_gateway_warn_undrained(const struct moon_gateway *gateway)
{
    if (gateway->session_count > 0)
        moon_log_warn("%zu connections are still open after drain_timeout: they are closed",
                      gateway->session_count);
    if (gateway->errands.count > 0)
        moon_log_warn("%zu requests and events of policies, or copies for mirrors, have no answer "
                      "after drain_timeout: they are dropped",
                      gateway->errands.count);
}
