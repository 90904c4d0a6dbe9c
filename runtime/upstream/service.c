/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/service.h"

#include "base/hash.h"
#include "base/log.h"
#include "upstream/probe.h"

enum {
    SERVICE_RECORDS = 64,
    SERVICE_LEAST_MS = 1000,
    SERVICE_MOST_MS = 300 * 1000,
    SERVICE_RETRY_MS = 5000, // after a failed look-up
    SERVICE_ARENA_BYTES = 1 << 20,
};

/// One service name of the backend.
struct service_name {
    struct moon_service *service;
    const struct moon_target_conf *conf;
    struct moon_dns_query *query;
    struct moon_timer timer;
    struct moon_dns_srv *records;
    size_t count;
    bool is_answered; // once, be it that there is none
};

struct moon_service {
    struct moon_backend *backend;
    struct moon_list waiting; // struct moon_waiter of calls
    uint64_t set;             // hash of the members' names
    size_t count;
    struct service_name names[];
};

static bool service_is_known(const struct moon_service *service)
{
    for (size_t i = 0; i < service->count; i++) {
        if (!service->names[i].is_answered)
            return false;
    }
    return true;
}

static bool service_conf(struct moon_arena *arena, const struct service_name *name,
                         const struct moon_dns_srv *record, struct moon_target_conf *out)
{
    *out = *name->conf;
    out->is_srv = false;
    out->port = record->port;
    out->priority = name->conf->priority + record->priority;
    out->weight = name->conf->weight == 0 ? 0 : record->weight > 0 ? record->weight : 1;
    out->identity = moon_arena_printf(arena, "%s://%s:%d", out->is_tls ? "https" : "http",
                                      record->target, record->port);
    out->url = out->identity;
    out->authority = moon_slice_from(out->identity, out->is_tls ? 8 : 7);
    return out->identity.len > 0 &&
           moon_arena_copy(arena, moon_slice_text(record->target), &out->host);
}

// The targets of the configuration that are no names, and those that the names stand for.
static size_t service_fill(struct moon_service *service, struct moon_arena *arena,
                           struct moon_target_conf *confs, uint64_t *set)
{
    const struct moon_backend_conf *conf = service->backend->conf;
    size_t n = 0;
    *set = 1;
    for (size_t i = 0; i < conf->target_count; i++) {
        if (!conf->targets[i].is_srv)
            confs[n++] = conf->targets[i];
    }
    for (size_t k = 0; k < service->count; k++) {
        const struct service_name *name = &service->names[k];
        for (size_t i = 0; i < name->count; i++) {
            if (service_conf(arena, name, &name->records[i], &confs[n]))
                n++;
        }
    }
    for (size_t i = 0; i < n; i++)
        *set += moon_hash_mix(moon_hash(confs[i].identity) + (uint64_t)confs[i].weight * 65536 +
                              (uint64_t)confs[i].priority);
    return n;
}

static enum moon_rc service_rebuild(struct moon_service *service)
{
    struct moon_backend *backend = service->backend;
    struct moon_members *members = NULL;
    char error[256];
    uint64_t set;
    struct moon_arena arena;
    size_t most = backend->conf->target_count;
    for (size_t k = 0; k < service->count; k++)
        most += service->names[k].count;
    moon_arena_init(&arena, SERVICE_ARENA_BYTES);
    struct moon_target_conf *confs = moon_arena_zalloc(&arena, (most + 1) * sizeof(*confs));
    size_t n = confs == NULL ? 0 : service_fill(service, &arena, confs, &set);
    if (confs != NULL && set == service->set) {
        moon_arena_reset(&arena);
        return MOON_OK;
    }
    enum moon_rc rc =
        confs == NULL ? MOON_ERR_MEMORY
                      : moon_members_new(backend, confs, n, &arena, error, sizeof(error), &members);
    if (rc != MOON_OK) {
        moon_arena_reset(&arena);
        return rc;
    }
    struct moon_members *old = backend->members;
    backend->members = members;
    service->set = set;
    if (old != NULL)
        moon_log_info("backend %.*s has %zu targets now", MOON_SLICE_ARG(backend->conf->name), n);
    moon_probe_refresh(backend);
    moon_members_release(old);
    return MOON_OK;
}

static void service_wake(struct moon_service *service)
{
    struct moon_list ready;
    moon_list_init(&ready);
    while (service_is_known(service) && !moon_list_is_empty(&service->waiting)) {
        struct moon_list *first = service->waiting.next;
        moon_list_remove(first);
        moon_list_push_back(&ready, first);
    }
    while (!moon_list_is_empty(&ready)) {
        struct moon_waiter *waiter = MOON_LIST_ENTRY(ready.next, struct moon_waiter, link);
        moon_list_remove(&waiter->link);
        moon_call_prepared(MOON_CONTAINER_OF(waiter, struct moon_call, waiter), MOON_OK);
    }
}

static void service_answered(void *owner, enum moon_rc rc, const struct moon_dns_srv *records,
                             size_t count, int64_t ttl_ms)
{
    struct service_name *name = owner;
    struct moon_service *service = name->service;
    name->query = NULL;
    name->is_answered = true;
    count = moon_min_size(count, SERVICE_RECORDS);
    struct moon_dns_srv *copy = rc == MOON_OK ? calloc(count + 1, sizeof(*copy)) : NULL;
    if (copy != NULL && count > 0) {
        memcpy(copy, records, count * sizeof(*copy));
        free(name->records);
        name->records = copy;
        name->count = count;
    } else {
        free(copy); // what was known stays
        ttl_ms = SERVICE_RETRY_MS;
        moon_log_warn("backend %.*s: no SRV records of %.*s",
                      MOON_SLICE_ARG(service->backend->conf->name),
                      MOON_SLICE_ARG(name->conf->host));
    }
    ttl_ms = ttl_ms < SERVICE_LEAST_MS ? SERVICE_LEAST_MS : ttl_ms;
    moon_timer_set(&name->timer, ttl_ms > SERVICE_MOST_MS ? SERVICE_MOST_MS : ttl_ms);
    if (service_rebuild(service) != MOON_OK)
        moon_log_error("backend %.*s: no memory for its targets",
                       MOON_SLICE_ARG(service->backend->conf->name));
    service_wake(service);
}

static void service_ask(struct moon_timer *timer)
{
    struct service_name *name = timer->owner;
    enum moon_rc rc = moon_dns_resolve_srv(name->service->backend->upstreams->dns, name->conf->host,
                                           service_answered, name, &name->query);
    if (rc != MOON_OK && rc != MOON_AGAIN)
        moon_timer_set(timer, SERVICE_RETRY_MS);
}

enum moon_rc moon_service_start(struct moon_backend *backend)
{
    const struct moon_backend_conf *conf = backend->conf;
    size_t count = 0;
    for (size_t i = 0; i < conf->target_count; i++)
        count += conf->targets[i].is_srv ? 1 : 0;
    if (count == 0)
        return MOON_OK;
    struct moon_service *service = calloc(1, sizeof(*service) + count * sizeof(service->names[0]));
    if (service == NULL)
        return MOON_ERR_MEMORY;
    service->backend = backend;
    moon_list_init(&service->waiting);
    backend->service = service;
    for (size_t i = 0; i < conf->target_count; i++) {
        if (!conf->targets[i].is_srv)
            continue;
        struct service_name *name = &service->names[service->count++];
        name->service = service;
        name->conf = &conf->targets[i];
        moon_timer_init(&name->timer, backend->upstreams->loop, service_ask, name);
        moon_timer_set(&name->timer, 1);
    }
    return service_rebuild(service);
}

void moon_service_stop(struct moon_backend *backend)
{
    struct moon_service *service = backend->service;
    if (service == NULL)
        return;
    for (size_t i = 0; i < service->count; i++) {
        moon_timer_stop(&service->names[i].timer);
        if (service->names[i].query != NULL)
            moon_dns_cancel(service->names[i].query);
        free(service->names[i].records);
    }
    free(service);
    backend->service = NULL;
}

enum moon_rc moon_service_wait(struct moon_service *service, struct moon_call *call)
{
    if (service_is_known(service))
        return MOON_OK;
    moon_list_push_back(&service->waiting, &call->waiter.link);
    return MOON_AGAIN;
}
