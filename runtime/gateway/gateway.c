/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway.h"

#include "base/hash.h"
#include "base/log.h"
#include "gateway/access_log.h"
#include "gateway/session.h"

#include <unistd.h>

static void gateway_make_metrics(struct moon_gateway *gateway)
{
    struct moon_metrics *metrics = gateway->env.metrics;
    struct moon_slice none = {"", 0};
    gateway->metrics = (struct moon_gateway_metrics){
        .connections = moon_metrics_series(metrics, MOON_METRIC_COUNTER,
                                           "moongate_connections_total",
                                           "Client connections accepted.", none),
        .bytes_in = moon_metrics_series(metrics, MOON_METRIC_COUNTER,
                                        "moongate_request_body_bytes_total",
                                        "Bytes of request bodies.", none),
        .bytes_out = moon_metrics_series(metrics, MOON_METRIC_COUNTER,
                                         "moongate_response_body_bytes_total",
                                         "Bytes of response bodies.", none),
        .refused = moon_metrics_series(metrics, MOON_METRIC_COUNTER,
                                       "moongate_connections_refused_total",
                                       "Connections closed at once: over a limit.", none),
    };
}

void moon_gateway_init(struct moon_gateway *gateway, const struct moon_script_env *env,
                       struct moon_board *board, struct moon_tls_tickets *tickets)
{
    memset(gateway, 0, sizeof(*gateway));
    gateway->env = *env;
    gateway->board = board;
    gateway->tickets = tickets;
    moon_list_init(&gateway->sessions);
    moon_list_init(&gateway->exchange_pool);
    moon_random_bytes(&gateway->id_salt, sizeof(gateway->id_salt));
    gateway_make_metrics(gateway);
}

void moon_gateway_fini(struct moon_gateway *gateway)
{
    gateway->on_drained = NULL;
    for (size_t i = 0; i < gateway->listener_count; i++)
        moon_acceptor_free(gateway->listeners[i].acceptor);
    MOON_LIST_EACH(at, after, &gateway->sessions)
    moon_session_kill(MOON_LIST_ENTRY(at, struct moon_session, link));
    moon_generation_release(gateway->generation);
    gateway->generation = NULL;
    moon_exchange_trim(gateway);
    moon_access_log_free(gateway->access_log);
}

void moon_gateway_flip(struct moon_gateway *gateway, struct moon_generation *generation)
{
    struct moon_generation *old = gateway->generation;
    gateway->generation = generation;
    if (gateway->env.slot != NULL)
        atomic_store_explicit(&gateway->env.slot->generation, generation->number,
                              memory_order_relaxed);
    moon_generation_release(old);
}

void moon_gateway_accept(struct moon_gateway_listener *listener, int fd,
                         const struct sockaddr *peer)
{
    struct moon_gateway *gateway = listener->gateway;
    size_t most = gateway->generation->plan->limits.connections;
    if (!listener->is_management && most > 0 && gateway->session_count >= most) {
        moon_metrics_add(gateway->env.metrics, gateway->metrics.refused, 1);
        (void)close(fd);
        return;
    }
    (void)moon_session_new(listener, fd, peer);
}

static void gateway_accepted(void *owner, int fd, const struct sockaddr *peer, socklen_t peer_len)
{
    (void)peer_len;
    moon_gateway_accept(owner, fd, peer);
}

enum moon_rc moon_gateway_listen(struct moon_gateway *gateway, int index, int fd)
{
    if (gateway->listener_count == MOON_GATEWAY_LISTENERS)
        return MOON_ERR_LIMIT;
    const struct moon_listener_conf *conf = &gateway->generation->plan->listeners[index];
    struct moon_gateway_listener *listener = &gateway->listeners[gateway->listener_count];
    *listener = (struct moon_gateway_listener){
        .gateway = gateway, .fd = fd, .index = index, .is_management = conf->is_management};
    if (!moon_slice_copy_text(conf->address, listener->address, sizeof(listener->address)))
        return MOON_ERR_CONFIG;
    listener->acceptor = moon_acceptor_new(gateway->env.loop, fd, gateway_accepted, listener);
    if (listener->acceptor == NULL)
        return MOON_ERR_MEMORY;
    gateway->listener_count++;
    return MOON_OK;
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
    MOON_LIST_EACH(at, after, &gateway->sessions)
    moon_session_drain(MOON_LIST_ENTRY(at, struct moon_session, link));
    if (gateway->session_count == 0 && gateway->on_drained != NULL)
        gateway->on_drained(gateway);
}
