/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/client.h"

void moon_client_init(struct moon_client *client, int fd, const struct sockaddr *peer)
{
    struct sockaddr_storage local = {0};
    socklen_t len = sizeof(local);
    client->peer_ip = client->ip = moon_ip_from_sockaddr(peer, &client->port);
    client->is_unix = peer->sa_family == AF_UNIX;
    if (client->is_unix) {
        client->ip_len = (size_t)snprintf(client->ip_text, sizeof(client->ip_text), "unix");
        return;
    }
    client->ip_len = moon_ip_format(&client->ip, client->ip_text);
    if (getsockname(fd, (struct sockaddr *)&local, &len) == 0)
        client->server_ip =
            moon_ip_from_sockaddr((const struct sockaddr *)&local, &client->server_port);
}

bool moon_client_is_trusted(const struct moon_plan *plan, const struct sockaddr *peer)
{
    uint16_t port;
    if (peer->sa_family == AF_UNIX)
        return plan->trusts_unix;
    struct moon_ip ip = moon_ip_from_sockaddr(peer, &port);
    return plan->trusted_proxies != NULL && moon_ipset_has(plan->trusted_proxies, &ip);
}

// The last element of a comma-separated list; the list is shortened by it.
static struct moon_slice client_last_element(struct moon_slice *list)
{
    size_t at = list->len;
    while (at > 0 && list->data[at - 1] != ',')
        at--;
    struct moon_slice last = moon_slice_trim(moon_slice_from(*list, at));
    list->len = at > 0 ? at - 1 : 0;
    return last;
}

// An address, with or without a port behind it.
static bool client_parse(struct moon_slice text, struct moon_ip *ip)
{
    if (moon_ip_parse(text, ip))
        return true;
    size_t colon = text.len;
    while (colon > 0 && text.data[colon - 1] != ':')
        colon--;
    return colon > 1 && moon_ip_parse(moon_slice(text.data, colon - 1), ip);
}

void moon_client_forwarded(struct moon_exchange *x)
{
    const struct moon_ipset *trusted = x->generation->plan->trusted_proxies;
    struct moon_slice list = moon_fields_joined(&x->request.fields, MOON_S("X-Forwarded-For"));
    struct moon_client *client = moon_arena_alloc(&x->arena, sizeof(*client));
    if (client == NULL)
        return;
    *client = *x->client;
    while (list.len > 0) {
        struct moon_ip ip;
        if (!client_parse(client_last_element(&list), &ip))
            break; // what stands before it cannot be believed
        client->ip = ip;
        client->ip_len = moon_ip_format(&ip, client->ip_text);
        if (trusted == NULL || !moon_ipset_has(trusted, &ip))
            break;
    }
    x->client = client;
    x->ctx.client = client;
}
